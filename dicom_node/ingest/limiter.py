"""One record a minute of the same thing: a scanner or a probe that keeps calling must not fill the table of events."""

from __future__ import annotations

import threading
from collections import OrderedDict

INTERVAL_S = 60.0
_MAX_KEYS = 1000


class EventLimiter:
    """Remembers when each key was last let through, of the thousand latest keys."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, key: str, now: float) -> int | None:
        """How many of this key were held back since it was last let through; None when this one is held back too.

        ``now``: seconds of a clock that is never set back.
        """
        with self._lock:
            last, held = self._seen.get(key, (now - self._interval_s, 0))
            if now - last < self._interval_s:
                self._seen[key] = (last, held + 1)
                return None
            self._seen[key] = (now, 0)
            self._seen.move_to_end(key)
            while len(self._seen) > _MAX_KEYS:
                self._seen.popitem(last=False)
            return held
