"""A route asks for priors: they come from a real archive, are read, and the delivered documents compare with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.storage.jobs import JobKind
from reporting.comparison import Change, Comparison
from reporting.context import DocumentKind
from reporting.read_back import read_findings

from .harness import dcmtk, films, sr
from .harness.node import Node
from .harness.outbox import dicom
from .harness.peers import SENDER
from .test_query_retrieve import OpenArchive

PATIENT = "COMPARED-1"
WAIT_S = 600  # longer than any machine needs: the study must not be read before its priors


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenArchive]:
    made = OpenArchive(tmp_path_factory.mktemp("orthanc"), {SENDER: 1, "WETREAD": 1})
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(archive: OpenArchive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    kinds = [kind.value for kind in DocumentKind]
    destinations = {"pacs": dicom(archive), "out": {"kind": "folder", "path": str(folder / "out"), "documents": kinds}}
    asked = {"kind": "dicom", "host": "127.0.0.1", "port": archive.dicom_port, "ae_title": "ORTHANC", "retrieve": "get"}
    made = Node(folder, destinations, study={"quiet_seconds": 1.5, "archive": asked})
    route = {"name": "films", "reading": "chest_xray", "destinations": ["pacs", "out"]}
    (folder / "routes.yaml").write_text(
        yaml.safe_dump({"routes": [{**route, "priors": {"count": 2, "wait_seconds": WAIT_S}}]}), "utf-8"
    )
    made.config.write_text(made.config.read_text("utf-8") + "\nroutes: routes.yaml\n", "utf-8")
    try:
        made.start()
        made.wait_until_working()
        yield made
    finally:
        made.end()


def _film(folder: Path, seed: int, findings: list[str], day: str, clock: str, birth: str = "19500101") -> tuple[str, Path]:
    uid, path = films.film(folder, seed, findings)
    film = pydicom.dcmread(path)
    film.PatientID, film.PatientBirthDate, film.StudyDate, film.StudyTime = PATIENT, birth, day, clock
    film.save_as(path)
    return uid, path


def _send(port: int, path: Path, called: str) -> None:
    assert dcmtk.accepted(dcmtk.dcmsend(port, [path], called=called)) == 1


def test_the_delivered_documents_compare_with_the_priors(archive: OpenArchive, node: Node, tmp_path: Path) -> None:
    """A film of the year before, one of the same morning; and one of another patient under the same number."""
    before, first = _film(tmp_path, 900, ["pneumothorax"], "20250102", "1200")
    morning, second = _film(tmp_path, 901, [], "20260102", "0610")
    other, foreign = _film(tmp_path, 902, ["pneumothorax"], "20251231", "1200", birth="19990909")
    study, film = _film(tmp_path, 903, [], "20260102", "1830")
    for path in (first, second, foreign):
        _send(archive.dicom_port, path, "ORTHANC")
    _send(node.port, film, "WETREAD")
    node.wait_settled([study], seconds=WAIT_S)

    report = _delivered(archive, study)
    newest, oldest = read_findings(report).comparisons
    assert [(one.study_uid, one.days) for one in (newest, oldest)] == [(morning, 0), (before, 365)]
    assert _changes(newest)["pneumothorax"] is Change.ABSENT
    assert _changes(oldest)["pneumothorax"] is Change.GONE
    assert node.instances(other) == ()

    out = node.folder / "out"
    pages = [path.read_text("utf-8") for path in out.rglob("*") if path.suffix in (".json", ".hl7")]
    assert len(pages) == 2
    assert all(uid in page for page in pages for uid in (morning, before))
    assert not any(other in page for page in pages)
    bundle = json.loads(next(page for page in pages if page.startswith("{")))
    named = [one for entry in bundle["entry"] for one in entry["resource"].get("derivedFrom", ())]
    assert sum("identifier" in reference for reference in named) == 2
    for uid in (before, morning):
        assert [job.queue for job in node.jobs(uid, JobKind.DELIVER)] == []


def _delivered(archive: OpenArchive, study: str) -> bytes:
    """The findings report as the archive gives it."""
    (found,) = [one for one in archive.instances(study, "SR") if one.dataset.SOPClassUID == sr.FINDINGS]
    return found.content


def _changes(one: Comparison) -> dict[str, Change]:
    return {finding.key: finding.change for finding in one.findings}
