"""Batches over studies: as large as the device and an urgent study's wait allow; a failure stays with its study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Final, TypeVar

from dicom_node import measures
from inference.errors import DeviceFull, DeviceLost

_GROWS_AFTER: Final = 32  # batches in a row that had room
_SHARE: Final = 0.3  # of the newest batch in the time that a study takes
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class BatchSize:
    """How many studies go through a model at once: ``most``, or as many as take ``seconds``.

    Halved where the device is out of memory; by one larger again after a while.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._room, self._went_well = most, 0
        self._each = 0.0  # seconds that a study takes, lately
        self._lock = Lock()

    @property
    def limit(self) -> int:
        with self._lock:
            in_time = int(self._seconds / self._each) if self._each else self._most
            return max(1, min(self._room, in_time))

    def done(self, count: int, seconds: float) -> None:
        """A batch of ``count`` went through."""
        with self._lock:
            each = seconds / count
            self._each = each if not self._each else self._each + _SHARE * (each - self._each)
            self._went_well += 1
            if self._went_well >= _GROWS_AFTER and self._room < self._most:
                self._room, self._went_well = self._room + 1, 0

    def full(self, count: int) -> None:
        """The device had no room for a batch of ``count``."""
        measures.count(measures.GPU_OOM)
        with self._lock:
            self._room, self._went_well = max(1, min(self._room, count // 2)), 0


def in_batches(
    items: Sequence[_Item], step: Callable[[list[_Item]], Sequence[_Result]], size: BatchSize
) -> Iterator[tuple[_Item, _Result | Exception]]:
    """Each item with its result, or with why it has none: what fails in a batch is tried in its halves, in the end alone.

    Raises DeviceLost: then nothing more can be had.
    """
    left = list(items)
    while left:
        batch = left[: size.limit]
        del left[: len(batch)]
        yield from zip(batch, _tried(batch, step, size), strict=True)


def _tried(items: list[_Item], step: Callable[[list[_Item]], Sequence[_Result]], size: BatchSize) -> list[_Result | Exception]:
    started = time.monotonic()
    try:
        results = step(items)
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001  whatever a study does to the code, the others must be read
        if isinstance(error, DeviceFull):
            size.full(len(items))
        if len(items) == 1:
            return [error]
    else:
        size.done(len(items), time.monotonic() - started)
        return [*results]
    # Only here, past the handler, is the memory free that the failed pass held
    middle = (len(items) + 1) // 2
    return [*_tried(items[:middle], step, size), *_tried(items[middle:], step, size)]
