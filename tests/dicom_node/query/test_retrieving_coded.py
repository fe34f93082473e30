"""C-GET and C-MOVE to peers that take uncompressed images only, with pynetdicom as the peer."""

# ruff: noqa: ARG002  a fake takes what the real one takes

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

from dicom_node.audit import Auditor
from dicom_node.fetched import Keeper
from dicom_node.index.indexer import Indexer
from dicom_node.ingest.configured import listener_settings
from dicom_node.ingest.line import Lost
from dicom_node.ingest.listener import Listener
from dicom_node.ingest.policy import Caller
from dicom_node.ingest.services import Context, Request
from dicom_node.pixels.limits import Limits
from dicom_node.query.permissions import permissions
from dicom_node.query.retrieving import C_GET, GetService
from dicom_node.query.services import services
from dicom_node.query.transcoding import Transcoder
from dicom_node.remote.retrieving import Arrived
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.index import InstanceEntry
from dicom_node.trail import Trail
from tests.dicom_node.pixels.made import dataset
from tests.dicom_node.query.test_services import identifier

PIXELS = np.random.default_rng(9).integers(0, 4096, (16, 20), np.uint16)
GOOD, DAMAGED = "1.2.3.9.1", "1.2.3.9.2"
WHOLE_STUDY = identifier("STUDY", StudyInstanceUID="1.2.3")


def sent(uid: str, stream: bytes) -> Arrived:
    """A compressed image as an archive sends it."""
    image = dataset(PIXELS, BitsStored=12, HighBit=11, SOPInstanceUID=uid, PatientID="P")
    image.PixelData = encapsulate([stream])
    image["PixelData"].is_undefined_length = True
    buffer = BytesIO()
    dcmwrite(buffer, image, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return Arrived(str(CTImageStorage), uid, str(JPEGLSLossless), "ARCHIVE", (buffer.getvalue(),))


@dataclass(frozen=True)
class Viewer:
    """Takes CT images in one transfer syntax."""

    port: int
    taken: list[Dataset]


@contextmanager
def viewer() -> Iterator[Viewer]:
    taken: list[Dataset] = []

    def store(event: Any) -> int:
        taken.append(event.dataset)
        return 0x0000

    entity = AE("VIEWER")
    entity.add_supported_context(CTImageStorage, [ImplicitVRLittleEndian])
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    yield Viewer(server.server_address[1], taken)
    server.shutdown()


@dataclass(frozen=True)
class Node:
    port: int
    viewer: Viewer
    settings: Settings
    db: Database
    files: FileStore


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder: Path = tmp_path_factory.mktemp("node")
    with viewer() as to:
        peer = {"ae_title": "ALL", "get": True, "move_to": ["VIEWER"]}
        query = {"peers": [peer], "addresses": {"VIEWER": {"host": "127.0.0.1", "port": to.port}}}
        listener = {"port": 0, "allow_any": True, "watermark_mb": 0}
        settings = Settings.model_validate({"data": folder, "listener": listener, "query": query, "pixels": {"decoders": 1}})
        db, files = Database.open(folder / "node.sqlite"), FileStore(folder)
        keeper = Keeper(db, files, 0, "WETREAD")
        for uid, stream in ((GOOD, imagecodecs.jpegls_encode(PIXELS)), (DAMAGED, b"\xff\xd8 no stream")):
            assert keeper(sent(uid, stream)) == 0
        assert Indexer(db, files, quiet_s=0).step() == 1
        served = Listener(listener_settings(settings), db, files, services=partial(services, settings))
        served.start()
        yield Node(served.port, to, settings, db, files)
        served.stop(0)
        keeper.close()
        db.close()


@contextmanager
def asking(node: Node, abstract: Any, handlers: Sequence[tuple[Any, Any]] = ()) -> Iterator[Any]:
    entity = AE("ALL")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 120
    entity.add_requested_context(abstract)
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
    roles = [build_role(CTImageStorage, scp_role=True)]
    association = entity.associate("127.0.0.1", node.port, ae_title="WETREAD", ext_neg=roles, evt_handlers=list(handlers))
    assert association.is_established
    yield association
    if association.is_established:
        association.release()


def test_get_decodes_what_the_peer_does_not_take_as_stored_and_names_what_cannot_be(node: Node) -> None:
    taken: list[Dataset] = []

    def store(event: Any) -> int:
        taken.append(event.dataset)
        return 0x0000

    with asking(node, Get, [(evt.EVT_C_STORE, store)]) as association:
        status, told = list(association.send_c_get(WHOLE_STUDY, Get))[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 1, 1)
    assert told.FailedSOPInstanceUIDList == DAMAGED
    (image,) = taken
    assert (image.SOPInstanceUID, image.PatientID, image.PixelData) == (GOOD, "P", PIXELS.tobytes())


def test_move_does_the_same(node: Node) -> None:
    with asking(node, Move) as association:
        status, told = list(association.send_c_move(WHOLE_STUDY, "VIEWER", Move))[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (0xB000, 1, 1)
    assert told.FailedSOPInstanceUIDList == DAMAGED
    assert [(one.SOPInstanceUID, one.PixelData) for one in node.viewer.taken] == [(GOOD, PIXELS.tobytes())]


class Vanishing:
    """A peer whose connection ends in the middle of the second object. Implements ``ingest.services.Exchange``."""

    contexts = (Context(str(CTImageStorage), str(JPEGLSLossless), 3, peer_is_scp=True),)
    stopping = False

    def __init__(self) -> None:
        self.stored: list[str] = []

    def respond(self, status: int, data_set: bytes = b"", comment: str = "", elements: Mapping[int, bytes] = {}) -> None:
        raise AssertionError("there is nobody to answer")

    def cancelled(self) -> bool:
        return False

    def quiet(self, seconds: float) -> bool:
        raise NotImplementedError

    def report(self, event: int, data_set: bytes, sop_class_uid: str, sop_uid: str, heard: Callable[[int], None]) -> None:
        raise NotImplementedError

    def store(
        self, context: Context, sop_class_uid: str, sop_uid: str, data_set: Path, offset: int, originator: Any = None
    ) -> int:
        if self.stored:
            raise Lost("the connection broke")
        self.stored.append(sop_uid)
        return 0x0000


class Noting(Trail):
    """Keeps what it is told, in ``given``."""

    given: ClassVar[list[list[str]]] = []

    def gave(self, peer: str, host: str, given: Sequence[InstanceEntry]) -> None:
        self.given.append([one.sop_uid for one in given])


def test_what_a_peer_took_before_it_vanished_is_in_the_audit_trail(node: Node) -> None:
    auditor = Auditor.of(node.settings, node.files)
    service = GetService(
        node.db, node.files, permissions(node.settings), Noting(node.db, auditor), Transcoder(node.files, Limits(), 0)
    )
    content = BytesIO()
    dcmwrite(content, WHOLE_STUDY, implicit_vr=True, little_endian=True, enforce_file_format=False)
    context = Context("1.2.840.10008.5.1.4.1.2.2.3", str(ImplicitVRLittleEndian))
    request = Request(C_GET, 1, {}, context, content.getvalue(), Caller("ALL", "WETREAD", "127.0.0.1"))
    with pytest.raises(Lost):
        service.serve(request, Vanishing())
    assert Noting.given == [[GOOD]]
