"""Which studies are priors, how they are fetched before a reading, what is said of the two; and that nothing waits too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node import app as node_app
from dicom_node import priors_view
from dicom_node.errors import PeerUnavailable, SettingsError
from dicom_node.fetched import Keeper
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.priors.choosing import Subject, choose
from dicom_node.priors.seeking import Seeker
from dicom_node.reading_json import to_json
from dicom_node.remote.matches import Found, Level, Match, Query
from dicom_node.remote.retrieving import Retrieved
from dicom_node.routing import PriorsWish
from dicom_node.settings import load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, NewJob, enqueue, list_jobs
from dicom_node.storage.priors import Prior, PriorState, note_priors, priors_of
from dicom_node.storage.pulls import Pulled, PullReason, pulled
from dicom_node.storage.results import NewResult, save_result
from inference.reading import Frame, FrameSource, Reading
from tests.dicom_node.fetching import arrived
from tests.support import GreyReader

SUBJECT = Subject("1.9", "P1", "HOSPITAL", date(2026, 6, 1), frozenset({"DX"}), frozenset({"CHEST"}), "19500101", "1045")


def study(
    uid: str = "1.1", day: str = "20250101", patient: str = "P1", modalities: str = "DX", issuer: str = "", clock: str = ""
) -> Match:
    told = {
        "StudyInstanceUID": uid,
        "StudyDate": day,
        "StudyTime": clock,
        "PatientID": patient,
        "ModalitiesInStudy": modalities,
    }
    return {**told, "IssuerOfPatientID": issuer, "PatientBirthDate": "", "NumberOfStudyRelatedInstances": "1"}


CHOICES = {
    "the newest first, as many as wanted": ([study("1.1"), study("1.3", "20260301"), study("1.2", "20250701")], ["1.3", "1.2"]),
    "not the study itself": ([study("1.9")], []),
    "not another patient's": ([study(patient="P11"), study(patient="p1")], []),
    "not one of another issuer": ([study(issuer="ELSEWHERE")], []),
    "one whose issuer is not told": ([study(issuer="")], ["1.1"]),
    "not a later one": ([study(day="20260602")], []),
    "not one of the same day without a time": ([study(day="20260601")], []),
    "an earlier one of the same day": ([study(day="20260601", clock="0712")], ["1.1"]),
    "not one of the same minute": ([study(day="20260601", clock="104500")], []),
    "not a later one of the same day": ([study(day="20260601", clock="104501.5")], []),
    "not one of the same day whose time is none": ([study(day="20260601", clock="early")], []),
    "the latest of a day first": (
        [study("1.1", "20260601", clock="0600"), study("1.2", "20260531"), study("1.3", "20260601", clock="080000.000000")],
        ["1.3", "1.1"],
    ),
    "not one whose UID is none": ([study("../1.1")], []),
    "not one born on another day": ([{**study(), "PatientBirthDate": "19700101"}], []),
    "one whose date of birth agrees": ([{**study(), "PatientBirthDate": "19500101"}], ["1.1"]),
    "not an older one than wished": ([study(day="20200101")], []),
    "not one without a date": ([study(day="")], []),
    "not of another modality": ([study(modalities="CT\\SR")], []),
    "of several modalities": ([study(modalities="SR\\DX")], ["1.1"]),
    "where no modality is told": ([study(modalities="")], ["1.1"]),
}


@pytest.mark.parametrize(("held", "chosen"), CHOICES.values(), ids=CHOICES)
def test_choice(held: list[Match], chosen: list[str]) -> None:
    def ask(query: Query) -> Found:
        if query.level is Level.SERIES:
            return Found(({"BodyPartExamined": "CHEST", **dict.fromkeys(query.all_keys, "")},))
        assert query.keys["StudyDate"] == "20210601-20260601"
        return Found(tuple(held))

    assert [one.prior.study_uid for one in choose(SUBJECT, PriorsWish(), ask)] == chosen


def test_a_study_that_tells_no_time_has_no_prior_of_its_own_day() -> None:
    same = study(day="20260601", clock="0712")
    asked = replace(SUBJECT, clock="")
    assert choose(asked, PriorsWish(body_part="any"), lambda _: Found((same,))) == ()


PARTS = {"the same": ("chest", True), "another": ("HAND", False), "not told": ("", True)}


@pytest.mark.parametrize(("part", "taken"), PARTS.values(), ids=PARTS)
def test_body_part(part: str, taken: bool) -> None:
    def ask(query: Query) -> Found:
        return Found((study() if query.level is Level.STUDY else {"BodyPartExamined": part},))

    assert bool(choose(SUBJECT, PriorsWish(), ask)) is taken
    assert choose(SUBJECT, PriorsWish(body_part="any"), ask)


@pytest.mark.parametrize("patient", ["", "*", " ?*"])
def test_a_patient_without_an_id_has_no_priors(patient: str) -> None:
    with pytest.raises(ValueError, match="names no patient"):
        choose(replace(SUBJECT, patient_id=patient), PriorsWish(), lambda _: Found((study(),)))


@dataclass
class Archive:
    """Gives the films it has, through ``keep``; or nothing for ever. Implements ``archives.Archive``."""

    keep: Keeper
    films: dict[str, Dataset] = field(default_factory=dict)
    silent: bool = False

    def find(self, query: Query, _stop: threading.Event | None = None) -> Found:
        if query.level is Level.SERIES:
            return Found(())
        return Found(tuple(study(uid, "20250101", film.PatientID) for uid, film in self.films.items()))

    def retrieve(self, study_uid: str, stop: threading.Event | None = None) -> Retrieved:
        if self.silent:
            assert stop is not None
            assert stop.wait(20)
            raise PeerUnavailable("silent")
        assert self.keep(arrived(self.films[study_uid])) == 0
        return Retrieved(1)


@dataclass(frozen=True, slots=True)
class Node:
    db: Database
    files: FileStore
    archive: Archive

    def queue(self, wait_s: float) -> Job:
        """A complete study whose reading waits for priors."""
        film = phantom_dx(1, [], size=64, patient_id="P1", study_uid="1.9")
        film.StudyDate = "20260601"
        assert self.archive.keep(arrived(film)) == 0
        payload = {"reading": "chest", "priors": PriorsWish().model_dump()}
        job = NewJob(JobKind.READ, "read", "read:1.9", "1.9", payload, 10, time.time() + wait_s)
        with self.db.write() as conn:
            enqueue(conn, job, time.time())
        return self.job()

    def job(self) -> Job:
        return list_jobs(self.db, study_uid="1.9")[0]

    def states(self) -> dict[str, PriorState]:
        with self.db.read() as conn:
            return {one.study_uid: one.state for one in priors_of(conn, "1.9")}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    db, files = Database.open(tmp_path / "node.sqlite"), FileStore(tmp_path)
    keeper = Keeper(db, files, 0, "WETREAD")
    prior = phantom_dx(2, [], size=64, patient_id="P1", study_uid="1.1")
    yield Node(db, files, Archive(keeper, {"1.1": prior}))
    keeper.close()
    db.close()


def seek(node: Node, until: float, *, read: bool) -> None:
    """Run the seeker until the reading is due or ``until`` seconds have passed; the prior is read meanwhile where ``read``."""
    stop = threading.Event()
    thread = threading.Thread(target=Seeker(node.db, node.files, node.archive).run, args=(stop, 0.02))
    thread.start()
    end = time.monotonic() + until
    while node.job().not_before > time.time() and time.monotonic() < end:
        if read and node.states().get("1.1") is PriorState.HERE:
            with node.db.write() as conn:
                save_result(conn, NewResult("1.1", 1, "chest", "{}"), time.time())
        time.sleep(0.02)
    stop.set()
    thread.join()


def test_a_prior_is_fetched_and_when_it_is_read_the_study_waits_no_longer(node: Node) -> None:
    node.queue(wait_s=600)
    seek(node, 20, read=True)
    assert node.job().not_before <= time.time()
    assert node.states() == {"1.1": PriorState.READ}
    with node.db.read() as conn:
        assert pulled(conn, "1.1", time.time()) == Pulled(PullReason.PRIOR, 10)


def test_a_study_without_priors_waits_for_nothing(node: Node) -> None:
    node.archive.films.clear()
    node.queue(wait_s=600)
    seek(node, 20, read=False)
    assert node.job().not_before <= time.time()


def test_an_archive_that_is_silent_costs_the_wait_and_no_more(node: Node) -> None:
    node.archive.silent = True
    due = node.queue(wait_s=1.5).not_before
    seek(node, 20, read=False)
    assert node.job().not_before == pytest.approx(due, abs=0.5)
    assert node.states() == {"1.1": PriorState.FAILED}


def test_a_node_that_stops_does_not_wait_for_an_archive(node: Node) -> None:
    class Slow(Archive):
        def retrieve(self, study_uid: str, stop: threading.Event | None = None) -> Retrieved:
            assert stop is not None
            end = time.monotonic() + 10
            while not stop.is_set() and time.monotonic() < end:
                asked.set()
                time.sleep(0.01)
            raise PeerUnavailable(f"{study_uid} was cancelled")

    asked, stop = threading.Event(), threading.Event()
    node.queue(wait_s=600)
    slow = Slow(node.archive.keep, node.archive.films)
    thread = threading.Thread(target=Seeker(node.db, node.files, slow).run, args=(stop, 0.02))
    thread.start()
    assert asked.wait(10)
    began = time.monotonic()
    stop.set()
    thread.join()
    assert time.monotonic() - began < 5


def test_two_processes_look_once(node: Node) -> None:
    node.queue(wait_s=600)
    seekers = [Seeker(node.db, node.files, node.archive) for _ in range(2)]
    assert [len(one._due()) for one in seekers] == [1, 0]


def reading(grey: int) -> Reading:
    """Pneumothorax is the likelier the brighter it is, effusion the darker."""
    frame = Frame(np.full((4, 4), grey, np.uint8), FrameSource("1.2", "1.3", "1.4"), "DX")
    return GreyReader().read([frame])


BRIGHT, DARK = 255, 0


def test_an_operator_sees_both_readings_and_that_no_radiologist_compared_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    config = tmp_path / "node.yaml"
    config.write_text("data: data\n")
    with pytest.raises(SettingsError, match="has no result"):
        priors_view.show(config, "1.9")
    with closing(node_app.open_database(load_settings(config))) as db, db.write() as conn:
        save_result(conn, NewResult("1.9", 1, "chest", to_json(reading(BRIGHT))), 1)
        note_priors(conn, "1.9", [Prior("1.1", "20250101", PriorState.READ)], 1)
    assert priors_view.show(config, "1.9") == 1
    with closing(node_app.open_database(load_settings(config))) as db, db.write() as conn:
        save_result(conn, NewResult("1.1", 1, "chest", to_json(reading(DARK))), 1)
    assert priors_view.show(config, "1.9") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "prior 1.1 of 20250101: read" in told
    assert "pneumothorax 20250101 negative 0.00 new" in told
    assert "pleural_effusion 20250101 positive 1.00 no longer seen" in told
    assert "no radiologist compared the images" in told
