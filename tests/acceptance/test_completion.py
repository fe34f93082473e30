"""A study is read as soon as the archive that was asked has no more of it than the node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.errors import PeerUnavailable
from dicom_node.remote.counting import count_by_find, count_by_qido
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.http import HttpPeer
from dicom_node.storage.jobs import JobKind

from .harness import dcmtk, films
from .harness.node import Node, wetread
from .harness.outbox import Archive
from .harness.peers import SENDER
from .harness.processes import wait_for


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    peer = Archive(tmp_path_factory.mktemp("archive"), {"WETREAD": 1, SENDER: 1})
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def dicom_peer(archive: Archive) -> DicomPeer:
    return DicomPeer("127.0.0.1", archive.dicom_port, archive.ae_title, "WETREAD", 10)


def study_of(count: int, folder: Path, seed: int) -> tuple[str, list[Path]]:
    uid, first = films.film(folder, seed, [], number=1)
    return uid, [first, *(films.film(folder, seed + n, [], study_uid=uid, number=n + 1)[1] for n in range(1, count))]


def test_orthanc_is_asked_by_both_ways_and_tells_the_same(archive: Archive, tmp_path: Path) -> None:
    archive.require_dicomweb()
    uid, paths = study_of(3, tmp_path, 500)
    ways = [
        lambda study: count_by_find(dicom_peer(archive), study),
        lambda study: count_by_qido(HttpPeer(f"{archive.url}/dicom-web", timeout_s=10), study),
    ]
    assert [way(uid) for way in ways] == [0, 0]
    assert dcmtk.accepted(dcmtk.dcmsend(archive.dicom_port, paths, called=archive.ae_title)) == 3
    assert [way(uid) for way in ways] == [3, 3]


def test_the_node_waits_for_what_the_archive_has_and_no_longer(archive: Archive, tmp_path: Path) -> None:
    uid, paths = study_of(3, tmp_path, 510)
    assert dcmtk.accepted(dcmtk.dcmsend(archive.dicom_port, paths, called=archive.ae_title)) == 3
    asked = {"kind": "dicom", "host": "127.0.0.1", "port": archive.dicom_port, "ae_title": archive.ae_title}
    node = Node(tmp_path / "node", {}, study={"quiet_seconds": 300, "settle_seconds": 1, "archive": asked})
    try:
        node.start()
        assert dcmtk.accepted(dcmtk.dcmsend(node.port, paths[:2])) == 2
        time.sleep(3)
        assert node.jobs(uid, JobKind.READ) == []
        assert dcmtk.accepted(dcmtk.dcmsend(node.port, paths[2:])) == 1
        last = time.monotonic()
        wait_for("the study to be complete", lambda: node.jobs(uid, JobKind.READ), seconds=30)
        assert time.monotonic() - last < 10  # long before the quiet time of 300 s; the benchmark has the figure
        assert len(node.jobs(uid, JobKind.READ)) == 1
        assert "archive: asked for a study it cannot have, it counts 0" in wetread("check", "--config", node.config).stdout
    finally:
        node.end()


def test_an_archive_that_refuses_the_question_is_for_later() -> None:
    """It answers with a failure status, PS3.4 C.4.1.1.4."""
    entity = AE("PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    refuses = [(evt.EVT_C_FIND, lambda _: iter([(0xA700, None)]))]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=refuses)
    try:
        with pytest.raises(PeerUnavailable, match="0xA700"):
            count_by_find(DicomPeer("127.0.0.1", server.server_address[1], "PACS", "WETREAD", 5), "1.2")
    finally:
        server.shutdown()
