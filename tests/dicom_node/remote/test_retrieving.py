"""C-FIND, C-MOVE and C-GET at archives that answer well, badly, too much, and not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, JPEG2000Lossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.phantom_dicom import phantom_ct
from dicom_node.remote import retrieving
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.finding import QueryPeer, find
from dicom_node.remote.matches import Found, Level, Query, character_set, identifier
from dicom_node.remote.retrieving import Arrived, Retrieved, get, move, of_study, storage_contexts

# pynetdicom drops a socket that could not connect without closing it
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
MODELS = (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)


@contextmanager
def archive(*handlers: tuple[Any, Any], timeout_s: float = 5, models: Any = MODELS) -> Iterator[QueryPeer]:
    entity = AE("PACS")
    for model in models:
        entity.add_supported_context(model)
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))
    try:
        yield QueryPeer(DicomPeer("127.0.0.1", server.server_address[1], "PACS", "WETREAD", timeout_s))
    finally:
        server.shutdown()


def study(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def finding(answers: list[tuple[int, Dataset | None]], asked: list[Dataset] | None = None) -> tuple[Any, Any]:
    def handle(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        if asked is not None:
            asked.append(event.identifier)
        for status, dataset in answers:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield status, dataset

    return evt.EVT_C_FIND, handle


ALL = Query(Level.STUDY, {"PatientName": ""})


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "ISO_IR 144"])
def test_names_come_as_they_are_written(charset: str) -> None:
    name = "Иванов^Иван" if charset == "ISO_IR 144" else "Müller^Jörg"
    answer = study(SpecificCharacterSet=charset, StudyInstanceUID="1.2", PatientName=name)
    with archive(finding([(0xFF00, answer)])) as pacs:
        assert find(pacs, ALL) == Found(({"StudyInstanceUID": "1.2", "PatientName": name},))


SETS = {"ASCII": (("a", ""), ""), "Latin": (("ü",), "ISO_IR 100"), "more": (("ü", "山"), "ISO_IR 192")}


@pytest.mark.parametrize(("values", "charset"), SETS.values(), ids=SETS)
def test_what_is_asked_goes_in_a_character_set_that_holds_it(values: tuple[str, ...], charset: str) -> None:
    assert character_set(values) == charset
    asked: list[Dataset] = []
    with archive(finding([], asked)) as pacs:
        find(pacs, Query(Level.STUDY, {"PatientName": values[0], "StudyDescription": values[-1]}))
    assert asked[0].get("SpecificCharacterSet", "") == charset
    assert (asked[0].PatientName, asked[0].StudyDescription) == (values[0], values[-1])


def test_too_many_matches_are_cut_off_and_the_archive_is_told() -> None:
    answers: list[tuple[int, Dataset | None]] = [(0xFF00, study(StudyInstanceUID=f"1.{n}")) for n in range(1, 2000)]
    with archive(finding(answers)) as pacs:
        found = find(pacs, Query(Level.STUDY, most=5))
    assert [one["StudyInstanceUID"] for one in found.matches] == [f"1.{n}" for n in range(1, 6)]
    assert not found.whole


ENDS = {
    "out of resources": (0xA700, PeerUnavailable),
    "processing failure": (0x0110, PeerUnavailable),
    "does not match the SOP class": (0xA900, PeerRefused),
    "unable to process": (0xC001, PeerRefused),
}


@pytest.mark.parametrize(("status", "kind"), ENDS.values(), ids=ENDS)
def test_a_failed_search(status: int, kind: type[Exception]) -> None:
    with archive(finding([(status, None)])) as pacs, pytest.raises(kind, match=f"C-FIND with status 0x{status:04X}"):
        find(pacs, ALL)


def test_the_study_root_knows_no_patients_and_the_patient_root_does() -> None:
    answer = study(PatientID="P")
    with archive(finding([(0xFF00, answer)])) as pacs:
        with pytest.raises(PeerRefused, match="root: patient"):
            find(pacs, Query(Level.PATIENT, {"PatientID": ""}))
        assert find(QueryPeer(pacs.peer, "patient"), Query(Level.PATIENT, {"PatientID": ""})).matches == ({"PatientID": "P"},)


def retrieval(kind: Any, count: int, *steps: Any) -> tuple[Any, Any]:
    def handle(event: Any) -> Iterator[Any]:
        if kind is evt.EVT_C_MOVE:
            yield "127.0.0.1", 1, {}
        yield count
        for step in steps:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield step

    return kind, handle


def test_get_keeps_each_object_before_it_answers() -> None:
    slices, kept = phantom_ct(1, 3, size=16, patient_id="P", study_uid="1.2"), []

    def keep(arrived: Arrived) -> int:
        kept.append((arrived.sop_uid, sum(map(len, arrived.chunks))))
        return 0xA700 if len(kept) == 2 else 0x0000

    steps = [(0xFF00, one) for one in slices]
    with archive(retrieval(evt.EVT_C_GET, 3, *steps)) as pacs:
        told = get(pacs, of_study("1.2"), {str(CTImageStorage): ()}, keep)
    assert (told.completed, told.failed) == (2, 1)
    assert [uid for uid, _ in kept] == [one.SOPInstanceUID for one in slices]
    assert all(size > 512 for _, size in kept)


def test_an_archive_that_falls_silent_in_the_middle_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom issue 1004."""
    monkeypatch.setattr(retrieving, "_GRACE_S", 0.5)
    over = threading.Event()

    def silent(_event: Any) -> Iterator[Any]:
        yield 1
        over.wait(30)
        yield 0xFE00, None

    began = time.monotonic()
    with archive((evt.EVT_C_GET, silent), timeout_s=1) as pacs:
        with pytest.raises(PeerUnavailable, match=r"C-GET|fell silent"):
            get(pacs, of_study("1.2"), {str(CTImageStorage): ()}, lambda _: 0)
        assert time.monotonic() - began < 15
        over.set()


