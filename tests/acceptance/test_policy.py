"""Who may send, over the wire: rejected with the right reason, and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from .harness import dcmtk, films
from .harness.node import Node
from .harness.peers import SENDER

ALLOWED = [
    {"ae_title": SENDER, "hosts": ["127.0.0.1"]},
    {"ae_title": "ELSEWHERE", "hosts": ["192.0.2.0/24"]},  # TEST-NET-1: never us
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("policy"), listener={"allowed": ALLOWED, "max_associations": 3})
    try:
        node.start()
        yield node
    finally:
        node.end()


def test_a_known_caller_is_served(node: Node) -> None:
    output = dcmtk.echoscu(node.port)
    assert "Received Echo Response (Success)" in output.text


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        pytest.param("STRANGER", "WETREAD", "Calling AE Title Not Recognized", id="unknown calling AE title"),
        pytest.param("ELSEWHERE", "WETREAD", "Calling AE Title Not Recognized", id="known AE title, other host"),
        pytest.param(SENDER.lower(), "WETREAD", "Calling AE Title Not Recognized", id="AE titles differ by case"),
        pytest.param(SENDER, "OTHERNODE", "Called AE Title Not Recognized", id="wrong called AE title"),
    ],
)
def test_others_are_rejected_with_the_reason_and_an_event(node: Node, calling: str, called: str, reason: str) -> None:
    before = {event.id for event in node.events()}
    output = dcmtk.echoscu(node.port, calling=calling, called=called)
    assert "Association Rejected" in output.text, output.text
    assert reason in output.text
    new = [event for event in node.events() if event.id not in before]
    assert [(event.kind, event.calling_ae, event.host) for event in new] == [("rejected association", calling, "127.0.0.1")]


def test_one_association_more_than_the_limit_is_rejected_for_now(node: Node) -> None:
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(Verification)
    held = [entity.associate("127.0.0.1", node.port, ae_title="WETREAD") for _ in range(3)]
    try:
        assert all(association.is_established for association in held)
        output = dcmtk.echoscu(node.port)
        assert "Local Limit Exceeded" in output.text, output.text
        assert "Transient" in output.text
    finally:
        for association in held:
            association.release()
    assert "Received Echo Response (Success)" in dcmtk.echoscu(node.port).text


def test_at_the_disk_watermark_the_sender_is_told_out_of_resources(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", listener={"watermark_mb": 10**9})
    uid, film = films.film(tmp_path, 1, [])
    try:
        node.start()
        output = dcmtk.storescu(node.port, [film])
        assert "Refused: OutOfResources" in output.text, output.text
        assert dcmtk.accepted(output) == 0
        assert node.instances(uid) == ()
        assert any(event.kind == "refused instance" and "0xA700" in event.text for event in node.events())
    finally:
        node.end()
