"""Bytes of chance at the loop: every conversation ends, nothing is half-written, every failure has its reason."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.ingest import dimse
from dicom_node.ingest.line import Line
from dicom_node.storage.events import EventKind
from tests.dicom_node.ingest.wire import CT, RELEASE_RQ, VERIFICATION, Peer, associate_rq, command, data_set, p_data, pdv, store

Start = Callable[..., Any]
BIG = bytes(range(256)) * 4000  # a megabyte
STORE_BEGUN = p_data(pdv(1, 3, command(1, CT, "1.2.1"))) + p_data(pdv(1, 0, data_set("1.2.1")))


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, Line]]:
    one, other = socket.socketpair()
    line = Line(other, 5.0)
    try:
        yield one, line
    finally:
        one.close()
        line.close()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=3000), steps=st.lists(st.integers(1, 200)), ahead=st.integers(0, 300))
def test_the_line_gives_back_what_was_sent(data: bytes, steps: list[int], ahead: int) -> None:
    with _pair() as (peer, line):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        got = b""
        for step in steps:
            if len(got) + step <= len(data):
                got += bytes(line.fetch(step, ahead))
        assert got == data[: len(got)]
        assert line.received <= len(data)


uids = st.from_regex(r"[0-2](\.[0-9]{1,5}){0,8}", fullmatch=True)


@given(st.integers(0, 0x7FFF), st.integers(0, 0xFFFF), uids, uids, st.booleans(), st.integers(0, 0xFFFF))
def test_commands_written_by_hand_are_read(
    field: int, message_id: int, sop_class: str, uid: str, data: bool, status: int
) -> None:
    written = command(field, sop_class, uid, data=data, message_id=message_id)
    read = dimse.decode(written)
    if field == dimse.C_CANCEL:
        return
    assert read == dimse.Command(field, message_id, data, sop_class, uid)
    answer = dimse.elements(dimse.response(read, status, "why"))
    assert (answer[0x900], answer[0x902]) == (struct.pack("<H", status), b"why ")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_command_is_read_or_malformed(data: bytes) -> None:
    with suppress(dimse.Malformed):
        dimse.decode(data)


CONVERSATION = associate_rq() + b"".join(
    (
        p_data(pdv(3, 3, command(0x30, VERIFICATION, data=False))),
        store("1.2.1", data_set("1.2.1", pixels=BIG[:40_000]), step=7000),
        store("1.2.2", data_set("1.2.2")),
        RELEASE_RQ,
    )
)
mutations = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat", "length"]),
        st.integers(0, len(CONVERSATION) - 1),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def _mutate(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, piece in changes:
        if kind == "flip":
            data = data[:at] + piece[:1] + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + len(piece) ** 3 :]
        elif kind == "insert":
            data = data[:at] + piece + data[at:]
        elif kind == "repeat":
            data = data[:at] + data[max(at - 40, 0) :]
        else:
            data = data[:at] + piece[:4] + data[at + 4 :]
    return data


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations)
def test_mutated_conversations_end_and_harm_nothing(changes: list[tuple[str, int, bytes]], fuzzed: Any) -> None:
    _converse(fuzzed, _mutate(CONVERSATION, changes))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    beginning=st.sampled_from([b"", associate_rq(), associate_rq() + STORE_BEGUN]),
    kind=st.integers(0, 9),
    length=st.integers(0, 70000),
    body=st.binary(max_size=400),
)
def test_garbage_at_every_stage_ends_and_harms_nothing(
    fuzzed: Any, beginning: bytes, kind: int, length: int, body: bytes
) -> None:
    _converse(fuzzed, beginning + struct.pack(">BxI", kind, length) + body)


@pytest.fixture
def fuzzed(start: Start) -> Iterator[Any]:
    """One node for all examples; afterwards it still stores, nothing is half-written, and every failure has its reason."""
    node = start(idle_timeout_s=5.0, acse_timeout_s=5.0)
    yield node
    _until(lambda: not node.partials() and node.listener.associations == 0)
    peer = Peer.associated(node.port)
    peer.send(store("1.2.77", data_set("1.2.77")))
    assert peer.status() == 0
    peer.release()
    assert not [event.text for event in node.events() if "Internal failure" in event.text]
    assert any(event.kind is EventKind.ABORTED_ASSOCIATION for event in node.events())


def _converse(node: Any, sent: bytes) -> None:
    """Send it all and hang up; the node's side must end, too, within the peer's time-out."""
    peer = Peer.call(node.port)
    try:
        peer.send(sent)
        peer.line.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it was aborted before the end
    while peer.pdu()[0]:
        pass
    peer.close()


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
