"""When a pull may work, and how fast: an archive has others to serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from dicom_node.errors import SettingsError
from dicom_node.routing.conditions import Conditions
from dicom_node.routing.facts import StudyFacts

_LOOK_S = 30.0


@dataclass
class Pace:
    """``hours``: spans of local time such as 20:00-06:00 to work in; none: always. ``per_hour``: studies; 0: no limit."""

    hours: tuple[str, ...] = ()
    per_hour: float = 0.0
    now: Callable[[], datetime] = datetime.now
    clock: Callable[[], float] = time.monotonic
    _window: Conditions = field(init=False)
    _next: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        try:
            self._window = Conditions(hours=self.hours)
        except ValueError as error:
            raise SettingsError(f"--hours {', '.join(self.hours)!r}: write a span of local time such as 20:00-06:00") from error

    def open(self) -> bool:
        return self._window.hold(StudyFacts(at=self.now()))

    def wait(self, stop: threading.Event, tell: Callable[[str], None]) -> bool:
        """Wait for the next study's turn; False when ``stop`` was set."""
        told = False
        while not self.open():
            if not told:
                tell(f"waiting for {', '.join(self.hours)}")
                told = True
            if stop.wait(_LOOK_S):
                return False
        wait_s = self._next - self.clock()
        if wait_s > 0 and stop.wait(wait_s):
            return False
        if self.per_hour:
            self._next = max(self.clock(), self._next) + 3600 / self.per_hour
        return not stop.is_set()
