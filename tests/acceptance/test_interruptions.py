"""kill -9 and outages, at moments drawn from a printed seed: nothing is lost, nothing is doubled, nobody is needed.

Set WETREAD_SEED to repeat a run.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_node.storage.jobs import JobKind, JobState

from .conftest import House, destinations, fhir_server
from .harness import dcmtk, films, sr
from .harness.node import Node
from .harness.peers import SENDER, Orthanc
from .harness.processes import require, wait_for

SEED = int(os.environ.get("WETREAD_SEED") or random.SystemRandom().randrange(10**6))


@dataclass(frozen=True, slots=True)
class Site(House):
    """A house whose power fails and whose PACS is not always there."""

    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    studies: list[str] = field(default_factory=list)  # all that were ever acknowledged

    def films(self, folder: Path, count: int) -> list[Path]:
        """New studies, each of one film."""
        made = [films.film(folder, self.chance.randrange(1000), number=1) for _ in range(count)]
        self.studies.extend(uid for uid, _ in made)
        return [path for _, path in made]

    def send(self, paths: list[Path]) -> None:
        output = dcmtk.dcmsend(self.node.port, paths)
        assert dcmtk.accepted(output) == len(paths), output.text

    def power_fails(self, *, whole: bool) -> None:
        """SIGKILL to the node: to all its processes, or to the first alone."""
        if whole:
            self.node.running.kill_session()
        else:
            self.node.running.kill()

    def wait_for_job(self, what: str, studies: list[str], kind: JobKind, states: set[JobState], queue: str = "") -> None:
        wait_for(
            what,
            lambda: any(
                job.state in states and queue in ("", job.queue) for uid in studies for job in self.node.jobs(uid, kind)
            ),
            seconds=120,
            every=0.02,
        )

    def check_one_set_each(self) -> None:
        """Exactly one set of results of every study, everywhere."""
        self.node.wait_settled(self.studies)
        wrong = {}
        for uid in self.studies:
            reports = [s.dataset for s in self.pacs.instances(uid, "SR") if sr.is_ours(s.dataset)]
            found = {
                "SR": sorted(str(report.SOPClassUID) for report in reports),
                "FHIR": self.in_record(uid),
                "results": len(self.node.results(uid)),
                "files": len([p for p in self.archive.iterdir() if any(d.uid in p.name for d in self.node.documents(uid))]),
                "not done": [(j.kind, j.queue, j.state, j.last_error) for j in self.node.jobs(uid) if j.state != "done"],
            }
            once = None if self.fhir is None else 1
            if found != {"SR": sorted([sr.FINDINGS, sr.DRAFT]), "FHIR": once, "results": 1, "files": 3, "not done": []}:
                wrong[uid] = found
        assert wrong == {}, f"seed {SEED}"
        if self.fhir is not None:
            assert len(self.fhir.all("DiagnosticReport")) == len(self.studies), f"seed {SEED}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    print(f"seed {SEED}")
    folder = tmp_path_factory.mktemp("site")
    pacs = Orthanc(folder / "orthanc")
    fhir, why = fhir_server(folder / "fhir")
    node = Node(folder / "node", destinations(pacs, fhir, folder / "archive"))
    try:
        pacs.start()
        node.start()
        node.wait_until_working()
        yield Site(node, pacs, fhir, folder / "archive", why)
        assert node.stop() == 0
    finally:
        node.end()
        pacs.stop()
        if fhir is not None:
            fhir.stop()


@pytest.fixture(autouse=True)
def _seed_is_told() -> None:
    print(f"seed {SEED}")


def test_a_destination_that_is_down_blocks_no_other(site: Site, tmp_path: Path) -> None:
    site.pacs.stop()
    paths = site.films(tmp_path, 2)
    new = site.studies[-2:]
    site.send(paths)
    site.node.wait_settled(new, without=["pacs"], seconds=120)
    assert all(site.in_record(uid) in (1, None) for uid in new)
    assert len(list(site.archive.glob("*.json"))) == 2
    waiting = [job for uid in new for job in site.node.jobs(uid) if job.queue == "pacs"]
    assert len(waiting) == 4
    assert all(job.state is not JobState.DEAD for job in waiting)
    site.wait_for_job("a reason for the wait", new, JobKind.DELIVER, {JobState.QUEUED, JobState.LEASED}, "pacs")
    site.pacs.start()
    site.check_one_set_each()


def test_killed_right_after_the_last_acknowledgement(site: Site, tmp_path: Path) -> None:
    site.send(site.films(tmp_path, 3))
    site.power_fails(whole=True)
    site.node.start()
    site.check_one_set_each()


def test_killed_while_the_worker_reads(site: Site, tmp_path: Path) -> None:
    site.node.wait_until_working()
    site.send(site.films(tmp_path, 3))
    site.wait_for_job("a reading in progress", site.studies[-3:], JobKind.READ, {JobState.LEASED})
    time.sleep(site.chance.uniform(0, 0.3))
    site.power_fails(whole=False)  # the children must see that they are orphans, and give way
    site.node.start()
    site.check_one_set_each()


def test_killed_while_delivering_to_a_pacs_that_is_down(site: Site, tmp_path: Path) -> None:
    site.node.wait_until_working()
    site.pacs.stop()
    site.send(site.films(tmp_path, 2))
    site.wait_for_job("a delivery", site.studies[-2:], JobKind.DELIVER, {JobState.LEASED, JobState.QUEUED}, "pacs")
    time.sleep(site.chance.uniform(0, 1))
    site.power_fails(whole=True)
    site.pacs.start()
    site.node.start()
    site.check_one_set_each()


def test_killed_while_it_receives_and_the_sender_sends_all_again(site: Site, tmp_path: Path) -> None:
    paths = site.films(tmp_path, 6)
    command = [
        require("storescu", "dcmtk"),
        "-aet",
        SENDER,
        "-aec",
        "WETREAD",
        "127.0.0.1",
        str(site.node.port),
        *map(str, paths),
    ]
    sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(site.chance.uniform(0.02, 0.3))
    site.power_fails(whole=True)
    sender.wait(60)
    site.node.start()
    site.send(paths)
    site.check_one_set_each()


def test_killed_at_a_moment_of_chance(site: Site, tmp_path: Path) -> None:
    site.node.wait_until_working()
    site.send(site.films(tmp_path, 4))
    wait = site.chance.uniform(0, 6)
    time.sleep(wait)
    print(f"killed after {wait:.2f} s")
    site.power_fails(whole=site.chance.random() < 0.5)
    site.node.start()
    site.check_one_set_each()


@pytest.mark.parametrize("part", ["work", "deliver"])
def test_a_part_that_is_killed_is_replaced(site: Site, part: str, tmp_path: Path) -> None:
    before = site.node.wait_until_working()
    os.kill(before[part], 9)
    site.send(site.films(tmp_path, 1))
    site.check_one_set_each()
    after = wait_for("the part to be back", site.node.whole, seconds=60)
    assert after["serve"] == before["serve"]
    assert after[part] != before[part]
