from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE

from dicom_node.ingest.listener import Listener, ListenerSettings
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventRow, list_events
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import InstanceRow, find_instance
from tests.dicom_node.ingest.wire import Peer

LOCAL = (AllowedPeer("*", ("127.0.0.0/8",)),)


def make_dataset(sop_uid: str = "1.2.3.4", study_uid: str = "1.2", pixels: bytes = b"\1\2\3\4", **attributes: Any) -> Dataset:
    """A small secondary capture, 2 by 2."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, f"{study_uid}.1"
    ds.Modality, ds.PatientID, ds.BodyPartExamined = "OT", "phantom-1", "CHEST"
    ds.Rows = ds.Columns = 2
    ds.BitsAllocated, ds.PixelData = 8, pixels
    ds["PixelData"].VR = "OB"
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, sop_uid
    return ds


def encoded(ds: Dataset, implicit: bool = False, little: bool = True) -> bytes:
    """The data set alone, as it goes over the wire."""
    buffer = BytesIO()
    copy = Dataset(ds)
    write_dataset(_writer(buffer, implicit, little), copy)
    return buffer.getvalue()


def _writer(buffer: BytesIO, implicit: bool, little: bool) -> Any:
    from pydicom.filebase import DicomIO

    writer = DicomIO(buffer)
    writer.is_implicit_VR, writer.is_little_endian = implicit, little
    return writer


def save(ds: Dataset, path: Path) -> Path:
    dcmwrite(path, ds, enforce_file_format=True)
    return path


@dataclass
class Node:
    """A running listener and what it stores."""

    listener: Listener
    db: Database
    files: FileStore

    @property
    def port(self) -> int:
        return self.listener.port

    def rows(self, sop_uid: str) -> tuple[InstanceRow, ...]:
        with self.db.read() as conn:
            return find_instance(conn, sop_uid)

    def events(self) -> tuple[EventRow, ...]:
        with self.db.read() as conn:
            return list_events(conn, limit=1000)

    def partials(self) -> list[str]:
        return [path.name for path in (self.files.root / "spool").iterdir()]

    def associate(self, *contexts: tuple[str, Any], ae_title: str = "SENDER", called: str = "WETREAD") -> Any:
        ae = AE(ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        for sop_class, syntaxes in contexts or ((SecondaryCaptureImageStorage, ExplicitVRLittleEndian),):
            ae.add_requested_context(sop_class, syntaxes)
        return ae.associate("127.0.0.1", self.port, ae_title=called)

    def send(self, ds: Dataset, **how: Any) -> Dataset:
        association = self.associate(**how)
        assert association.is_established
        status = association.send_c_store(ds)
        association.release()
        return status


@pytest.fixture(autouse=True)
def _peers_hang_up() -> Iterator[None]:
    yield
    while Peer.all_open:
        Peer.all_open.pop().close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    started: list[Node] = []

    def begin(free_bytes: Callable[[Path], int] | None = None, **settings: Any) -> Node:
        db = Database.open(tmp_path / "node.sqlite")
        files = FileStore(tmp_path / "files", **({"free_bytes": free_bytes} if free_bytes else {}))
        base = ListenerSettings(port=0, allowed=LOCAL, watermark_bytes=0)
        node = Node(Listener(replace(base, **settings), db, files), db, files)
        node.listener.start()
        started.append(node)
        return node

    yield begin
    for node in started:
        node.listener.stop(grace_s=1.0)
        node.db.close()
    gc.collect()  # pynetdicom's own senders leave sockets of broken connections to it: here, not in a later test


@pytest.fixture(scope="session")
def make() -> Callable[..., Dataset]:
    return make_dataset


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def damaged_base() -> Callable[[bool], bytes]:
    both = {implicit: encoded(make_dataset(), implicit) for implicit in (False, True)}
    return both.__getitem__


@pytest.fixture
def send_file(tmp_path: Path) -> Callable[[Dataset], Path]:
    return lambda ds: save(ds, tmp_path / f"{ds.SOPInstanceUID}.dcm")
