"""What peers may ask on the listener's own port, with pynetdicom as the peer; other peers are in tests/acceptance."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.fetched import Keeper
from dicom_node.index.indexer import Indexer
from dicom_node.ingest.configured import listener_settings
from dicom_node.ingest.listener import Listener
from dicom_node.phantom_dicom import phantom_ct
from dicom_node.query.committing import Reporter
from dicom_node.query.judging import Judge, Promise
from dicom_node.query.services import services
from dicom_node.remote.commitment import Report, ReportListener
from dicom_node.remote.dimse import DicomPeer
from dicom_node.settings import Settings
from dicom_node.storage.commitments_asked import take_due
from dicom_node.storage.database import Database
from dicom_node.storage.events import list_events
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import instances_of
from tests.dicom_node.fetching import arrived

FIND, MOVE, GET = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
)
STUDIES = ("1.2.3", "1.2.4")
# pynetdicom drops a socket that could not connect without closing it
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")


@dataclass(frozen=True, slots=True)
class Node:
    """A listener with two scans of two images each, of two patients."""

    port: int
    db: Database
    files: FileStore

    def images(self, study_uid: str) -> list[str]:
        return [f"{study_uid}.9.{number}" for number in (1, 2)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    settings = Settings.model_validate({"data": folder, **SETTINGS})
    db, files = Database.open(folder / "node.sqlite"), FileStore(folder)
    keeper = Keeper(db, files, 0, "WETREAD")
    for number, study in enumerate(STUDIES):
        for image, slice_ in enumerate(phantom_ct(number, 2, size=16, patient_id=f"P{number}", study_uid=study), 1):
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"{study}.9.{image}"
            assert keeper(arrived(slice_)) == 0
    listener = Listener(listener_settings(settings), db, files, services=partial(services, settings))
    listener.start()
    assert Indexer(db, files, quiet_s=0).step() == 2
    yield Node(listener.port, db, files)
    listener.stop(0)
    keeper.close()
    db.close()


SETTINGS = {
    "listener": {"port": 0, "allow_any": True, "watermark_mb": 0},
    "query": {
        "most": 3,
        "peers": [
            {"ae_title": "ALL", "find": True, "get": True, "move_to": ["GONE"], "commitment": True},
            {"ae_title": "NOTHING"},
        ],
        "addresses": {"GONE": {"host": "127.0.0.1", "port": 1, "timeout_s": 2}, "ALL": {"host": "127.0.0.1", "port": 1}},
    },
}


@contextmanager
def asking(node: Node, *classes: Any, title: str = "ALL", roles: tuple[Any, ...] = (), handlers: Any = ()) -> Iterator[Any]:
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for one in (*classes, *roles):
        entity.add_requested_context(one)
    asked = [build_role(one, scp_role=True) for one in roles]
    association = entity.associate("127.0.0.1", node.port, ae_title="WETREAD", ext_neg=asked, evt_handlers=list(handlers))
    assert association.is_established
    yield association
    association.release()


def identifier(level: str, **keys: Any) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        made.add(DataElement(tag_for_keyword(keyword) or 0, dictionary_VR(keyword), value, validation_mode=0))
    return made


def found(node: Node, asked: Dataset, title: str = "ALL") -> tuple[list[Dataset], int]:
    """The matches, and the last status."""
    with asking(node, FIND, title=title) as association:
        answers = list(association.send_c_find(asked, FIND))
    return [answer for status, answer in answers if status.Status in (0xFF00, 0xFF01)], answers[-1][0].Status


FINDS: dict[str, tuple[Dataset, int, int]] = {
    "a study": (identifier("STUDY", PatientID="P1", StudyInstanceUID=""), 1, 0x0000),
    "none": (identifier("STUDY", PatientID="nobody", StudyInstanceUID=""), 0, 0x0000),
    "images of one study": (identifier("IMAGE", StudyInstanceUID="1.2.3", SOPInstanceUID=""), 2, 0x0000),
    "more than are told": (identifier("IMAGE", SOPInstanceUID=""), 3, 0xA700),
    "no such level": (identifier("WORKLIST", PatientID=""), 0, 0xA900),
    "by a key of a level below, which does not count": (identifier("STUDY", InstanceNumber="77"), 2, 0x0000),
}


@pytest.mark.parametrize(("asked", "count", "status"), FINDS.values(), ids=FINDS)
def test_find(node: Node, asked: Dataset, count: int, status: int) -> None:
    matches, ended = found(node, asked)
    assert (len(matches), ended) == (count, status)


def test_a_match_tells_what_was_asked_and_the_counts(node: Node) -> None:
    wanted = {"NumberOfStudyRelatedInstances": None, "ModalitiesInStudy": "", "PatientID": "P0", "EthnicGroup": ""}
    (match,), _ = found(node, identifier("STUDY", **wanted))
    assert (match.NumberOfStudyRelatedInstances, match.ModalitiesInStudy, match.EthnicGroup) == (2, "CT", "")
    assert (match.RetrieveAETitle, match.QueryRetrieveLevel) == ("WETREAD", "STUDY")
    assert "StudyDate" not in match


def test_who_may_ask_for_nothing_is_refused(node: Node) -> None:
    assert found(node, identifier("STUDY", PatientID=""), title="NOTHING") == ([], 0x0124)


def test_get_names_what_could_not_be_sent(node: Node) -> None:
    """The peer takes radiographs only: no scan can go to it."""
    with asking(node, GET, roles=(DigitalXRayImageStorageForPresentation,)) as association:
        status, told = list(association.send_c_get(identifier("STUDY", StudyInstanceUID="1.2.3"), GET))[-1]
    assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 2)
    assert list(told.FailedSOPInstanceUIDList) == node.images("1.2.3")


def test_get_counts_what_the_peer_does_not_take(node: Node) -> None:
    taken: list[str] = []

    def store(event: Any) -> int:
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0xA700 if len(taken) == 2 else 0x0000

    with asking(node, GET, roles=(CTImageStorage,), handlers=[(evt.EVT_C_STORE, store)]) as association:
        status, told = list(association.send_c_get(identifier("STUDY", StudyInstanceUID="1.2.3"), GET))[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 1, 1)
    assert told.FailedSOPInstanceUIDList == taken[1]


MOVES = {
    "nobody listens there": (identifier("STUDY", StudyInstanceUID="1.2.3"), "GONE", 0xA702, 2),
    "not one of its destinations": (identifier("STUDY", StudyInstanceUID="1.2.3"), "ALL", 0xA801, None),
    "nothing named": (identifier("STUDY", PatientID="P0"), "GONE", 0xA900, None),
    "a wildcard": (identifier("SERIES", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.*"), "GONE", 0xA900, None),
    "nothing there": (identifier("STUDY", StudyInstanceUID="9.9"), "GONE", 0x0000, 0),
}


@pytest.mark.parametrize(("asked", "destination", "status", "failed"), MOVES.values(), ids=MOVES)
def test_move_that_does_not_succeed(node: Node, asked: Dataset, destination: str, status: int, failed: int | None) -> None:
    with asking(node, MOVE) as association:
        told = list(association.send_c_move(asked, destination, MOVE))[-1][0]
    assert told.Status == status
    assert told.get("NumberOfFailedSuboperations") == failed


def action(transaction: str, *objects: tuple[str, str]) -> Dataset:
    made = Dataset()
    made.TransactionUID = transaction
    made.ReferencedSOPSequence = []
    for sop_class, instance in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.add(DataElement("ReferencedSOPInstanceUID", "UI", instance, validation_mode=0))
        made.ReferencedSOPSequence.append(item)
    return made


def committed(node: Node, request: Dataset, title: str = "ALL", kind: int = 1) -> int:
    with asking(node, StorageCommitmentPushModel, title=title) as association:
        told, _ = association.send_n_action(request, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    return int(told.Status)


REQUESTS = {
    "nothing named": (action("1.2.9"), "ALL", 1, 0x0115),
    "no UID": (action("1.2.9", (CTImageStorage, "x")), "ALL", 1, 0x0115),
    "another action": (action("1.2.9", (CTImageStorage, "1.2")), "ALL", 2, 0x0123),
    "not allowed": (action("1.2.9", (CTImageStorage, "1.2")), "NOTHING", 1, 0x0124),
}


@pytest.mark.parametrize(("request_", "title", "kind", "status"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_for_commitment_that_is_none(node: Node, request_: Dataset, title: str, kind: int, status: int) -> None:
    assert committed(node, request_, title, kind) == status


def test_a_request_is_kept_before_it_is_answered_and_reported_once_the_peer_takes_it(node: Node) -> None:
    kept, wrong, gone = node.images("1.2.3")[0], node.images("1.2.3")[1], "1.2.3.4.5"
    named = [(CTImageStorage, kept), (DigitalXRayImageStorageForPresentation, wrong), (CTImageStorage, gone)]
    assert committed(node, action("1.2.10", *named)) == 0x0000
    assert committed(node, action("1.2.10", *named)) == 0x0000  # the same again, as after a lost answer
    assert committed(node, action("1.2.10", named[0])) == 0x0131
    heard: list[Report] = []
    peer = ReportListener("127.0.0.1", 0, {"ALL"}, {"WETREAD"}, heard.append)
    peer.start()
    now = [time.time()]
    where: list[DicomPeer | None] = [None]
    reporter = Reporter(
        node.db, Judge(node.db, node.files, Promise(True, True)), lambda _to, _as: where[0], 3600, lambda: now[0]
    )
    try:
        assert reporter.step() == 1  # nobody knows where the peer is
        where[0] = DicomPeer("127.0.0.1", peer.port, "ALL", "WETREAD", 10)
        assert reporter.step() == 0  # not yet
        now[0] += 60
        assert (reporter.step(), reporter.step()) == (1, 0)
    finally:
        peer.stop()
    assert heard == [Report("1.2.10", frozenset({kept}), {wrong: 0x0119, gone: 0x0112})]


def test_a_node_that_deletes_promises_nothing_and_a_report_that_nobody_takes_is_given_up(node: Node) -> None:
    assert committed(node, action("1.2.11", (CTImageStorage, node.images("1.2.3")[0]))) == 0x0000
    ask = take_due(node.db, 0, 2e10)[0]
    reporter = Reporter(node.db, Judge(node.db, node.files, Promise(False, False)), lambda _to, _as: None, 10, lambda: 3e10)
    assert set(reporter.judge.report(ask).failed.values()) == {0x0110}
    assert reporter.step() == 1
    with node.db.read() as conn:
        assert any("was given up" in event.text for event in list_events(conn))
    assert reporter.step() == 0


def test_a_report_that_is_asked_for_again_is_told_again(node: Node) -> None:
    request, now = action("1.2.12", (CTImageStorage, node.images("1.2.3")[0])), time.time() + 1e6
    assert committed(node, request) == 0x0000
    gives_up = Reporter(node.db, Judge(node.db, node.files, Promise(True, True)), lambda _to, _as: None, 10, lambda: now)
    assert gives_up.step() == 1
    assert gives_up.step() == 0
    assert committed(node, request) == 0x0000
    assert gives_up.step() == 1


def test_what_breaks_one_report_stops_neither_the_others_nor_the_thread(node: Node) -> None:
    def address(_to: str, _as: str) -> DicomPeer:
        raise RuntimeError("the association must be established")

    uid = node.images("1.2.3")[0]
    for number in (20, 21):
        assert committed(node, action(f"1.2.{number}", (CTImageStorage, uid))) == 0x0000
    reporter = Reporter(node.db, Judge(node.db, node.files, Promise(True, True)), address, 1e9, lambda: time.time() + 60)
    assert reporter.step() == 2
    late = Reporter(node.db, Judge(node.db, node.files, Promise(True, True)), lambda _to, _as: None, 1e12, lambda: 5e10)
    for one in take_due(node.db, 0, 4e10):
        late._report(replace(one, attempts=2000))  # weeks of `report_hours`
    assert not take_due(node.db, 0, 5e10)
    for one in take_due(node.db, 0, 6e10):
        Reporter(node.db, Judge(node.db, node.files, Promise(True, True)), lambda _to, _as: None, 0, lambda: 6e10)._report(one)


def test_a_study_that_cannot_be_entered_does_not_hold_up_the_next(tmp_path: Path) -> None:
    class Files(FileStore):
        def path(self, relative: str) -> Path:
            if relative == odd:
                raise OSError("odd")
            return super().path(relative)

    odd = ""
    db, files = Database.open(tmp_path / "one.sqlite"), Files(tmp_path)
    keeper = Keeper(db, files, 0, "WETREAD")
    indexer = Indexer(db, files, quiet_s=0)
    try:
        for number, study in enumerate(("1.5", "1.6", "1.7")):
            assert keeper(arrived(phantom_ct(number, 1, size=16, patient_id="P", study_uid=study)[0])) == 0
        with db.read() as conn:
            odd = instances_of(conn, "1.5")[0].path
        assert indexer.step() == 2
        odd = ""
        assert indexer.step() == 1
    finally:
        keeper.close()
        db.close()


def test_the_index_follows_what_comes_and_forgets_nothing(tmp_path: Path) -> None:
    db, files = Database.open(tmp_path / "one.sqlite"), FileStore(tmp_path)
    keeper, clock = Keeper(db, files, 0, "WETREAD"), [1e10]
    indexer = Indexer(db, files, lambda: clock[0])
    images = phantom_ct(1, 3, size=16, patient_id="P", study_uid="1.5")
    try:
        for image in images[:2]:
            assert keeper(arrived(image)) == 0
        assert (indexer.step(), indexer.step()) == (1, 0)
        keeper(arrived(images[2]))
        assert indexer.step() == 0  # long ago, by this clock: beyond what is looked back on
        assert Indexer(db, files, lambda: clock[0]).step() == 1  # a start looks at everything
    finally:
        keeper.close()
        db.close()
