"""A sender that sends what no good sender would: any bytes as a data set, under any SOP class, and plain garbage."""

from __future__ import annotations

import select
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_file_meta_info, read_preamble
from pydicom.uid import ImplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from .peers import SENDER


@dataclass(frozen=True, slots=True)
class Parcel:
    """A data set as bytes, and what the sender says of it."""

    name: str
    sop_class: str
    sop_instance: str
    syntax: str
    content: bytes
    study_uid: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` of the C-STORE response; None with ``why`` where none came."""

    status: int | None
    comment: str = ""
    why: str = ""


def parcel(path: Path) -> Parcel:
    """A file made ready for the wire without touching its data set; what it does not say is made up."""
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            meta = read_file_meta_info(path)
            body = _after_meta(content)
        except (InvalidDicomError, ValueError, OSError, AttributeError):
            meta, body = FileMetaDataset(), content
        header = _header(path)
        sop_class = str(meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or SecondaryCaptureImageStorage)
        sop_instance = str(meta.get("MediaStorageSOPInstanceUID") or header.get("SOPInstanceUID") or generate_uid())
        syntax = str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
        return Parcel(path.name, sop_class, sop_instance, syntax, body, str(header.get("StudyInstanceUID") or ""))


def store_raw(port: int, sent: Parcel, *, timeout: float = 30) -> Answer:
    """C-STORE the bytes as they are, on an association of its own."""
    entity = AE(ae_title=SENDER)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entity.add_requested_context(sent.sop_class, sent.syntax)
        association = entity.associate("127.0.0.1", port, ae_title="WETREAD", max_pdu=131072)
        if not association.is_established:
            return Answer(None, why="context refused" if association.rejected_contexts else "no association")
        try:
            return _exchange(association, sent)
        finally:
            association.release()


def poke(port: int, content: bytes) -> None:
    """Connect, send bytes, hang up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(content)
            connection.settimeout(0.5)
            connection.recv(4096)
        except OSError:
            return  # the peer may end it first


@contextmanager
def cut_line(port: int, after: int) -> Iterator[int]:
    """A port whose line to ``port`` breaks when ``after`` bytes have gone from the caller to the node."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_forward, args=(server, port, after), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


def _forward(server: socket.socket, port: int, left: int) -> None:
    caller, _ = server.accept()
    with caller, socket.create_connection(("127.0.0.1", port)) as node:
        while left > 0:
            for ready in select.select([caller, node], [], [], 20)[0]:
                content = ready.recv(min(left, 65536))
                if not content:
                    return
                (node if ready is caller else caller).sendall(content)
                left -= len(content) if ready is caller else 0


def _exchange(association: object, sent: Parcel) -> Answer:
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sent.sop_class
    request.AffectedSOPInstanceUID = sent.sop_instance
    request.Priority = 2
    request.DataSet = BytesIO(sent.content)
    context = association.accepted_contexts[0].context_id  # type: ignore[attr-defined]
    association._reactor_checkpoint.clear()  # type: ignore[attr-defined]  # as pynetdicom's own send_c_store does
    try:
        association.dimse.send_msg(request, context)  # type: ignore[attr-defined]
        _, response = association.dimse.get_msg(block=True)  # type: ignore[attr-defined]
    finally:
        association._reactor_checkpoint.set()  # type: ignore[attr-defined]
    if response is None or response.Status is None:
        return Answer(None, why="association ended without an answer")
    return Answer(int(response.Status), comment=str(response.ErrorComment or ""))


def _after_meta(content: bytes) -> bytes:
    stream = BytesIO(content)
    read_preamble(stream, force=False)
    _read_file_meta_info(stream)
    return content[stream.tell() :]


def _header(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception:  # noqa: BLE001  a broken file is what this sender is for
        return pydicom.Dataset()
