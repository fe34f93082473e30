"""Keep pydicom's remarks about odd files from surfacing.

pydicom warns about every liberty a file takes, and its messages may quote element values, hence patient data. What a file's
oddity means for us is decided here, by rendering it or by a ``PixelError``; the remark itself is dropped.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_REMARKING_MODULES = r"(pydicom|PIL)(\.|$)"


class _Silence:
    """Ignores the remarks while at least one thread is inside.

    ``warnings.catch_warnings`` swaps interpreter-wide state, so overlapping use by threads could restore a stale filter list:
    only the first thread in and the last one out touch it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=_REMARKING_MODULES)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)
                self._saved = None


_silence = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of pydicom or Pillow inside; safe to nest and to use from several threads."""
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()
