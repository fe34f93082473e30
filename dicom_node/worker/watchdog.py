"""What hangs cannot be stopped from within: a step that passes its limit ends the process, and another takes its place."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from dicom_node.storage.jobs import Job

STATUS: Final = 70  # of the process that was ended (EX_SOFTWARE, sysexits.h)
_LOOK_S: Final = 0.5
_TELLING_S: Final = 5.0  # the database may be what hangs
_BACKSTOP: Final = 1.25  # of the limit: when Python itself no longer runs, the C library ends the process
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done, for which studies, and until when (``time.monotonic``)."""

    what: str
    jobs: tuple[Job, ...]
    limit_s: float
    end: float


class Watchdog:
    """``tell``: called once with the step that hangs, before the process ends."""

    def __init__(self, tell: Callable[[Step], None], leave: Callable[[int], None] = os._exit) -> None:
        self._tell, self._leave = tell, leave
        self._lock = threading.Lock()
        self._steps: dict[object, Step] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watching(self, what: str, jobs: Sequence[Job], limit_s: float, *, backstop: bool = False) -> Iterator[None]:
        """The body may take ``limit_s``. ``backstop``: also where it never lets Python run; for one thread only."""
        token = object()
        with self._lock:
            self._steps[token] = Step(what, tuple(jobs), limit_s, time.monotonic() + limit_s)
        if backstop:
            faulthandler.dump_traceback_later(_BACKSTOP * limit_s + _TELLING_S, exit=True, file=sys.__stderr__ or sys.stderr)
        try:
            yield
        finally:
            if backstop:
                faulthandler.cancel_dump_traceback_later()
            with self._lock:
                del self._steps[token]

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_S):
            with self._lock:
                late = [step for step in self._steps.values() if time.monotonic() > step.end]
            if late:
                self._end(late[0])
                return

    def _end(self, step: Step) -> None:
        told = {"command": step.what, "seconds": step.limit_s, "count": len(step.jobs), "job": [job.id for job in step.jobs]}
        _log.critical("a step hangs: this worker ends and is replaced", **told)
        teller = threading.Thread(target=self._tell, args=(step,), name="last-words", daemon=True)
        teller.start()
        teller.join(_TELLING_S)
        self._leave(STATUS)
