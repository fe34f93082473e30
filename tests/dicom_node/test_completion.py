"""When a study is complete: by the archive's count, by the series a rule wants, or by quiet time, and never later than that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.completion import Completeness, Counts, Held, Rule, Series, _all_met
from dicom_node.errors import PeerUnavailable
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.routing import Conditions
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.studies import StudyRow, get_study
from tests.support import save

STUDY = "1.2.3"
GENERAL = Rule(Conditions(), quiet_s=10, settle_s=1, ask=True)


class Archive:
    """An archive that says what it is told to say, and counts how often it was asked."""

    def __init__(self, says: int | Exception) -> None:
        self.says, self.asked = says, 0

    def __call__(self, study_uid: str) -> int:
        assert study_uid == STUDY
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Site:
    """A node's storage, into which instances come at given times."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.db, self.files = folder, Database.open(folder / "node.sqlite", synchronous="OFF"), FileStore(folder)

    def arrive(self, sop: str, now: float, series: str = "1", path: str = "none", **changes: Any) -> None:
        values = {"modality": "DX", "calling_ae": "ED", **changes}
        new = NewInstance(sop, "1.2", f"{STUDY}.{series}", STUDY, "1.2", path, 1, sop.rjust(64, "0"), "p", **values)
        with self.db.write() as connection:
            record_instance(connection, new, now)

    @property
    def study(self) -> StudyRow:
        with self.db.read() as connection:
            row = get_study(connection, STUDY)
        assert row is not None
        return row


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.db.close()


@pytest.fixture
def counts() -> Iterator[Callable[[Archive], Counts]]:
    made: list[Counts] = []

    def begin(archive: Archive) -> Counts:
        made.append(Counts(archive, settle_s=1))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def soon(check: Callable[[], bool]) -> bool:
    """Whether it holds before long: the archive is asked in another thread."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.01)
    return False


def test_the_count_completes_a_study_long_before_quiet_time(site: Site, counts: Any) -> None:
    site.arrive("1", 100.0)
    site.arrive("2", 100.5)
    rule = Completeness([GENERAL], Held(site.db, site.files), counts(archive := Archive(2)))
    assert not rule.complete(site.study, 101.4)
    assert archive.asked == 0  # before it has settled nobody is asked
    assert soon(lambda: rule.complete(site.study, 101.6))
    assert rule.complete(site.study, 101.6)  # and once more in the transaction that opens the revision
    assert archive.asked == 1


def test_a_study_that_lacks_instances_waits_and_the_archive_is_not_stormed(site: Site, counts: Any) -> None:
    site.arrive("1", 100.0)
    rule = Completeness([GENERAL], Held(site.db, site.files), counts(archive := Archive(2)))
    rule.complete(site.study, 101.0)
    assert soon(lambda: archive.asked == 1)
    time.sleep(0.05)
    assert not any(rule.complete(site.study, 101.0 + step / 100) for step in range(99))
    assert archive.asked == 1
    rule.complete(site.study, 102.1)
    assert soon(lambda: archive.asked == 2)
    assert rule.complete(site.study, 110.0)  # quiet time


def test_an_instance_that_comes_makes_the_count_old(site: Site, counts: Any) -> None:
    site.arrive("1", 100.0)
    rule = Completeness([GENERAL], Held(site.db, site.files), counts(archive := Archive(1)))
    assert soon(lambda: rule.complete(site.study, 101.0))
    site.arrive("2", 101.5)
    archive.says = 3
    assert not rule.complete(site.study, 102.0)
    assert not rule.complete(site.study, 102.6)
    assert soon(lambda: archive.asked == 2)
    time.sleep(0.05)
    assert not rule.complete(site.study, 102.7)


@pytest.mark.parametrize("says", [0, PeerUnavailable("nobody there"), ZeroDivisionError()], ids=["unknown", "down", "odd"])
def test_an_archive_that_does_not_know_leaves_it_to_quiet_time(site: Site, counts: Any, says: int | Exception) -> None:
    site.arrive("1", 100.0)
    rule = Completeness([GENERAL], Held(site.db, site.files), counts(archive := Archive(says)))
    assert not rule.complete(site.study, 101.0)
    assert soon(lambda: archive.asked == 1)
    assert not rule.complete(site.study, 109.9)
    assert rule.complete(site.study, 110.0)


def test_a_rule_for_some_studies_asks_nobody_and_waits_otherwise(site: Site, counts: Any) -> None:
    site.arrive("1", 100.0)
    slow = Rule(Conditions(calling_ae=frozenset({"ED"})), quiet_s=60, settle_s=1, ask=False)
    rule = Completeness([slow, GENERAL], Held(site.db, site.files), counts(archive := Archive(1)))
    assert not rule.complete(site.study, 159.0)
    assert rule.complete(site.study, 160.0)
    assert archive.asked == 0


def test_required_series_complete_a_study_each_by_a_series_of_its_own(site: Site) -> None:
    chest = Series(Conditions(attributes={"SeriesDescription": frozenset({"*chest*"})}), 2)
    any_film = Series(Conditions(modality=frozenset({"DX"})), 1)
    wanted = Rule(Conditions(), quiet_s=600, settle_s=1, ask=False, required=(any_film, chest))
    rule = Completeness([wanted], Held(site.db, site.files), None)
    film = phantom_dx(1, [], size=32)
    film.SeriesDescription = "AP CHEST"
    save(film, site.folder / "film.dcm")
    site.arrive("1", 100.0, path="film.dcm")
    site.arrive("2", 100.0, path="film.dcm")
    assert not rule.complete(site.study, 102.0)  # one series cannot stand for both
    site.arrive("3", 103.0, series="2", path="gone.dcm")
    assert not rule.complete(site.study, 103.5)  # not settled
    assert rule.complete(site.study, 104.0)


MATCHES = {
    "none wanted": ([], True),
    "each its own": ([[True, False], [False, True]], True),
    "only by changing places": ([[True, True], [True, False]], True),
    "two for one": ([[True, False], [True, False]], False),
    "nothing there": ([[]], False),
    "a chain": ([[True, True, False], [False, True, True], [True, False, False]], True),
}


@pytest.mark.parametrize(("meets", "met"), MATCHES.values(), ids=MATCHES)
def test_each_wanted_series_needs_one_of_its_own(meets: list[list[bool]], met: bool) -> None:
    assert _all_met(meets) is met
