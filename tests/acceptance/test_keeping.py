"""Retention, the audit trail and the drift watch of a real node, over the life of one study."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from pydicom import dcmread

from dicom_node.storage.drift import streams, waiting_keys
from tests.dicom_node.audit.repository import Repository, parsed

from .harness import dcmtk, films, sr
from .harness.node import Node, wetread
from .harness.outbox import certificate
from .harness.processes import wait_for

KINDS = {"110100": "activity", "110104": "transferred", "110105": "deleted", "110106": "export"}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    made = Repository((*certificate(tmp_path, "repository"), certificate(tmp_path, "node")[0]))
    yield made
    made.stop()


def _events(repository: Repository) -> list[str]:
    found = [etree.fromstring(parsed(line)[2].encode()) for line in repository.lines]
    return [KINDS.get(code := str(one.find(".//EventID").get("csd-code")), code) for one in found]


def _send(node: Node, path: Path) -> None:
    assert dcmtk.accepted(dcmtk.dcmsend(node.port, [path])) == 1


def test_a_study_is_audited_purged_and_read_again_honestly(tmp_path: Path, repository: Repository) -> None:
    where = {"kind": "tls", "host": "127.0.0.1", "port": repository.port}
    tls = {"ca_file": str(tmp_path / "repository.pem"), "certificate_file": str(tmp_path / "node.pem")}
    node = Node(
        tmp_path / "house",
        {"archive": {"kind": "folder", "path": "out"}},
        audit={"repository": {**where, "tls": {**tls, "key_file": str(tmp_path / "node.key")}}},
        retention={"images_days": 0.00001, "late_hours": 0.0},
        readings={"chest_xray": {"drafting": None}},  # what is said in a draft is not looked at here
        engine={"precision": "float32"},
    )
    uid, first = films.film(tmp_path, 31, [], number=1)
    _, late = films.film(tmp_path, 32, ["pneumothorax"], study_uid=uid, number=2)
    try:
        node.start()
        _send(node, first)
        node.wait_settled([uid])
        time.sleep(1)
        shown = wetread("purge", "--dry-run", "--json", "--config", node.config)
        assert json.loads(shown.stdout)["would_go"]["studies"] in (0, 1), shown.stderr  # the keeper may have been first
        assert wetread("purge", "--config", node.config).returncode == 0
        assert node.instances(uid) == ()
        assert [path for path in (node.data / "instances").rglob("*") if path.is_file()] == []
        _send(node, late)
        node.wait_settled([uid], revision=2)
        _the_second_reading_says_what_it_lacks(node, uid)
        wait_for("the audit trail", lambda: _events(repository).count("transferred") >= 2, seconds=40)
        told = _events(repository)
        assert {"activity", "transferred", "deleted", "export"} <= set(told)
        assert told.index("transferred") < told.index("deleted")
        assert "PHANTOM" not in node.running.output
        with node.database.read() as connection:
            waiting = sum(count for _, count, _ in waiting_keys(connection))
            assert waiting + sum(one.studies for one in streams(connection)) == 2
        assert wetread("drift", "show", "--config", node.config).returncode == 0
        assert node.stop() == 0
        wait_for("the stop", lambda: _events(repository).count("activity") >= 2, seconds=10)
    finally:
        node.end()


def _the_second_reading_says_what_it_lacks(node: Node, uid: str) -> None:
    rows = [row for row in node.documents(uid, 2) if row.sop_class_uid == sr.FINDINGS]
    assert rows
    text = dcmread(node.data / rows[0].path).to_json()
    assert "1 image that came earlier was removed" in text
