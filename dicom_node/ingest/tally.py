"""Counts what is received, and passes it on now and then: the measures' own way costs too much for each object."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Final

from dicom_node import measures

_EVERY_S: Final = 1.0


class Tally:
    """Objects by outcome, and bytes stored."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._bytes = 0
        self._told_at = time.monotonic()
        self._lock = threading.Lock()

    def count(self, outcome: str, size: int = 0) -> None:
        with self._lock:
            self._outcomes[outcome] += 1
            self._bytes += size
        if time.monotonic() - self._told_at > _EVERY_S:
            self.tell()

    def tell(self) -> None:
        with self._lock:
            outcomes, size = self._outcomes, self._bytes
            self._outcomes, self._bytes, self._told_at = Counter(), 0, time.monotonic()
        for outcome, number in outcomes.items():
            measures.count(measures.INSTANCES, number, outcome=outcome)
        if size:
            measures.count(measures.BYTES_RECEIVED, size)
