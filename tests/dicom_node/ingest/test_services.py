"""Other services on the port: commands whole, answers by the standard, C-CANCEL, sub-operations, and no harm to storing."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, build_role, evt

from dicom_node.ingest import services
from dicom_node.ingest.listener import Listener, ListenerSettings
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.ingest.services import Exchange, Request, Service
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.files import FileStore
from tests.dicom_node.ingest.conftest import encoded, make_dataset
from tests.dicom_node.ingest.wire import EXPLICIT, Peer, associate_rq, command, data_set, p_data, pdv, store

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of test_kill's senders, late

FIND, GET, PUSH = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.1.20.1"


class Recorded:
    """Does what ``act`` says, and remembers what it was asked."""

    def __init__(self, act: Callable[[Request, Exchange], None], *classes: str, gets: bool = False) -> None:
        self.sop_classes = frozenset(classes or (FIND,))
        self.transfer_syntaxes = (EXPLICIT,)
        self.gets = gets
        self.asked: list[Request] = []
        self._act = act

    def serve(self, request: Request, exchange: Exchange) -> None:
        self.asked.append(request)
        self._act(request, exchange)


@pytest.fixture
def serving(tmp_path: Path) -> Any:
    started: list[tuple[Listener, Database]] = []

    def begin(*offered: Service) -> Listener:
        def maker(_db: Database, _files: FileStore) -> Sequence[Service]:
            return offered

        db = Database.open(tmp_path / "node.sqlite")
        settings = ListenerSettings(port=0, allowed=(AllowedPeer("*", ("127.0.0.0/8",)),), watermark_bytes=0)
        listener = Listener(settings, db, FileStore(tmp_path / "files"), services=maker)
        listener.start()
        started.append((listener, db))
        return listener

    yield begin
    for listener, db in started:
        listener.stop(1.0)
        db.close()


def _peer(listener: Listener, **contexts: str) -> Peer:
    wanted = {1: "1.2.840.10008.5.1.4.1.1.2"} | {2 * n + 3: uid for n, uid in enumerate(contexts.values())}
    return Peer.associated(listener.port, associate_rq(wanted))


def test_pending_and_final_responses_with_their_identifiers(serving: Any) -> None:
    def act(_: Request, exchange: Exchange) -> None:
        exchange.respond(0xFF00, b"first!")
        exchange.respond(0xFF00, b"x" * 40_000, elements={0x1020: struct.pack("<H", 7)})
        exchange.respond(0x0000)

    service = Recorded(act)
    listener = serving(service)
    ae = AE("SENDER")
    ae.add_requested_context(FIND, ExplicitVRLittleEndian)
    peer = _peer(listener, find=FIND)
    peer.send(p_data(pdv(3, 3, command(0x20, FIND))) + p_data(pdv(3, 0, b"query ")) + p_data(pdv(3, 2, b"rest")))
    (status, first), (_, second), (final, nothing) = (_answer(peer) for _ in range(3))
    assert (status[0x900], status[0x800], first) == (b"\x00\xff", b"\x01\x00", b"first!")
    assert second == b"x" * 40_000
    assert (final[0x900], final[0x800], final[0x100], final[0x120], nothing) == (
        b"\0\0",
        b"\x01\x01",
        b"\x20\x80",
        b"\7\0",
        b"",
    )
    assert final[0x002] == FIND.encode() + b"\0" * (len(FIND) % 2)
    (asked,) = service.asked
    assert (asked.field, asked.message_id, asked.data_set, asked.caller.calling_ae) == (0x20, 7, b"query rest", "SENDER")
    assert asked.context.abstract_syntax == FIND
    peer.send(store("1.2.1", data_set("1.2.1")))
    assert peer.status() == 0
    peer.release()


def _answer(peer: Peer) -> tuple[dict[int, bytes], bytes]:
    """A response and its data set."""
    values = peer.response()
    content = b""
    while values[0x800] != b"\x01\x01":
        _, body = peer.pdu()
        content += body[6:]
        if body[5] & 2:
            break
    return values, content


def test_a_cancel_is_seen_between_pending_responses(serving: Any) -> None:
    def act(_: Request, exchange: Exchange) -> None:
        while not exchange.cancelled():
            exchange.respond(0xFF00, b"more")
            time.sleep(0.01)
        exchange.respond(0xFE00)

    peer = _peer(serving(Recorded(act)), find=FIND)
    peer.send(p_data(pdv(3, 3, command(0x20, FIND))) + p_data(pdv(3, 2, b"query ")))
    assert _answer(peer)[0][0x900] == b"\x00\xff"
    peer.send(p_data(pdv(3, 3, _cancel(99))) + p_data(pdv(3, 3, _cancel(7))))
    while (status := _answer(peer)[0][0x900]) == b"\x00\xff":
        pass
    assert status == b"\x00\xfe"
    peer.release()


def _cancel(message_id: int) -> bytes:
    from tests.dicom_node.ingest.wire import element

    body = element(0x100, b"\xff\x0f") + element(0x120, struct.pack("<H", message_id)) + element(0x800, b"\x01\x01")
    return element(0, struct.pack("<I", len(body))) + body


@pytest.mark.parametrize("answers", [True, False], ids=["raises after its answer", "raises before any answer"])
def test_a_service_that_fails_is_answered_for_and_told(serving: Any, tmp_path: Path, answers: bool) -> None:
    def act(_: Request, exchange: Exchange) -> None:
        if answers:
            exchange.respond(0x0000)
        raise ZeroDivisionError("patient text")

    listener = serving(Recorded(act))
    peer = _peer(listener, find=FIND)
    for _ in range(2):
        peer.send(p_data(pdv(3, 3, command(0x20, FIND))) + p_data(pdv(3, 2, b"query ")))
        assert _answer(peer)[0][0x900] == (b"\0\0" if answers else b"\x10\x01")
    peer.release()
    with Database.open(tmp_path / "node.sqlite").read() as conn:
        events = list_events(conn)
    assert {event.kind for event in events} == {EventKind.FAILURE}
    assert "patient text" not in events[0].text


def test_a_request_that_is_too_large_is_refused_and_the_next_is_served(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_node.ingest import association

    monkeypatch.setattr(association, "MAX_DATA_SET", 50_000)
    service = Recorded(lambda _, exchange: exchange.respond(0))
    peer = _peer(serving(service), find=FIND)
    pieces = b"".join(p_data(pdv(3, 2 * (n == 5), bytes(10_000))) for n in range(6))
    peer.send(p_data(pdv(3, 3, command(0x20, FIND))) + pieces)
    assert _answer(peer)[0][0x900] == b"\x00\xa7"
    peer.send(p_data(pdv(3, 3, command(0x20, FIND))) + p_data(pdv(3, 2, b"query ")))
    assert _answer(peer)[0][0x900] == b"\0\0"
    assert [len(asked.data_set) for asked in service.asked] == [6]
    peer.release()


def test_an_action_without_affected_uids_is_answered_with_those_requested(serving: Any) -> None:
    """N-ACTION has Requested SOP Class and Instance UID; its response the Affected ones (PS3.7 10.1.4)."""
    from tests.dicom_node.ingest.wire import element, even

    service = Recorded(lambda _, exchange: exchange.respond(0, elements={0x1008: b"\x01\x00"}), PUSH)
    peer = _peer(serving(service), push=PUSH)
    body = element(3, even(PUSH)) + element(0x100, b"\x30\x01") + element(0x110, b"\5\0") + element(0x800, b"\1\0")
    body += element(0x1001, even("1.2.840.10008.1.20.1.1")) + element(0x1008, b"\1\0")
    peer.send(p_data(pdv(3, 3, element(0, struct.pack("<I", len(body))) + body)) + p_data(pdv(3, 2, b"info")))
    values, _ = _answer(peer)
    assert (values[0x002].rstrip(b"\0").decode(), values[0x100], values[0x1000]) == (
        PUSH,
        b"\x30\x81",
        even("1.2.840.10008.1.20.1.1"),
    )
    assert service.asked[0].elements[0x1008] == b"\1\0"
    peer.release()


def test_a_c_get_of_pynetdicom_brings_the_file_by_role_selection(serving: Any, tmp_path: Path) -> None:
    ds = make_dataset(pixels=bytes(range(256)) * 2000)
    file = tmp_path / "one.bin"
    file.write_bytes(b"head" + encoded(ds))

    def act(_: Request, exchange: Exchange) -> None:
        (target,) = [one for one in exchange.contexts if one.peer_is_scp]
        status = exchange.store(target, SecondaryCaptureImageStorage, "1.2.3.4", file, 4)
        done = {0x1020: 0, 0x1021: status == 0, 0x1022: status != 0, 0x1023: 0}
        exchange.respond(0 if status == 0 else 0xA702, elements={tag: struct.pack("<H", n) for tag, n in done.items()})

    got: list[Dataset] = []

    def keep(event: Any) -> int:
        got.append(event.dataset)
        return 0

    listener = serving(Recorded(act, GET, gets=True))
    ae = AE("SENDER")
    ae.add_requested_context(GET, ExplicitVRLittleEndian)
    ae.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    roles = [build_role(SecondaryCaptureImageStorage, scp_role=True)]
    association = ae.associate(
        "127.0.0.1", listener.port, ae_title="WETREAD", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    assert association.is_established
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2"
    statuses = [status for status, _ in association.send_c_get(query, GET)]
    association.release()
    assert [status.Status for status in statuses] == [0]
    assert statuses[0].NumberOfCompletedSuboperations == 1
    assert [one.PixelData for one in got] == [ds.PixelData]


def test_storing_where_the_peer_is_only_scp_is_refused(serving: Any) -> None:
    from tests.dicom_node.ingest.wire import CT, item

    listener = serving(Recorded(lambda _, exchange: exchange.respond(0), GET, gets=True))
    role = item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\0\1")
    request = associate_rq({1: CT, 3: GET})
    body = request[6:]
    at = body.index(b"\x50\x00")  # user information
    length = struct.unpack_from(">H", body, at + 2)[0]
    body = body[: at + 2] + struct.pack(">H", length + len(role)) + body[at + 4 :] + role
    peer = Peer.associated(listener.port, struct.pack(">BxI", 1, len(body)) + body)
    peer.send(store("1.2.1", data_set("1.2.1")))
    assert peer.status() == 0x0122
    peer.release()


def test_the_seam_knows_what_a_data_set_may_hold() -> None:
    assert services.MAX_DATA_SET >= 100_000 * 150