def test_move_to_a_title_that_the_archive_does_not_know() -> None:
    def unknown(_event: Any) -> Iterator[Any]:
        yield None, None

    with archive((evt.EVT_C_MOVE, unknown)) as pacs, pytest.raises(PeerRefused, match="does not know that AE title; enter it"):
        move(pacs, of_study("1.2"), "US")


def test_an_archive_without_the_service() -> None:
    with (
        archive(models=(PatientRootQueryRetrieveInformationModelFind,)) as pacs,
        pytest.raises(PeerRefused, match="accepts none"),
    ):
        move(pacs, of_study("1.2"), "US")


def test_nobody_listens() -> None:
    nobody = QueryPeer(DicomPeer("127.0.0.1", 1, "PACS", "WETREAD", 2))
    with pytest.raises(PeerUnavailable, match="nothing listens"):
        find(nobody, ALL)
    with pytest.raises(PeerUnavailable, match="nothing listens"):
        get(nobody, of_study("1.2"), {}, lambda _: 0)


CONTEXTS = {
    "unknown: all common ones": ({}, 120, 127),
    "one class: each syntax by itself": ({str(CTImageStorage): ()}, 14, 14),
    "known syntax": ({str(DigitalXRayImageStorageForPresentation): (str(JPEG2000Lossless),)}, 2, 2),
    "more than an association holds": ({f"1.2.{n}": () for n in range(100)}, 127, 127),
}


@pytest.mark.parametrize(("classes", "least", "most"), CONTEXTS.values(), ids=CONTEXTS)
def test_presentation_contexts_of_a_get(classes: dict[str, tuple[str, ...]], least: int, most: int) -> None:
    contexts = storage_contexts(classes)
    assert least <= len(contexts) <= most
    assert {one for one, _ in contexts} >= set(classes)


def test_the_identifier_of_a_retrieval_names_the_level_and_those_above() -> None:
    one = identifier(of_study("1.2", "1.2.3"))
    assert (one.QueryRetrieveLevel, one.StudyInstanceUID, one.SeriesInstanceUID) == ("SERIES", "1.2", "1.2.3")
    assert Retrieved(completed=2, warning=1).stored == 3
