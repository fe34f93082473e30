"""The worker as a process: findings before the draft, power that fails between the two, and models that cannot be used."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dicom_node.storage.jobs import JobKind, JobState
from inference.phantoms import bundle_folder

from .harness import dcmtk, films, sr
from .harness.node import Node
from .harness.processes import wait_for

FIRST = '"findings sent before the draft"'
KINDS = ["findings-sr", "draft-sr", "heat-map", "fhir-bundle", "hl7-oru"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    archive = {"kind": "folder", "path": str(tmp_path / "archive"), "documents": KINDS}
    node = Node(tmp_path / "node", {"archive": archive})
    yield node
    node.end()


def _send(node: Node, folder: Path, count: int) -> list[str]:
    """Films with a pneumothorax, which is a STAT finding."""
    made = [films.film(folder, seed, ["pneumothorax"]) for seed in range(31, 31 + count)]
    output = dcmtk.dcmsend(node.port, [path for _, path in made])
    assert dcmtk.accepted(output) == count, output.text
    return [uid for uid, _ in made]


def _held(archive: Path, kind: str) -> dict[str, Any]:
    """What the archive holds of a kind, by its study."""
    paths = archive.glob(f"{kind}-*")
    if kind == "fhir-bundle":
        return {_study_of(bundle): bundle for bundle in (json.loads(path.read_text()) for path in paths)}
    if kind == "hl7-oru":
        return {path.read_text().split("Study Instance UID^DCM||")[1].split("|")[0]: path.read_text() for path in paths}
    return {str(ds.StudyInstanceUID): ds for ds in (dcmread(path) for path in paths)}


def _study_of(bundle: dict[str, Any]) -> str:
    study = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "ImagingStudy")
    return str(study["identifier"][0]["value"]).removeprefix("urn:oid:")


def _report(bundle: dict[str, Any]) -> dict[str, Any]:
    return next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")


def _composites(draft: Dataset) -> list[str]:
    named = [item for item in sr.items(draft) if item.ValueType == "COMPOSITE"]
    return [str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in named]


def test_findings_go_first_and_power_that_fails_in_between_loses_and_doubles_nothing(node: Node, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    node.start()
    node.wait_until_working()
    studies = _send(node, tmp_path / "films", 4)
    wait_for("findings before their draft", lambda: FIRST in node.running.output, seconds=60, every=0.002)
    node.running.kill_session()
    between = [result for uid in studies for result in node.results(uid) if result["draft"]["pending"]]
    assert between, "killed too late to prove anything"
    before = {uid: {d.uid: d.sha256 for d in node.documents(uid)} for uid in studies}

    node.start()
    node.wait_settled(studies, seconds=180)
    for uid in studies:
        documents = node.documents(uid)
        assert before[uid].items() <= {d.uid: d.sha256 for d in documents}.items(), "what was sent has changed"
        assert [d.kind for d in documents].count("findings-sr") == [d.kind for d in documents].count("draft-sr") == 1
        (result,) = node.results(uid)
        assert result["draft"]["sentences"]
        assert not result["draft"]["pending"]
        assert all(job.state is JobState.DONE for job in node.jobs(uid))
        keys = [job.idempotency_key for job in node.jobs(uid, JobKind.DELIVER)]
        assert len(keys) == len(set(keys))
    _check_archive(archive, studies)
    assert node.stop() == 0


def _check_archive(archive: Path, studies: list[str]) -> None:
    """One document of each kind of each study, the whole ones, which belong together."""
    held = {kind: _held(archive, kind) for kind in KINDS}
    assert all(set(found) == set(studies) for found in held.values())
    assert len(list(archive.glob("fhir-bundle-*"))) == len(list(archive.glob("hl7-oru-*"))) == len(studies)
    for uid in studies:
        findings, draft = held["findings-sr"][uid], held["draft-sr"][uid]
        assert sr.presences(findings)["Pneumothorax"] == "Present"
        assert _composites(draft) == [str(findings.SOPInstanceUID)]
        assert "still being written" not in _report(held["fhir-bundle"][uid])["conclusion"]
        assert "still being written" not in held["hl7-oru"][uid]


def test_damaged_weights_are_told_once_and_mended_ones_are_read_with(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_folder("biomedclip"), bundle)
    weights = next(path for path in bundle.rglob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-64] + bytes(64))
    archive = {"kind": "folder", "path": str(tmp_path / "archive"), "documents": KINDS}
    node = Node(tmp_path / "node", {"archive": archive}, readings={"chest_xray": {"triage": str(bundle)}})
    try:
        node.start()
        wait_for("the refusal", lambda: "No study is read" in node.running.output, seconds=120)
        (uid,) = _send(node, tmp_path / "films", 1)
        time.sleep(5)
        assert node.running.output.count("No study is read") == 1
        assert "it will be started again" not in node.running.output
        assert [event.severity.value for event in node.events() if "No study is read" in event.text] == ["alert"]
        weights.write_bytes(whole)
        node.wait_settled([uid], seconds=180)
        assert node.results(uid)[0]["reason"] == ""
        assert node.stop() == 0
    finally:
        node.end()
