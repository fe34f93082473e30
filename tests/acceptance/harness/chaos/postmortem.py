"""What is printed when the invariant does not hold: enough to repeat the run and to see what became of the study.

No patient data: studies and images are named by the ends of their UIDs, which the harness drew.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dicom_node.storage.events import list_events

from .faults import Fault
from .found import Found
from .site import Site
from .studies import Told

_MOST = 5  # studies told in full


@dataclass(frozen=True, slots=True)
class Violation:
    """A study of which the invariant does not hold. ``timeline``: seconds since 1970 and what happened to it, and around it."""

    study_uid: str
    faults: tuple[str, ...]
    timeline: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, here: Site, study: Found, faults: Sequence[str], told: Told) -> Violation:
        around = [(at, what) for at, uid, what in told.lines if uid in ("", study.study_uid)]
        return cls(study.study_uid, tuple(faults), tuple(sorted([*around, *_rows(study), *_events(here, study)])))


def _rows(study: Found) -> Iterable[tuple[float, str]]:
    for row in study.instances:
        yield row.received_at, f"image …{row.sop_uid[-8:]} from {row.calling_ae} stored (copy {row.copy})"
    for document in study.documents:
        yield document.created_at, f"{document.kind} of revision {document.revision} made: {document.uid}"
    for job in study.jobs:
        what = f"job {job.id} {job.kind} {job.queue} {job.idempotency_key.rpartition(':')[0][-24:]}"
        yield job.created_at, f"{what} queued"
        if job.first_error_at is not None:
            yield job.first_error_at, f"{what} failed first; at last: {job.last_error}"
        if job.done_at is not None:
            yield job.done_at, f"{what} is {job.state} after {job.attempts} attempts"


def _events(here: Site, study: Found) -> Iterable[tuple[float, str]]:
    with here.database.read() as conn:
        for event in list_events(conn, limit=10_000):
            if event.study_uid == study.study_uid:
                yield event.at, f"{event.severity} {event.kind}: {event.text}"


def explain(seed: int, faults: Sequence[Fault], violations: Sequence[Violation]) -> str:
    """A page for a person."""
    lines = [f"The invariant does not hold of {len(violations)} studies. Seed {seed}. The schedule:"]
    lines += [f"  {fault}" for fault in faults]
    for one in violations[:_MOST]:
        lines += ["", f"Study …{one.study_uid[-12:]}:", *(f"  WRONG: {fault}" for fault in one.faults)]
        lines += [f"  {_clock(at)}  {what}" for at, what in one.timeline]
    return "\n".join([*lines, *([f"\n… and {len(violations) - _MOST} more studies"] if len(violations) > _MOST else [])])


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) + f"{at % 1:.3f}"[1:]
