"""One run of chaos: studies stream in, faults strike by their schedule, then all is mended and the invariant must come true."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicom_node.errors import StorageError
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import JobState

from .faults import PERMANENT, Fault, FaultKind, schedule
from .found import Found, gather
from .invariant import check
from .postmortem import Violation, explain
from .site import Plan, Site, site
from .strike import STRIKES, possible
from .studies import Sender, Told, stream

PUZZLED: Final = frozenset({"pacs"})  # the destination that may say "never"


@dataclass(frozen=True, slots=True)
class Wish:
    """``seconds``: how long faults strike, one ``every_s``. ``kinds``: of faults; None for all that can be made here.

    ``patience_s``: after the last fault, until the invariant must hold; the longest wait of the scaled node is a second.
    """

    seed: int
    seconds: float
    plan: Plan = field(default_factory=Plan)
    kinds: Collection[FaultKind] | None = None
    per_second: float = 0.8
    every_s: float = 2.5
    patience_s: float = 90.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Times in seconds; ``left_out``: faults that cannot be made here, and why."""

    wish: Wish
    faults: tuple[Fault, ...]
    left_out: dict[str, str]
    studies: int
    images: int
    revisions: int
    documents: int
    dead: int
    settled_s: float
    starts: dict[str, int]
    violations: tuple[Violation, ...]
    found: tuple[Found, ...]

    @property
    def text(self) -> str:
        """The post-mortem; empty where nothing is wrong."""
        return explain(self.wish.seed, self.faults, self.violations) if self.violations else ""


def run(folder: Path, wish: Wish) -> Outcome:
    """Raises TimeoutError where the site itself cannot be started."""
    films = stream(wish.seed, wish.seconds, folder / "films", wish.per_second)
    with site(folder / "site", wish.plan) as here:
        left_out = {str(kind): why for kind, why in possible(here.data, here.shared is not None).items() if why}
        kinds = [kind for kind in wish.kinds or FaultKind if str(kind) not in left_out]
        faults = schedule(wish.seed, wish.seconds, kinds, len(here.machines), wish.every_s)
        sender = Sender([machine.wire.port for machine in here.machines], threading.Event())
        with _striking(here, faults, sender.told):
            sender.run(films)
        mended = time.monotonic()
        studies, broken = _settled(here, sender.told, _excused(faults), wish.patience_s)
        violations = tuple(Violation.of(here, one, told, sender.told) for one, told in broken)
        return Outcome(
            wish=wish,
            faults=faults,
            left_out=left_out,
            studies=len(studies),
            images=sum(len(one.acknowledged) for one in studies),
            revisions=sum(one.row.revision for one in studies if one.row),
            documents=sum(len(one.documents) for one in studies),
            dead=sum(job.state is JobState.DEAD for one in studies for job in one.jobs),
            settled_s=round(time.monotonic() - mended, 1),
            starts={f"{m.number + 1} {unit.name}": unit.starts for m in here.machines for unit in m.units.values()},
            violations=violations,
            found=tuple(studies),
        )


def _excused(faults: Collection[Fault]) -> frozenset[str]:
    """Destinations that said "never" to something, by the schedule."""
    return PUZZLED if any(fault.kind in PERMANENT for fault in faults) else frozenset()


@contextmanager
def _striking(here: Site, faults: Collection[Fault], told: Told) -> Iterator[None]:
    """Faults begin and end at their times in a thread; at the end of the body all that is left is waited for and mended."""
    crash: list[BaseException] = []
    thread = threading.Thread(target=_strike_all, args=(here, faults, told, crash), name="chaos")
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if crash:
        raise crash[0]


def _strike_all(here: Site, faults: Collection[Fault], told: Told, crash: list[BaseException]) -> None:
    started = time.monotonic()
    acts = [(fault.at_s, True, fault) for fault in faults] + [(fault.at_s + fault.lasts_s, False, fault) for fault in faults]
    mends = {}
    try:
        for at, begins, fault in sorted(acts, key=lambda act: (act[0], act[1])):
            time.sleep(max(0.0, started + at - time.monotonic()))
            told.note("", f"{'fault' if begins else 'mended'}: {fault.kind} (machine {fault.machine + 1})")
            if begins:
                mends[fault] = STRIKES[fault.kind](here, fault)
            else:
                mends.pop(fault)()
    except BaseException as error:  # noqa: BLE001  told by the thread that waits for this one
        crash.append(error)
    finally:
        for mend in mends.values():
            mend()


def _settled(
    here: Site, told: Told, excused: Collection[str], patience_s: float
) -> tuple[list[Found], list[tuple[Found, list[str]]]]:
    """All studies, and those of which the invariant does not hold after ``patience_s``, with what is wrong."""
    end = time.monotonic() + patience_s
    while True:
        rest = _unfinished(here)
        if not rest or time.monotonic() > end:
            studies = gather(here, told.acknowledged)
            broken = [(one, faults) for one in studies if (faults := check(one, excused))]
            if not broken or time.monotonic() > end:
                return studies, broken
        time.sleep(0.5)


def _unfinished(here: Site) -> int:
    try:
        return sum(one.count for one in count_jobs(here.database) if one.state not in (JobState.DONE, JobState.DEAD))
    except StorageError:
        return -1
