"""Two machines on one PostgreSQL server and one file root: whatever becomes of one, no study is lost and none doubled.

Each machine is `wetread serve` with process numbers and a host name of its own. The engine is a small one, so that a
process is back within seconds; the last test runs the real models.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_node.storage.jobs import JobKind, JobState, list_jobs
from dicom_node.storage.nodes import list_nodes
from dicom_node.storage.results import results_of
from dicom_node.storage.studies import get_study

from .harness import dcmtk, films
from .harness.chaos.wire import STRAIGHT, Behaviour, Wire
from .harness.machines import LEASE_S, Machine, Share, faults, wait_finished
from .harness.node import wetread
from .harness.peers import Orthanc
from .harness.postgres import Postgres, running
from .harness.processes import free_port, wait_for

SLOW_S = 120.0  # for what takes a few seconds on a machine with nothing else to do


@dataclass(slots=True)
class Site:
    """The machines, what they share, and all studies that were ever acknowledged."""

    one: Machine
    two: Machine
    server: Postgres
    wire: Wire  # between the second machine and the database
    pacs: Orthanc
    archive: Path
    folder: Path
    studies: list[str] = field(default_factory=list)

    def send(self, count: int) -> list[str]:
        """New studies of one film, in turn to each machine; returns when they are acknowledged."""
        made = [films.film(self.folder, len(self.studies) + number) for number in range(count)]
        for machine, share in ((self.one, made[::2]), (self.two, made[1::2])):
            output = dcmtk.dcmsend(machine.port, [path for _, path in share])
            assert dcmtk.accepted(output) == len(share), output.text
        new = [uid for uid, _ in made]
        self.studies.extend(new)
        return new

    def wait_for_reading(self, machine: Machine) -> int:
        """The number of a job that this machine's worker is reading."""

        def leased() -> int:
            found = list_jobs(machine.database, kind=JobKind.READ, state=JobState.LEASED)
            return next((job.id for job in found if job.lease_owner.startswith(f"{machine.folder.name}~")), 0)

        return wait_for(f"{machine.folder.name} to read", leased, seconds=SLOW_S, every=0.02)

    def check(self, seconds: float = SLOW_S) -> float:
        took = wait_finished(self.one.database, self.studies, seconds)
        assert faults(self.one.database, self.studies, self.archive, self.pacs) == {}
        return took


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("machines")
    pacs = Orthanc(folder / "orthanc")
    with running() as server:
        database, wire = server.new_database(), Wire(server.port)
        cabled = str(database.settings["database"]).replace(f":{server.port}/", f":{wire.port}/")
        share = Share(folder / "data", database.settings, database.url)
        beyond = Share(folder / "data", {**database.settings, "database": cabled}, database.url)
        archive = folder / "archive"
        where = {
            "archive": {"kind": "folder", "path": str(archive)},
            "pacs": {"kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom_port, "ae_title": "ORTHANC", "timeout_s": 10},
        }
        one = Machine(folder / "one", share, where, "seconds=0.4", free_port())
        two = Machine(folder / "two", beyond, where, "seconds=0.4", free_port())
        try:
            pacs.start()
            for machine in (one, two):
                machine.start(wait=False)  # both at once: the database is migrated once
            for machine in (one, two):
                wait_for(f"{machine.folder.name} to listen", machine.answers, seconds=SLOW_S)
            yield Site(one, two, server, wire, pacs, archive, folder / "films")
        finally:
            for machine in (one, two):
                machine.end()
            pacs.stop()
            wire.close()


def _both_work(site: Site) -> bool:
    """Whether both machines have all their processes, by what these say of themselves."""
    now = site.one.database.now()
    with site.one.database.read() as conn:
        alive = {(row.host, row.role) for row in list_nodes(conn) if now - row.seen_at < 15}
    return alive >= {(host, role) for host in ("one", "two") for role in ("listen", "work", "deliver")}


@pytest.fixture(autouse=True)
def _whole(site: Site, request: pytest.FixtureRequest) -> None:
    if "real_models" in request.node.name:
        return
    site.wire.behaviour = STRAIGHT
    for machine in (site.one, site.two):
        if not machine.running.alive:
            machine.start()
    wait_for("both machines to be whole", lambda: _both_work(site), seconds=SLOW_S)


def test_both_machines_share_the_work(site: Site) -> None:
    site.send(8)
    site.check()
    owners = {machine.folder.name for machine in (site.one, site.two) if '"read"' in machine.logs}
    assert owners == {"one", "two"}


def test_a_machine_without_power_is_replaced_within_the_lease(site: Site) -> None:
    site.send(8)
    site.wait_for_reading(site.one)
    site.one.running.kill_session()
    took = site.check()
    assert took < SLOW_S / 2
    print(f"all studies finished {took:.1f} s after the machine was lost; the lease is {LEASE_S:g} s")


def test_a_machine_cut_from_the_database_goes_on_when_it_is_back(site: Site) -> None:
    site.send(8)
    site.wait_for_reading(site.two)
    site.wire.behaviour = Behaviour(open=False)
    time.sleep(LEASE_S + 2)
    assert site.two.running.alive
    wait_finished(site.one.database, site.studies, SLOW_S)  # by the other machine alone
    site.wire.behaviour = STRAIGHT
    new = site.send(2)
    site.check()
    assert len(new) == 2


def test_a_machine_that_cannot_reach_the_database_acknowledges_nothing(site: Site, tmp_path: Path) -> None:
    site.wire.behaviour = Behaviour(open=False)
    uid, path = films.film(tmp_path, 99)
    assert dcmtk.accepted(dcmtk.dcmsend(site.two.port, [path])) == 0
    site.wire.behaviour = STRAIGHT
    wait_for("the machine to take it", lambda: dcmtk.accepted(dcmtk.dcmsend(site.two.port, [path])) == 1, seconds=SLOW_S)
    site.studies.append(uid)
    site.check()


def test_a_worker_paused_past_its_lease_may_not_save_what_another_has_read(site: Site) -> None:
    site.send(8)
    worker = site.one.parts()["work"]
    job_id = site.wait_for_reading(site.one)
    os.kill(worker, signal.SIGSTOP)
    try:
        held = next(job for job in list_jobs(site.one.database) if job.id == job_id)
        was_reading = held.state is JobState.LEASED and held.lease_owner.startswith("one~")
        wait_finished(site.one.database, site.studies, SLOW_S)
        with site.one.database.read() as conn:
            before = results_of(conn, held.study_uid)
    finally:
        os.kill(worker, signal.SIGCONT)
    time.sleep(2)
    site.send(4)
    site.check()
    with site.one.database.read() as conn:
        assert results_of(conn, held.study_uid) == before
    if was_reading:
        after = next(job for job in list_jobs(site.one.database) if job.id == job_id)
        assert after.attempts >= 2


def test_a_database_that_crashes_in_the_middle_is_waited_for(site: Site) -> None:
    site.send(8)
    site.wait_for_reading(site.one)
    site.server.crash()
    time.sleep(1)
    site.server.start()
    site.check()
    assert all(machine.running.alive for machine in (site.one, site.two))


def test_the_same_study_sent_to_both_machines_at_once_is_one_study(site: Site, tmp_path: Path) -> None:
    """Each machine gets half of its images at the same time; the first of them makes the study's row."""
    uid, paths = films.scan(tmp_path, 7, slices=6)
    with ThreadPoolExecutor(2) as senders:
        halves = [(site.one.port, paths[::2]), (site.two.port, paths[1::2])]
        outputs = list(senders.map(lambda half: dcmtk.dcmsend(*half), halves))
    assert [dcmtk.accepted(output) for output in outputs] == [3, 3]
    wait_finished(site.one.database, [uid], SLOW_S)
    assert len(site.one.instances(uid)) == 6
    with site.one.database.read() as conn:
        study = get_study(conn, uid)
    assert study is not None
    assert (study.instance_count, study.revision) == (6, len(site.one.results(uid)))


def test_everybody_leaves_in_order(site: Site) -> None:
    """The last of the module: SIGTERM ends both, and their processes are missed no more."""
    listed = wetread("jobs", "list", "--config", site.one.config, "--limit", "5")
    assert listed.returncode == 0, listed.stderr
    assert "0 dead" in listed.stdout
    assert "archive" in listed.stdout
    began = site.one.database.now()
    assert [machine.stop() for machine in (site.one, site.two)] == [0, 0]
    with site.one.database.read() as conn:
        assert [row for row in list_nodes(conn) if row.seen_at > began - 30] == []


def test_with_the_real_models_the_survivor_finishes_what_the_other_had_begun(site: Site, tmp_path: Path) -> None:
    """On a database of its own. The one that is lost has begun all studies and would be long over them."""
    database, archive = site.server.new_database(), tmp_path / "archive"
    share = Share(tmp_path / "data", database.settings, database.url)
    where = {"archive": {"kind": "folder", "path": str(archive)}}
    lost = Machine(tmp_path / "lost", share, where, "seconds=60", free_port())
    survivor = Machine(tmp_path / "survivor", share, where, "models", free_port())
    made = [films.film(tmp_path / "films", number) for number in range(4)]
    try:
        lost.start()
        assert dcmtk.accepted(dcmtk.dcmsend(lost.port, [path for _, path in made])) == 4
        site.wait_for_reading(lost)
        survivor.start()
        lost.running.kill_session()
        wait_finished(survivor.database, [uid for uid, _ in made], 2 * SLOW_S)
        assert faults(survivor.database, [uid for uid, _ in made], archive) == {}
        assert all(result["models"] for uid, _ in made for result in survivor.results(uid))
    finally:
        lost.end()
        survivor.end()
