"""Archives that tell how many instances a study has, each in its own way, and those that do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote import counting
from dicom_node.remote.counting import count_by_find, count_by_qido
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.http import HttpAnswer, HttpPeer


def found(**values: Any) -> Dataset:
    ds = Dataset()
    for name, value in values.items():
        setattr(ds, name, value)
    return ds


@contextmanager
def archive(answers: dict[str, list[Dataset]]) -> Iterator[DicomPeer]:
    """An archive that answers by the level of the query."""

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        assert event.identifier.StudyInstanceUID == "1.2.3"
        for answer in answers.get(event.identifier.QueryRetrieveLevel, []):
            yield 0xFF00, answer

    entity = AE("PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield DicomPeer("127.0.0.1", server.server_address[1], "PACS", "WETREAD", 5)
    finally:
        server.shutdown()


SERIES = [
    found(SeriesInstanceUID="1", NumberOfSeriesRelatedInstances=2),
    found(SeriesInstanceUID="2", NumberOfSeriesRelatedInstances=5),
]
COUNTS = {
    "by the study": ({"STUDY": [found(NumberOfStudyRelatedInstances="12")]}, 12),
    "an unknown study": ({}, 0),
    "by its series": ({"STUDY": [found(StudyInstanceUID="1.2.3")], "SERIES": SERIES}, 7),
    "an empty number": ({"STUDY": [found(NumberOfStudyRelatedInstances=None)], "SERIES": SERIES}, 7),
    "the same study under two patients": ({"STUDY": [found(NumberOfStudyRelatedInstances=n) for n in (2, 3)]}, 5),
}


@pytest.mark.parametrize(("answers", "count"), COUNTS.values(), ids=COUNTS)
def test_count_by_find(answers: dict[str, list[Dataset]], count: int) -> None:
    with archive(answers) as peer:
        assert count_by_find(peer, "1.2.3") == count


SILENT = {
    "no number anywhere": {"STUDY": [found(StudyInstanceUID="1.2.3")], "SERIES": [found(SeriesInstanceUID="1")]},
    "no number and no series": {"STUDY": [found(StudyInstanceUID="1.2.3")]},
    "one series without": {"STUDY": [found(StudyInstanceUID="1.2.3")], "SERIES": [*SERIES, found(SeriesInstanceUID="3")]},
}


@pytest.mark.parametrize("answers", SILENT.values(), ids=SILENT)
def test_an_archive_that_tells_no_number_is_refused(answers: dict[str, list[Dataset]]) -> None:
    with archive(answers) as peer, pytest.raises(PeerRefused, match="tells the number of instances neither"):
        count_by_find(peer, "1.2.3")


ANSWERS: dict[str, tuple[int, Any, int | type[Exception]]] = {
    "a number": (200, [{"00201208": {"vr": "IS", "Value": [4]}}], 4),
    "a number as text": (200, [{"00201208": {"vr": "IS", "Value": ["4"]}}], 4),
    "no study": (200, [], 0),
    "no content": (204, None, 0),
    "no number": (200, [{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}], PeerRefused),
    "a negative number": (200, [{"00201208": {"vr": "IS", "Value": [-1]}}], PeerRefused),
    "no JSON": (200, "<html>", PeerRefused),
    "no list": (200, {"00201208": 1}, PeerRefused),
    "login wanted": (401, None, PeerUnavailable),
    "a bad query": (400, None, PeerRefused),
    "out of order": (503, None, PeerUnavailable),
}


@pytest.mark.parametrize(("status", "body", "wanted"), ANSWERS.values(), ids=ANSWERS)
def test_count_by_qido(monkeypatch: pytest.MonkeyPatch, status: int, body: Any, wanted: int | type[Exception]) -> None:
    """The seam is one request and its answer; Orthanc's own answer is in the acceptance tests."""
    asked: list[str] = []

    def answer(_peer: HttpPeer, method: str, path: str, _content: bytes | None, _headers: dict[str, str]) -> HttpAnswer:
        asked.append(f"{method} {path}")
        text = body if isinstance(body, str) else json.dumps(body)
        return HttpAnswer(status, b"" if body is None else text.encode())

    monkeypatch.setattr(counting, "request", answer)
    if isinstance(wanted, int):
        assert count_by_qido(HttpPeer("http://127.0.0.1/dicom-web"), "1.2.3") == wanted
    else:
        with pytest.raises(wanted):
            count_by_qido(HttpPeer("http://127.0.0.1/dicom-web"), "1.2.3")
    assert asked == ["GET studies?StudyInstanceUID=1.2.3&includefield=00201208"]
