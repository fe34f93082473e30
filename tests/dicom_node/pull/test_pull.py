"""What is wanted, what is here, when it may work, and what the list says: an archive in memory, a node in a dictionary."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import pytest

from dicom_node.errors import PeerRefused, PeerUnavailable, RemoteError, SettingsError
from dicom_node.pull import fetch
from dicom_node.pull.criteria import Criteria, Wanted, read_values, search
from dicom_node.pull.fetch import Fetcher
from dicom_node.pull.pace import Pace
from dicom_node.pull.progress import Entry, PullList, State
from dicom_node.remote.matches import Found, Match, Query
from dicom_node.remote.retrieving import Retrieved

DAYS = {f"1.2.{day}": f"202601{day:02}" for day in range(1, 21)}


def match(uid: str, day: str, modality: str = "CR", count: str = "2") -> Match:
    return {"StudyInstanceUID": uid, "StudyDate": day, "ModalitiesInStudy": modality, "NumberOfStudyRelatedInstances": count}


def archive_of(days: dict[str, str], limit: int) -> Callable[[Query], Found]:
    """Matches by date, and tells no more than ``limit`` at once."""

    def ask(query: Query) -> Found:
        since, _, until = query.keys["StudyDate"].partition("-")
        found = [match(uid, day) for uid, day in days.items() if since <= day <= (until or "9")]
        return Found(tuple(found[:limit]), len(found) <= limit)

    return ask


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_an_archive_that_tells_little_at_once_is_asked_for_fewer_days(limit: int) -> None:
    wanted = search(Criteria(modalities=("CR",), since=date(2026, 1, 1), until=date(2026, 1, 31)), archive_of(DAYS, limit))
    assert [one.study_uid for one in wanted] == list(DAYS)


MORE = {
    "no day to begin with": Criteria(modalities=("CR",)),
    "a single day": Criteria(since=date(2026, 1, 1), until=date(2026, 1, 1)),
    "a patient": Criteria(patients=("P1",)),
}


@pytest.mark.parametrize("criteria", MORE.values(), ids=MORE)
def test_what_cannot_be_found_whole_is_said(criteria: Criteria) -> None:
    with pytest.raises(SettingsError, match="more than"):
        search(criteria, lambda _: Found((match("1.2", "20260101"),), whole=False))


ODD = {
    "no UID": (match("", "20260101"), []),
    "no valid UID": (match("../x", "20260101"), []),
    "another modality": (match("1.2", "20260101", "CT"), []),
    "modalities not told": (match("1.2", "20260101", ""), [Wanted("1.2", "20260101", (), 2)]),
    "outside the days": (match("1.2", "20251231"), []),
    "no count": (match("1.2", "20260101", count=""), [Wanted("1.2", "20260101", ("CR",), 0)]),
}


@pytest.mark.parametrize(("answer", "wanted"), ODD.values(), ids=ODD)
def test_answers_that_pass_over_a_key(answer: Match, wanted: list[Wanted]) -> None:
    criteria = Criteria(modalities=("CR",), since=date(2026, 1, 1))
    assert list(search(criteria, lambda _: Found((answer,)))) == wanted


FILES = {
    "one a line": ("A1\n\nA2\nA1\n", ("A1", "A2")),
    "with a comment": ("# list\nA1\n", ("A1",)),
    "a table": ("name,AccessionNumber\nx,A1\ny,A2\n", ("A1", "A2")),
}


@pytest.mark.parametrize(("text", "values"), FILES.values(), ids=FILES)
def test_values_come_from_files(text: str, values: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(text)
    assert read_values(tmp_path / "f.csv", ["accessionnumber"]) == values


@pytest.mark.parametrize("text", ["", "A*\n", "x" * 65, "a\\b"])
def test_values_that_would_ask_for_more_than_they_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(SettingsError):
        read_values(tmp_path / "f.csv", ["accessionnumber"])


@dataclass
class House:
    """An archive whose every answer is scripted, and what came of it. Implements ``fetch.Target`` and ``archives.Archive``."""

    answers: list[Retrieved | RemoteError]
    held: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def archive(self, _study_uid: str) -> House:
        return self

    def find(self, _query: Query, _stop: threading.Event | None = None) -> Found:
        raise NotImplementedError

    def retrieve(self, study_uid: str, _stop: threading.Event | None = None) -> Retrieved:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, RemoteError):
            raise answer
        self.held[study_uid] = max(self.held.get(study_uid, 0), answer.stored)
        return answer

    def count(self, study_uid: str) -> int:
        return self.held.get(study_uid, 0)


RUNS = {
    "all came": ([Retrieved(3)], State.DONE, 1),
    "with a warning": ([Retrieved(2, warning=1)], State.DONE, 1),
    "the second time": ([Retrieved(2, failed=1), Retrieved(3)], State.DONE, 2),
    "some never": ([Retrieved(2, failed=1)], State.PARTIAL, 3),
    "the archive says so, but it is not here": ([Retrieved(0)], State.FAILED, 3),
    "down": ([PeerUnavailable("down")], State.FAILED, 3),
    "refused": ([PeerRefused("no")], State.FAILED, 1),
}


@pytest.mark.parametrize(("answers", "state", "asked"), RUNS.values(), ids=RUNS)
def test_a_study_is_done_when_it_is_here(
    answers: list[Retrieved | RemoteError], state: State, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_SETTLE_S", 0.05)
    house, studies = House(answers), PullList(tmp_path / "list.csv")
    studies.take_up([Wanted("1.2", expected=3)])
    Fetcher(house, Pace(), lambda _: None, first_wait_s=0).run(studies, threading.Event())
    assert (studies.counts(), house.asked) == ({state: 1}, asked)
    again = PullList(tmp_path / "list.csv")
    assert again.counts() == studies.counts()
    Fetcher(house, Pace(), lambda _: None, first_wait_s=0).run(again, threading.Event())
    assert (house.asked == asked) is (state is State.DONE)


def test_what_is_here_is_not_asked_for_and_what_has_grown_is_asked_for_again(tmp_path: Path) -> None:
    house, studies = House([Retrieved(4)], {"1.2": 3}), PullList(tmp_path / "list.csv")
    run = Fetcher(house, Pace(), lambda _: None, first_wait_s=0).run
    studies.take_up([Wanted("1.2", expected=3)])
    run(studies, threading.Event())
    assert (studies.counts(), house.asked) == ({State.HERE: 1}, 0)
    studies.take_up([Wanted("1.2", expected=4)])
    run(studies, threading.Event())
    assert (studies.counts(), house.asked) == ({State.DONE: 1}, 1)


def test_a_list_survives_a_power_cut_and_another_file_is_no_list(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    studies = PullList(file)
    studies.take_up([Wanted("1.2", expected=1), Wanted("1.3", expected=1)])
    studies.note(Entry("1.2", 1, State.DONE, 1, 1))
    file.write_text(file.read_text() + "1.3,1,do")
    assert PullList(file).counts() == {State.DONE: 1, State.WAITING: 1}
    PullList(file).note(Entry("1.3", 1, State.DONE, 1, 1))  # the same command again goes on where it ended
    assert PullList(file).counts() == {State.DONE: 2}
    file.write_text(file.read_text() + '1.2,1,partial,0,1,"why, ')
    PullList(file).note(Entry("1.4", 1))
    assert PullList(file).counts() == {State.DONE: 2, State.WAITING: 1}
    file.write_text("PatientName\nSmith\n")
    with pytest.raises(SettingsError, match="is not the list of a pull"):
        PullList(file)


def test_it_waits_for_its_hours_and_keeps_its_rate() -> None:
    waits: list[float] = []
    clock = [0.0]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            clock[0] += timeout or 0
            return False

    start = datetime(2026, 1, 1, 19, 59, 0)
    pace = Pace(("20:00-06:00",), 60, lambda: datetime.fromtimestamp(start.timestamp() + clock[0]), lambda: clock[0])
    told: list[str] = []
    assert not pace.open()
    assert pace.wait(Stop(), told.append)
    assert (waits, told) == ([30.0, 30.0], ["waiting for 20:00-06:00"])
    assert pace.wait(Stop(), told.append)
    assert waits[2:] == [60.0]
    with pytest.raises(SettingsError, match="20:00-06:00"):
        Pace(("8-9",))
