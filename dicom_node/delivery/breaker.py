"""A circuit breaker: a destination that fails again and again is left alone for a while, then tried with one delivery."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_JITTER: Final = 0.1  # so that several machines do not storm a peer in step


class BreakerState(StrEnum):
    """How a destination stands."""

    CLOSED = "closed"  # deliveries flow
    OPEN = "open"  # nothing is sent until the wait is over
    HALF_OPEN = "half-open"  # one delivery is being tried


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens after ``failures`` in a row; waits ``first_s``, then twice as long each time, up to ``longest_s``."""

    failures: int = 5
    first_s: float = 5
    longest_s: float = 60


class Breaker:
    """Safe to share between threads. Times are seconds since 1970 UTC, given by the caller."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._trips = 0
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.next_try_at = 0.0

    def permit(self, now: float) -> BreakerState:
        """CLOSED: send. HALF_OPEN: the caller, and nobody else, may try one. OPEN: send nothing."""
        with self._lock:
            if self.state is BreakerState.CLOSED:
                return BreakerState.CLOSED
            if self.state is BreakerState.OPEN and now >= self.next_try_at:
                self.state = BreakerState.HALF_OPEN
                return BreakerState.HALF_OPEN
            return BreakerState.OPEN

    def untried(self) -> None:
        """There was nothing to try: the permit is handed back."""
        with self._lock:
            if self.state is BreakerState.HALF_OPEN:
                self.state = BreakerState.OPEN

    def answered(self) -> bool:
        """The destination answered, be it with a refusal of the object. True where this closes the breaker."""
        with self._lock:
            was, self.state = self.state, BreakerState.CLOSED
            self.failures = self._trips = 0
            return was is not BreakerState.CLOSED

    def failed(self, now: float) -> bool:
        """It did not. True where the breaker opens, or opens again after a trial."""
        with self._lock:
            self.failures += 1
            if self.state is BreakerState.OPEN or self.failures < self._policy.failures:
                return False
            wait = min(self._policy.first_s * 2 ** min(self._trips, 32), self._policy.longest_s)
            self._trips += 1
            self.state, self.next_try_at = BreakerState.OPEN, now + wait * random.uniform(1 - _JITTER, 1 + _JITTER)
            return True
