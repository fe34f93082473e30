"""The threads of a worker: some decode, one owns the models, one saves. Each takes the most urgent study that waits for it.

Decoding of the next studies runs beside the models on the present ones, and saving of the last ones beside both. What waits
while the models are busy becomes their next batch, so that a batch is full under load and nobody waits for one to fill.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

import structlog

from dicom_node.errors import describe
from dicom_node.worker.flight import Flight, Next
from dicom_node.worker.stages import Stages

_PREPARERS: Final = 2  # studies decoded at once, each by several decoder processes
_log = structlog.get_logger()


class _Heap:
    """The most urgent first, then in the order in which they came."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, Flight, Next]] = []
        self._count = 0

    def push(self, flight: Flight, what: Next) -> None:
        heapq.heappush(self._held, (flight.job.priority, self._count, flight, what))
        self._count += 1

    def pop(self) -> tuple[Flight, Next]:
        _, _, flight, what = heapq.heappop(self._held)
        return flight, what

    def pop_alike(self, most: int) -> list[Flight]:
        """The first, and others for the same reading."""
        chosen: list[Flight] = []
        left: list[tuple[int, int, Flight, Next]] = []
        while self._held:
            item = heapq.heappop(self._held)
            alike = not chosen or item[2].name == chosen[0].name
            if alike and len(chosen) < most:
                chosen.append(item[2])
            else:
                left.append(item)
        self._held = left  # sorted, and so a heap
        return chosen

    @property
    def priority(self) -> float:
        """Of the first; of none the last of all."""
        return self._held[0][0] if self._held else math.inf

    def __len__(self) -> int:
        return len(self._held)


class Pipeline(AbstractContextManager["Pipeline"]):
    """Takes studies from their claim to their end. ``ended``: called, in one of its threads, whenever there is more room."""

    def __init__(self, stages: Stages, ended: Callable[[], None] = lambda: None) -> None:
        self._stages, self._ended = stages, ended
        self._changed = threading.Condition()
        self._to_prepare, self._to_triage, self._to_draft, self._to_save = _Heap(), _Heap(), _Heap(), _Heap()
        self._flights: dict[int, Flight] = {}
        self._ahead: set[int] = set()  # not yet through triage
        self._closing = self._model_done = False
        self.fatal: BaseException | None = None
        self.at_work: list[Flight] = []  # what the models were last given
        loops = [*[self._prepare_all] * _PREPARERS, self._model_all, self._save_all]
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=loop.__name__, daemon=True) for loop in loops
        ]

    def __enter__(self) -> Pipeline:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        """Let what has been read be saved, and begin nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, flights: Iterable[Flight]) -> None:
        with self._changed:
            for flight in flights:
                self._flights[flight.job.id] = flight
                self._ahead.add(flight.job.id)
                self._to_prepare.push(flight, Next.TRIAGE)
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until every study that was submitted has ended, or the worker cannot go on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._flights or self.fatal is not None)

    @property
    def flights(self) -> tuple[Flight, ...]:
        """What has not ended."""
        with self._changed:
            return tuple(self._flights.values())

    @property
    def ahead(self) -> int:
        """How many studies have not been through triage."""
        with self._changed:
            return len(self._ahead)

    def _guarded(self, loop: Callable[[], None]) -> None:
        """A thread that ends by a fault would stop the worker in silence: whoever runs it is told."""
        try:
            loop()
        except BaseException as error:  # noqa: BLE001
            _log.critical("the worker cannot go on", error=describe(error))
            with self._changed:
                self.fatal = error
        finally:
            with self._changed:
                self._model_done |= loop == self._model_all
                self._changed.notify_all()
            self._ended()

    def _prepare_all(self) -> None:
        while (found := self._next(self._to_prepare)) is not None:
            flight, _ = found
            self._route([(flight, self._stages.prepare(flight))])

    def _model_all(self) -> None:
        while (step := self._next_step()) is not None:
            self._route(step())

    def _save_all(self) -> None:
        """What has been read is saved, also when the worker is to stop."""
        while (found := self._next(self._to_save, until_read=True)) is not None:
            flight, what = found
            self._route([(flight, self._stages.first(flight) if what is Next.FIRST else self._stages.save(flight))])

    def _next(self, heap: _Heap, *, until_read: bool = False) -> tuple[Flight, Next] | None:
        """The first of ``heap``, as soon as there is one; None where there is to be no more."""
        with self._changed:
            self._changed.wait_for(lambda: len(heap) or self._closing or self.fatal)
            if until_read and not len(heap):
                self._changed.wait_for(lambda: len(heap) or self._model_done)
            over = (self._closing or self.fatal) and not until_read
            return heap.pop() if len(heap) and not over else None

    def _next_step(self) -> Callable[[], list[tuple[Flight, Next]]] | None:
        """Triage before drafts, unless a full batch of drafts waits for nothing more urgent."""
        stages, triages, drafts = self._stages, self._to_triage, self._to_draft
        with self._changed:
            self._changed.wait_for(lambda: len(triages) or len(drafts) or self._closing or self.fatal)
            if self._closing or self.fatal:
                return None
            full = len(drafts) >= stages.draft_size.limit and drafts.priority <= triages.priority
            if len(triages) and not full:
                self.at_work = batch = triages.pop_alike(stages.triage_size.limit)
                return lambda: stages.triage(batch)
            self.at_work = batch = drafts.pop_alike(stages.draft_size.limit)
            return lambda: stages.draft(batch)

    def _route(self, moves: Sequence[tuple[Flight, Next]]) -> None:
        with self._changed:
            for flight, then in moves:
                self._move(flight, then)
            self._changed.notify_all()
        self._ended()

    def _move(self, flight: Flight, then: Next) -> None:
        if then is Next.TRIAGE:
            self._to_triage.push(flight, then)
            return
        self._ahead.discard(flight.job.id)
        if then is Next.END:
            self._flights.pop(flight.job.id, None)
        elif then is Next.DRAFT and not flight.drafting:
            flight.drafting = True
            self._to_draft.push(flight, then)
        elif then is Next.FIRST:
            self._to_save.push(flight, then)
            self._move(flight, Next.DRAFT)
        elif then is Next.SAVE:
            self._to_save.push(flight, then)
