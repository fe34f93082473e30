"""The loop of an association, byte by byte: what it takes, what it refuses, with which source and reason it aborts."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dicom_node.ingest import pdu, server
from dicom_node.storage.events import EventKind
from tests.dicom_node.ingest.wire import (
    ABORT,
    CT,
    RELEASE_RQ,
    VERIFICATION,
    Peer,
    associate_rq,
    command,
    data_set,
    element,
    p_data,
    pdv,
    store,
)

Start = Callable[..., Any]
BIG = bytes(range(256)) * 4000  # a megabyte


def _stored(node: Any, uid: str) -> bytes:
    (row,) = node.rows(uid)
    return bytes(node.files.path(row.path).read_bytes()[-row.size :])


@pytest.mark.parametrize("step", [2, 254, 8192, 8193, 16000, 131066])
def test_fragments_of_any_size_make_the_same_object(start: Start, step: int) -> None:
    node = start()
    data = data_set("1.2.1", pixels=BIG[: step * 300 if step < 8000 else len(BIG)])
    peer = Peer.associated(node.port)
    peer.send(store("1.2.1", data, step=step))
    assert peer.status() == 0
    peer.release()
    assert _stored(node, "1.2.1") == data


def test_all_pdvs_in_one_pdu_and_a_message_in_pieces_of_one_byte(start: Start) -> None:
    node = start()
    data = data_set("1.2.1")
    peer = Peer.associated(node.port)
    request = command(1, CT, "1.2.1")
    peer.send(
        p_data(pdv(1, 1, request[:50]), pdv(1, 3, request[50:]), pdv(1, 0, data[:9]), pdv(1, 0, b""), pdv(1, 2, data[9:]))
    )
    assert peer.status() == 0
    for byte in store("1.2.2", data_set("1.2.2")) + p_data(pdv(3, 3, command(0x30, VERIFICATION, data=False))):
        peer.send(bytes([byte]))
    assert [peer.status(), peer.status()] == [0, 0]
    peer.release()
    assert (_stored(node, "1.2.1"), _stored(node, "1.2.2")) == (data, data_set("1.2.2"))


def test_a_sender_that_does_not_wait_is_answered_in_order(start: Start) -> None:
    node = start()
    peer = Peer.associated(node.port)
    peer.send(b"".join(store(f"1.2.{n}", data_set(f"1.2.{n}", pixels=BIG[:20_000])) for n in range(1, 20)) + RELEASE_RQ)
    answers = [peer.response() for _ in range(19)]
    assert [answer[0x1000].rstrip(b"\0").decode() for answer in answers] == [f"1.2.{n}" for n in range(1, 20)]
    assert peer.pdu()[0] == 6


def test_a_success_repeats_the_request(start: Start) -> None:
    node = start()
    peer = Peer.associated(node.port)
    peer.send(store("1.2.1", data_set("1.2.1")))
    answer = peer.response()
    length = answer.pop(0)
    assert answer == {
        0x0002: CT.encode() + b"\0",
        0x0100: b"\x01\x80",
        0x0120: b"\7\0",
        0x0800: b"\x01\x01",
        0x0900: b"\0\0",
        0x1000: b"1.2.1\0",
    }
    assert struct.unpack("<I", length)[0] == sum(8 + len(value) for value in answer.values())


def test_responses_fit_the_peers_pdus(start: Start) -> None:
    node = start()
    peer = Peer.associated(node.port, associate_rq(max_pdu=64))
    peer.send(p_data(pdv(3, 3, command(0x30, VERIFICATION, data=False))))
    parts = []
    while True:
        kind, body = peer.pdu()
        assert (kind, body[4] == 3, len(body) <= 64) == (4, True, True)
        parts.append(body[6:])
        if body[5] & 2:
            break
    assert len(parts) > 1
    assert element(0x900, b"\0\0") in b"".join(parts)
    peer.release()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(command(0x20, CT), 0x0122, id="C-FIND"),
        pytest.param(command(0x21, CT), 0x0122, id="C-MOVE"),
        pytest.param(command(0x140, CT, data=False), 0x0122, id="N-CREATE without a data set"),
        pytest.param(command(0x77, CT), 0x0211, id="no operation of DICOM"),
        pytest.param(command(0x30, VERIFICATION, data=False), 0x0122, id="C-ECHO where storage was agreed"),
    ],
)
def test_other_operations_are_refused_and_the_association_goes_on(start: Start, request_: bytes, status: int) -> None:
    node = start()
    peer = Peer.associated(node.port)
    has_data = element(0x800, b"\1\0") in request_
    peer.send(p_data(pdv(1, 3, request_)) + (p_data(pdv(1, 2, BIG[:9000])) if has_data else b""))
    answer = peer.response()
    assert (int.from_bytes(answer[0x900], "little"), answer[0x902]) == (status, COMMENT)
    peer.send(p_data(pdv(1, 3, command(0x0FFF, CT, data=False))))  # C-CANCEL: no response
    peer.send(store("1.2.1", data_set("1.2.1")))
    assert peer.status() == 0
    peer.release()


def test_a_store_without_a_data_set_is_refused(start: Start) -> None:
    node = start()
    peer = Peer.associated(node.port)
    peer.send(p_data(pdv(1, 3, command(1, CT, "1.2.1", data=False))))
    assert peer.status() == 0xC001
    peer.release()


COMMENT = b"This node offers C-ECHO and C-STORE "
STORE_BEGUN = p_data(pdv(1, 3, command(1, CT, "1.2.1"))) + p_data(pdv(1, 0, data_set("1.2.1")))


@pytest.mark.parametrize(
    ("sent", "ending"),
    [
        pytest.param(b"\x99\0\0\0\0\4abcd", (2, 1), id="unknown PDU"),
        pytest.param(associate_rq(), (2, 2), id="a second association request"),
        pytest.param(struct.pack(">BxI4x", 6, 4), (2, 2), id="a release response"),
        pytest.param(struct.pack(">BxI8x", 5, 8), (2, 6), id="a release of another length"),
        pytest.param(struct.pack(">BxI", 4, 131072 + 13), (2, 6), id="a PDU longer than agreed"),
        pytest.param(struct.pack(">BxI", 4, 0xFFFFFFFF), (2, 6), id="a PDU of 4 GB"),
        pytest.param(p_data(), (2, 6), id="a PDU without an item"),
        pytest.param(p_data(b"\0\0\0\1\1\3"), (2, 6), id="an item shorter than its own head"),
        pytest.param(p_data(b"\0\0\0\0\1\3"), (2, 6), id="an item of no length"),
        pytest.param(p_data(b"\xff\xff\xff\xff\1\3"), (2, 6), id="an item longer than its PDU"),
        pytest.param(p_data(pdv(1, 1, b"ab") + b"\0\0\0"), (2, 6), id="three bytes after the item"),
        pytest.param(p_data(pdv(5, 3, command(1, CT))), (2, 6), id="a context that was not proposed"),
        pytest.param(p_data(pdv(0, 3, command(1, CT))), (2, 6), id="context 0"),
        pytest.param(p_data(pdv(1, 2, b"abcd")), (2, 5), id="a data set without a command"),
        pytest.param(STORE_BEGUN + p_data(pdv(1, 3, command(1, CT))), (2, 5), id="a command within a data set"),
        pytest.param(STORE_BEGUN + p_data(pdv(3, 2, b"ab")), (2, 5), id="another context within a data set"),
        pytest.param(p_data(pdv(1, 1, b"ab"), pdv(3, 3, b"cd")), (2, 5), id="another context within a command"),
        pytest.param(STORE_BEGUN + RELEASE_RQ, (2, 2), id="a release within a data set"),
        pytest.param(p_data(pdv(1, 1, bytes(9000))) + p_data(pdv(1, 1, bytes(9000))), (2, 6), id="an endless command"),
        pytest.param(p_data(pdv(1, 3, b"\xff" * 40)), (0, 0), id="a command of garbage"),
        pytest.param(p_data(pdv(1, 3, b"")), (0, 0), id="an empty command"),
        pytest.param(p_data(pdv(1, 3, command(1, CT)[:-1])), (0, 0), id="a command cut off"),
        pytest.param(p_data(pdv(1, 3, element(0x110, b"\1\0") + element(0x100, b"\1\0"))), (0, 0), id="out of order"),
        pytest.param(p_data(pdv(1, 3, command(0x8001, CT, data=False))), (0, 0), id="a response"),
        pytest.param(p_data(pdv(1, 3, element(0x100, b"\1\0"))), (0, 0), id="no message ID"),
        pytest.param(ABORT, None, id="an abort"),
        pytest.param(STORE_BEGUN + ABORT, None, id="an abort within a data set"),
    ],
)
def test_what_breaks_the_protocol_is_aborted_with_the_reason(start: Start, sent: bytes, ending: tuple[int, int] | None) -> None:
    node = start()
    peer = Peer.associated(node.port)
    peer.send(sent)
    assert peer.ended() == ending
    _until(lambda: node.listener.associations == 0)
    _until(lambda: not node.partials())
    (event,) = node.events()
    assert (event.kind, event.calling_ae, event.host) == (EventKind.ABORTED_ASSOCIATION, "SENDER", "127.0.0.1")
    peer.close()
    assert node.rows("1.2.1") == ()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        pytest.param(associate_rq(version=2), (3, (1, 2, 2)), id="another protocol version"),
        pytest.param(associate_rq(application="1.2.3"), (3, (1, 1, 2)), id="another application context"),
        pytest.param(p_data(pdv(1, 3, b"ab")), (7, (0, 0, 0)), id="data before the association"),
        pytest.param(b"\x01\0\x7f\xff\xff\xff" + bytes(70), (7, (0, 0, 0)), id="a request of 2 GB"),
        pytest.param(b"\x01\0\0\0\0\x44" + bytes(68), (7, (0, 0, 0)), id="a request of zeros"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", (7, (0, 0, 0)), id="a web browser"),
    ],
)
def test_what_is_no_association_request(start: Start, sent: bytes, answer: tuple[int, tuple[int, int, int]]) -> None:
    node = start()
    peer = Peer.call(node.port)
    peer.send(sent)
    kind, body = peer.pdu()
    assert (kind, tuple(body[1:])) == answer
    assert peer.pdu()[0] == 0
    peer.close()
    _until(lambda: len(node.events()) == 1)


def test_silence_ends_each_stage_in_its_time(start: Start) -> None:
    node = start(acse_timeout_s=0.3, idle_timeout_s=0.4)
    before = [Peer.call(node.port), Peer.call(node.port)]
    before[1].send(associate_rq()[:40])
    idle, half = Peer.associated(node.port), Peer.associated(node.port)
    half.send(store("1.2.1", data_set("1.2.1", pixels=BIG))[:500_000])
    begun = time.monotonic()
    assert [peer.ended() for peer in before] == [None, None]
    assert (idle.ended(), half.ended()) == ((0, 0), (0, 0))
    assert time.monotonic() - begun < 5
    _until(lambda: not node.partials() and node.listener.associations == 0)
    assert {event.text for event in node.events()} == {
        "No association request: nothing came in time",
        "Aborted: nothing came in time",
    }
    for peer in (*before, idle, half):
        peer.close()


def test_a_sender_that_drips_is_aborted(start: Start) -> None:
    """Slow loris: a byte at a time, always in time for the next read."""
    node = start(idle_timeout_s=0.5)
    peer = Peer.associated(node.port)
    stop = threading.Event()

    def drip() -> None:
        for byte in store("1.2.1", data_set("1.2.1", pixels=BIG)):
            if stop.wait(0.05):
                return
            try:
                peer.send(bytes([byte]))
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    assert peer.ended() in ((0, 0), None)
    stop.set()
    dripping.join()
    peer.close()
    _until(lambda: node.listener.associations == 0)
    assert [event.text for event in node.events()] == ["Aborted: the peer sends too slowly"]


def test_a_slow_line_that_keeps_coming_is_served(start: Start) -> None:
    node = start(idle_timeout_s=0.5)
    data = data_set("1.2.1", pixels=BIG[:100_000])
    peer = Peer.associated(node.port)
    sent = store("1.2.1", data, step=2000)
    for at in range(0, len(sent), 5000):
        peer.send(sent[at : at + 5000])
        time.sleep(0.04)
    assert peer.status() == 0
    peer.release()
    assert _stored(node, "1.2.1") == data


def test_idle_associations_cost_nothing(start: Start) -> None:
    node = start()
    peers = [Peer.associated(node.port) for _ in range(64)]
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.05  # of a core; a poll each millisecond takes all of it
    assert node.listener.associations == 64
    for peer in peers:
        peer.release()


def test_more_strangers_than_there_is_room_for_cost_the_oldest(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MAX_STRANGERS", 5)
    node = start()
    peers = [Peer.call(node.port) for _ in range(8)]
    assert [peer.ended() for peer in peers[:3]] == [None] * 3
    peers[-1].send(associate_rq())
    assert peers[-1].pdu()[0] == 2
    for peer in peers:
        peer.close()


def test_reasons_are_those_of_the_standard() -> None:
    """PS3.8 table 9-26."""
    assert pdu.abort(2, 6) == b"\x07\0\0\0\0\x04\0\0\x02\x06"
    assert pdu.abort(0, 6) == b"\x07\0\0\0\0\x04\0\0\0\0"
    assert pdu.reject(1, 1, 3) == b"\x03\0\0\0\0\x04\0\x01\x01\x03"


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
