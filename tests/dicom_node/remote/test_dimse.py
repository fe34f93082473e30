"""Archives that we call, against real listeners on the loopback: what counts as stored, as a later try, and as a refusal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, Verification

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.remote.dimse import DicomPeer, echo, is_accepted, store
from dicom_node.remote.sending import send_files
from tests.dicom_node.remote.scripted import Script, http_server
from tests.support import save

Handlers = list[tuple[Any, Callable[[Any], Any]]]
# pynetdicom drops a socket that could not connect without closing it
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def film() -> bytes:
    buffer = BytesIO()
    phantom_dx(1, [], size=64).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def listening(handlers: Handlers, prepare: Callable[[AE], None] | None = None) -> Iterator[DicomPeer]:
    """A real SCP that takes the phantom's SOP class and C-ECHO."""
    entity = AE(ae_title="PACS")
    entity.add_supported_context(Verification)
    entity.add_supported_context(DigitalXRayImageStorageForPresentation, [ExplicitVRLittleEndian])
    if prepare:
        prepare(entity)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield DicomPeer("127.0.0.1", server.server_address[1], "PACS", "WETREAD", 5)
    finally:
        server.shutdown()


def answering(status: int) -> Handlers:
    return [(evt.EVT_C_STORE, lambda _event: status)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


STORED = {"success": 0x0000, "coerced": 0xB000, "elements discarded": 0xB006, "class does not match, kept": 0xB007}


@pytest.mark.parametrize("status", STORED.values(), ids=STORED.keys())
def test_success_and_warnings_mean_stored(film: bytes, status: int) -> None:
    with listening(answering(status)) as peer:
        assert store(peer, film) == status


NOT_STORED = {
    "out of resources": (0xA700, PeerUnavailable),
    "out of resources, another code": (0xA702, PeerUnavailable),
    "processing failure": (0x0110, PeerUnavailable),
    "data set does not match": (0xA900, PeerRefused),
    "cannot understand": (0xC000, PeerRefused),
    "cannot understand, another code": (0xC123, PeerRefused),
    "SOP class not supported": (0x0122, PeerRefused),
    "not authorised": (0x0124, PeerRefused),
    "cancelled": (0xFE00, PeerRefused),
    "pending, which C-STORE has not": (0xFF00, PeerRefused),
}


@pytest.mark.parametrize(("status", "kind"), NOT_STORED.values(), ids=NOT_STORED.keys())
def test_a_failure_is_for_later_or_for_good(film: bytes, status: int, kind: type[Exception]) -> None:
    with listening(answering(status)) as peer, pytest.raises(kind) as caught:
        store(peer, film)
    assert type(caught.value) is kind
    assert f"status 0x{status:04X}" in str(caught.value)
    assert str(peer) in str(caught.value)


def test_what_arrives_is_what_was_given(film: bytes) -> None:
    came: list[bytes] = []

    def keep(event: Any) -> int:
        came.append(event.request.DataSet.getvalue())
        return 0

    with listening([(evt.EVT_C_STORE, keep)]) as peer:
        store(peer, film)
        store(peer, film)
    meta = dcmread(BytesIO(film), stop_before_pixels=True).file_meta
    data_set = film[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]
    assert came == [data_set, data_set]


def test_an_abort_in_the_middle_is_for_later(film: bytes) -> None:
    def abort(event: Any) -> int:
        event.assoc.abort()
        return 0

    with listening([(evt.EVT_C_STORE, abort)]) as peer, pytest.raises(PeerUnavailable, match="ended the association"):
        store(peer, film)


def test_no_answer_in_time_is_for_later(film: bytes) -> None:
    done = threading.Event()

    def silent(_event: Any) -> int:
        done.wait(20)
        return 0

    with listening([(evt.EVT_C_STORE, silent)]) as peer:
        try:
            with pytest.raises(PeerUnavailable, match="no answer to C-STORE within 1 s"):
                store(replace(peer, timeout_s=1), film)
        finally:
            done.set()


def only_called_as(title: str) -> Callable[[AE], None]:
    def prepare(entity: AE) -> None:
        entity.ae_title = title
        entity.require_called_aet = True

    return prepare


def only_calling_as(title: str) -> Callable[[AE], None]:
    def prepare(entity: AE) -> None:
        entity.require_calling_aet = [title]

    return prepare


REJECTIONS = {
    "calls another title": (only_called_as("OTHER"), "Called AE title not recogni"),
    "is not known there": (only_calling_as("FRIEND"), "Calling AE title not recogni"),
}


@pytest.mark.parametrize(("prepare", "reason"), REJECTIONS.values(), ids=REJECTIONS.keys())
def test_a_rejected_association_is_for_later_with_its_reason(film: bytes, prepare: Callable[[AE], None], reason: str) -> None:
    with listening(answering(0), prepare) as peer, pytest.raises(PeerUnavailable) as caught:
        store(peer, film)
    assert reason in str(caught.value)
    assert "is WETREAD known there?" in str(caught.value)


def test_a_peer_that_takes_no_such_class_refuses_for_good(film: bytes) -> None:
    with (
        listening(answering(0), lambda entity: entity.remove_supported_context(DigitalXRayImageStorageForPresentation)) as peer,
        pytest.raises(PeerRefused, match="accepts no"),
    ):
        store(peer, film)


def test_nobody_listening_is_for_later(film: bytes) -> None:
    peer = DicomPeer("127.0.0.1", free_port(), "PACS", "WETREAD", 2)
    with pytest.raises(PeerUnavailable, match="nothing listens there"):
        store(peer, film)
    with pytest.raises(PeerUnavailable, match="nothing listens there"):
        echo(peer)


def test_something_else_listening_is_for_later(film: bytes) -> None:
    """A web server on that port: it answers, but not in DICOM."""
    with http_server(Script()) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(PeerUnavailable):
            store(DicomPeer("127.0.0.1", port, "PACS", "WETREAD", 2), film)


def test_a_name_that_does_not_resolve_is_for_later() -> None:
    with pytest.raises(PeerUnavailable, match="is the host name right"):
        echo(DicomPeer("no-such-host.invalid", 104, "PACS", "WETREAD", 2))


def test_echo() -> None:
    with listening([]) as peer:
        echo(peer)
    with listening([(evt.EVT_C_ECHO, lambda _event: 0x0122)]) as peer, pytest.raises(PeerRefused, match="0x0122"):
        echo(peer)


@pytest.mark.parametrize(("status", "accepted"), [(0, True), (0xB000, True), (0xBFFF, True), (1, False), (0xA700, False)])
def test_is_accepted(status: int, accepted: bool) -> None:
    assert is_accepted(status) is accepted


def test_many_files_over_one_association_and_each_gets_its_answer(tmp_path: Path) -> None:
    files = [save(phantom_dx(seed, [], size=32), tmp_path / f"{seed}.dcm") for seed in range(3)]
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty.dcm").touch()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(files[0].read_bytes()[:140])
    implicit = phantom_dx(9, [], size=32)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    other = tmp_path / "implicit.dcm"
    implicit.save_as(other, enforce_file_format=True, implicit_vr=True, little_endian=True)
    associations: list[object] = []
    refused = str(dcmread(files[1]).SOPInstanceUID)
    handlers: Handlers = [
        (evt.EVT_C_STORE, lambda event: 0xC000 if event.request.AffectedSOPInstanceUID == refused else 0),
        (evt.EVT_ACCEPTED, associations.append),
    ]
    with listening(handlers) as peer:
        sent = {s.path.name: s for s in send_files(peer, [*files, tmp_path / "notes.txt", tmp_path / "empty.dcm", cut, other])}
    assert {name: s.status for name, s in sent.items()} == {
        "0.dcm": 0, "1.dcm": 0xC000, "2.dcm": 0, "notes.txt": None, "empty.dcm": None, "cut.dcm": None, "implicit.dcm": None,
    }  # fmt: skip
    assert "not a DICOM Part 10 file" in sent["notes.txt"].reason
    assert all(s.reason for s in sent.values() if s.status is None)
    assert [name for name, s in sent.items() if s.accepted] == ["0.dcm", "2.dcm"]
    assert len(associations) == 1


def test_files_after_the_peer_hung_up_are_told_as_not_sent(tmp_path: Path) -> None:
    files = [save(phantom_dx(seed, [], size=32), tmp_path / f"{seed}.dcm") for seed in range(3)]

    def hang_up(event: Any) -> int:
        event.assoc.abort()
        return 0

    with listening([(evt.EVT_C_STORE, hang_up)]) as peer:
        sent = list(send_files(peer, files))
    assert [s.accepted for s in sent] == [False] * 3
    assert all(s.reason for s in sent)


def test_more_kinds_than_one_association_can_propose(tmp_path: Path) -> None:
    """An association has 128 presentation contexts (PS3.8 9.3.2.2); 130 kinds of object need two."""
    files = []
    for number in range(130):
        film = phantom_dx(0, [], size=32)
        film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = f"1.2.826.0.1.3680043.8.498.1.{number + 1}"
        files.append(save(film, tmp_path / f"{number}.dcm"))
    associations: list[object] = []

    def prepare(entity: AE) -> None:
        entity.supported_contexts = []
        for number in range(130):
            entity.add_supported_context(f"1.2.826.0.1.3680043.8.498.1.{number + 1}", ExplicitVRLittleEndian)

    from pynetdicom import _config

    keep = _config.UNRESTRICTED_STORAGE_SERVICE
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    try:
        handlers: Handlers = [(evt.EVT_C_STORE, lambda _event: 0), (evt.EVT_ACCEPTED, associations.append)]
        with listening(handlers, prepare) as peer:
            sent = list(send_files(peer, files))
    finally:
        _config.UNRESTRICTED_STORAGE_SERVICE = keep
    assert [s.path for s in sent] == files
    assert len(associations) == 2
