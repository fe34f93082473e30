"""When a delivery that failed is tried again, and when no more."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from dicom_node.delivery.breaker import BreakerPolicy


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits double from ``first_s`` to ``longest_s`` until ``give_up_s`` have passed since the first failure.

    ``lease_s``: how long after a process went silent another one takes its deliveries; it renews them while it sends.
    ``patience_s``: longer than any one document can take; then they are renewed no more.
    """

    first_s: float = 5
    longest_s: float = 1800
    give_up_s: float = 72 * 3600
    poll_s: float = 0.25
    lease_s: float = 30
    patience_s: float = 120
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)

    def wait_s(self, attempts: int) -> float:
        """Seconds before the next attempt, with up to 10 % of jitter so that peers are not stormed in step."""
        return float(min(self.first_s * 2 ** min(attempts - 1, 32), self.longest_s) * random.uniform(0.9, 1.1))
