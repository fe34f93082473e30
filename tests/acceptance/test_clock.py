"""The clock of a node's machine is set hours forward and back while studies come and their deliveries fail.

No time that the node writes down is off by it, no process begins the work of one that lives, no delivery is given up or waits
for the hours that never were, and every study ends with one current result at every destination.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Float, select

from dicom_node.storage.database import Database
from dicom_node.storage.job_counts import UNFINISHED
from dicom_node.storage.jobs import Job, JobKind, JobState, list_jobs
from dicom_node.storage.tables import metadata

from .harness.chaos.clock import compiler
from .harness.chaos.found import gather
from .harness.chaos.invariant import check
from .harness.chaos.site import Plan, Site, site
from .harness.chaos.studies import Sender, stream
from .harness.processes import wait_for

AHEAD_S, BEHIND_S = 3 * 3600, -2 * 3600
CREDIBLE = (1e9, 1e12)  # seconds since 1970; durations are below, "never" is above
APART_S = 600.0  # far above what a lease or a wait of this site is


@pytest.mark.parametrize("leaps", [[(AHEAD_S,), (BEHIND_S,)], [(AHEAD_S, BEHIND_S)]], ids=["sqlite", "two-on-postgresql"])
@pytest.mark.timeout(420)
def test_the_node_does_not_go_by_a_clock_that_leaps(leaps: list[tuple[int, ...]], tmp_path: Path) -> None:
    """``leaps``: in turn, of each machine."""
    if not compiler():
        pytest.skip("there is no C compiler to build the clock that leaps with")
    begun = time.time()
    with site(tmp_path / "site", Plan(len(leaps[0]), small_disk=False)) as here:
        sender = Sender([machine.wire.port for machine in here.machines], threading.Event())
        for number, leap in enumerate(leaps):
            _refuse(here, "busy", "full", "refuse")
            _set_clocks(here, leap)
            here.machines[0].strike("work", signal.SIGKILL)  # the next one knows no other clock
            sender.run(stream(number, 3, tmp_path / f"films{number}", per_second=1.0))
            wait_for("deliveries to fail everywhere", lambda: _failing(here.database) >= {"pacs", "record", "ris"}, seconds=120)
            assert not list(_astray(here.database, begun))
            _set_clocks(here, (0,) * len(leap))
            _refuse(here, "", "", "")
            wait_for("all work", lambda: not _unfinished(here.database), seconds=120)
            assert not list(_astray(here.database, begun))
        assert not list_jobs(here.database, state=JobState.DEAD)
        assert all(job.attempts < 40 for job in list_jobs(here.database, limit=1000))
        assert [fault for study in gather(here, sender.told.acknowledged) for fault in check(study)] == []


def _refuse(here: Site, ris: str, pacs: str, record: str) -> None:
    for peer, mode in ((here.ris, ris), (here.pacs, pacs), (here.record, record)):
        peer.mode(mode)


def _set_clocks(here: Site, ahead: tuple[int, ...]) -> None:
    for machine, seconds in zip(here.machines, ahead, strict=True):
        machine.clock.set(seconds)


def _failing(db: Database) -> set[str]:
    return {job.queue for job in _waiting(db) if job.kind is JobKind.DELIVER and job.first_error_at}


def _unfinished(db: Database) -> bool:
    with db.read() as conn:
        dirty = conn.execute(select(metadata.tables["studies"].c.study_uid).where(metadata.tables["studies"].c.dirty)).first()
    return bool(dirty or _waiting(db))


def _waiting(db: Database) -> list[Job]:
    return [job for state in UNFINISHED for job in list_jobs(db, state=state, limit=1000)]


def _astray(db: Database, begun: float) -> Iterator[str]:
    """Times in any table that are not of this run."""
    with db.read() as conn:
        for table in metadata.sorted_tables:
            for column in (one for one in table.columns if isinstance(one.type, Float)):
                for value in conn.execute(select(column).where(column.between(*CREDIBLE)).distinct()).scalars():
                    if not begun - APART_S < value < time.time() + APART_S:
                        yield f"{table.name}.{column.name}: {value - time.time():.0f} s from now"
