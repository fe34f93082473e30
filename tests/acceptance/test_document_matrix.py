"""All documents over every form of image of the corpus, each judged by the tools and peers that others would use.

A form is one combination of modality, SOP class, photometric interpretation and character set. Each judge runs over all of
them, so that a test names at once every form that it refuses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hl7
import httpx
import pytest

from dicom_node.remote.fhir import FhirPeer, post_bundle
from dicom_node.remote.mllp import Hl7Peer, send
from inference.reading import Decision, Finding
from reporting.context import DocumentKind
from tests.mllp_receiver import Receiver

from .conftest import fhir_server
from .harness import dcmtk
from .harness.matrix import Made, forms, make, value
from .harness.peers import Orthanc
from .harness.processes import ROOT

CORES = 2
ANSWERS = {Decision.POSITIVE: "Present", Decision.NEGATIVE: "Absent", Decision.NOT_ASSESSABLE: "Undetermined"}
# Nothing of a study can be filed, and no document is made, where its images lack what names it
NO_DOCUMENT = (r"StudyInstanceUID .* is empty", r"has a readable header")


@dataclass(frozen=True, slots=True)
class Matrix:
    """``refused``: why a form of the corpus has no document, by the form's first file."""

    made: tuple[Made, ...]
    refused: dict[str, str]


@pytest.fixture(scope="module")
def matrix(dicom_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    folder = tmp_path_factory.mktemp("matrix")
    made: list[Made] = []
    refused: dict[str, str] = {}
    for number, form in enumerate(forms(dicom_corpus)):
        result = make(number, form, folder)
        if isinstance(result, Made):
            made.append(result)
        else:
            refused[form.files[0].name] = result
    return Matrix(tuple(made), refused)


def test_every_form_gets_every_document(matrix: Matrix) -> None:
    """A picture and a state only where an image was read that can be referred to; a state only over grey."""
    assert matrix.made
    assert [why for why in matrix.refused.values() if not any(re.search(known, why) for known in NO_DOCUMENT)] == []
    shown = frozenset({DocumentKind.HEAT_MAP, DocumentKind.HEAT_MAP_GSPS})
    for one in matrix.made:
        kinds = {document.kind for document in one.documents}
        assert kinds >= frozenset(DocumentKind) - shown, one.name
        referable = bool(one.reading.sources) and not foreign(one.images)
        assert (DocumentKind.HEAT_MAP in kinds) == referable, one.name
        assert (DocumentKind.HEAT_MAP_GSPS in kinds) == (referable and "MONOCHROME" in one.name), one.name
        for document in one.documents:
            assert [fault.rule for fault in document.faults] == (["hl7-required"] if unfilable(one, document.kind) else [])


def unfilable(one: Made, kind: DocumentKind) -> bool:
    """A message without a patient's number is held (PID-3 is required): no record could file it."""
    return kind is DocumentKind.HL7_ORU and not value(one.images[0], "PatientID")


def foreign(images: tuple[Path, ...]) -> set[str]:
    """UIDs that came with the images and are no legal UIDs: they can only be copied (PS3.5 9.1)."""
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    held = {value(path, keyword) for path in images for keyword in keywords}
    return {uid for uid in held if len(uid) > 64 or not re.fullmatch(r"[012](\.(0|[1-9]\d*))+", uid)}


def test_dciodvfy_finds_no_error(matrix: Matrix) -> None:
    def errors(one: Made, path: Path) -> list[str]:
        copied = [f"<{uid}>" for uid in foreign(one.images)]
        lines = dcmtk.dciodvfy(path).lines(r"^Error", dcmtk.DCIODVFY_ALLOWED)
        return [f"{path.name}: {line}" for line in lines if not any(uid in line for uid in copied)]

    assert both_cores(errors, [(one, path) for one in matrix.made for path in one.objects]) == []


def both_cores(judge: Callable[[Made, Path], list[str]], pairs: list[tuple[Made, Path]]) -> list[str]:
    """What ``judge``, which waits for a program, says of all of them."""
    with ThreadPoolExecutor(CORES) as pool:
        return [line for lines in pool.map(lambda pair: judge(*pair), pairs) for line in lines]


def test_dsrdump_reads_every_report(matrix: Matrix) -> None:
    def errors(one: Made, path: Path) -> list[str]:
        copied = [r"ReferencedSOPInstanceUID .* violates VR"] if foreign(one.images) else []
        output = dcmtk.dsrdump(path)
        wrong = output.lines(r"^[WE]:", (*dcmtk.DSRDUMP_ALLOWED, *copied))
        return [f"{path.name}: {line}" for line in (*wrong, *([] if "AI" in output.text else ["the notice is not shown"]))]

    assert both_cores(errors, [(one, path) for one in matrix.made for path in one.objects if "-sr" in path.name]) == []


def test_dcentvfy_finds_one_patient_and_one_study(matrix: Matrix) -> None:
    """It compares bytes: what differs by the character set, or by the form of a date, must be the same when read."""
    wrong = []
    for one in matrix.made:
        output = dcmtk.dcentvfy([*one.images, *one.objects])
        if "read failed" in output.text or "Assertion" in output.text:  # it cannot read the images: ours among themselves
            output = dcmtk.dcentvfy(one.objects)
        lines = output.lines(r"^Error", dcmtk.DCENTVFY_ALLOWED)
        wrong += [f"{one.name}: {line}" for line in lines if not _same(one, line)]
    assert wrong == []


def _same(one: Made, line: str) -> bool:
    keyword = re.search(r"Element=<(\w+)>", line)
    return keyword is not None and len({_read(path, keyword[1]) for path in (*one.images, *one.objects)}) == 1


def _read(path: Path, keyword: str) -> str:
    """Without empty components at the end of a name (PS3.5 6.2.1) and the marks in dates before DICOM 3.0."""
    held = value(path, keyword)
    return re.sub(r"[.:]", "", held) if keyword.endswith(("Date", "Time")) else held.rstrip("^=")


def tid1500reader() -> str:
    """The reader of dcmqi, from where install_peers.sh puts it, the folder $WETREAD_DCMQI, or the path."""
    folder = os.environ.get("WETREAD_DCMQI") or str(ROOT / ".venv" / "dcmqi" / "dcmqi" / "bin")
    places = [folder, os.environ.get("PATH", "")]
    found = shutil.which("tid1500reader", path=os.pathsep.join(places))
    if found is None:
        pytest.skip("no tid1500reader: install the package dcmqi, or name its folder in WETREAD_DCMQI")
    return found


def test_dcmqi_reads_the_findings(matrix: Matrix, tmp_path: Path) -> None:
    program = tid1500reader()

    def errors(one: Made, path: Path) -> list[str]:
        out = tmp_path / f"{one.name}.json"
        subprocess.run([program, "--inputDICOM", path, "--outputMetadata", out], capture_output=True, timeout=60, check=True)
        groups = json.loads(out.read_text("utf-8"))["Measurements"]
        same = [_group(group) for group in groups] == [_expected(one, finding) for finding in one.reading.findings]
        return [] if same else [f"{one.name}: {groups}"]

    assert both_cores(errors, [(one, path) for one in matrix.made for _, path in one.of(DocumentKind.FINDINGS_SR)]) == []


def _group(group: dict[str, Any]) -> dict[str, Any]:
    """What dcmqi says of one measurement group."""
    numbers = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in group.get("measurementItems", ())}
    said = {item["conceptCode"]["CodeMeaning"]: item["conceptValue"] for item in group["qualitativeEvaluations"]}
    algorithm = group["measurementAlgorithmIdentification"]
    return {
        "key": group["TrackingIdentifier"],
        "tracked": group["TrackingUniqueIdentifier"].startswith("2.25."),
        "code": (group["Finding"]["CodeValue"], group["Finding"]["CodingSchemeDesignator"]),
        "site": group.get("FindingSite", {}).get("CodeValue"),
        "probability": numbers.get("Certainty of Finding"),
        "threshold": numbers["Decision threshold"],
        "answer": said["Presence of property"]["CodeMeaning"],
        "urgency": said["Urgency if present"]["CodeValue"],
        "model": (algorithm["AlgorithmName"], algorithm["AlgorithmVersion"], algorithm["AlgorithmParameters"]),
    }


def _expected(one: Made, finding: Finding) -> dict[str, Any]:
    model = one.reading.models[0]
    return {
        "key": finding.key,
        "tracked": True,
        "code": (finding.code.value, finding.code.scheme),
        "site": finding.site.value if finding.site else None,
        "probability": None if finding.probability is None else pytest.approx(100 * finding.probability),
        "threshold": pytest.approx(100 * finding.threshold),
        "answer": ANSWERS[finding.decision],
        "urgency": finding.urgency.value.upper(),
        "model": (model.name, model.version, [f"sha256 {model.digest}"]),
    }


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    peer = Orthanc(tmp_path_factory.mktemp("orthanc"))
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def test_orthanc_keeps_every_object_as_it_was(matrix: Matrix, pacs: Orthanc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is taken, and comes back with the same data set; Orthanc writes its own file meta (PS3.10 7.1)."""
    monkeypatch.setenv("TCP_NODELAY", "1")  # without it DCMTK waits 40 ms for each object
    paths = [path for one in matrix.made for path in one.objects]
    assert dcmtk.accepted(dcmtk.dcmsend(pacs.dicom_port, paths, called=pacs.ae_title)) == len(paths)
    with httpx.Client(base_url=pacs.url, trust_env=False, timeout=30) as client:
        listed = client.get("/instances", params={"expand": ""}).raise_for_status().json()
        ids = {str(one["MainDicomTags"]["SOPInstanceUID"]): str(one["ID"]) for one in listed}
        for path in paths:
            kept = client.get(f"/instances/{ids[value(path, 'SOPInstanceUID')]}/file").raise_for_status().content
            assert _data_set(kept) == _data_set(path.read_bytes()), path.name


def _data_set(file: bytes) -> bytes:
    """All that follows the file meta, whose length its first element says (PS3.10 7.1)."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


def test_the_fhir_server_takes_every_bundle_once(matrix: Matrix, tmp_path: Path) -> None:
    server, why = fhir_server(tmp_path)
    if server is None:
        pytest.skip(why)
    try:
        bundles = [document.content for one in matrix.made for document, _ in one.of(DocumentKind.FHIR_BUNDLE)]
        for bundle in bundles:
            post_bundle(FhirPeer(server.url), bundle)
        first = server.counts()
        for bundle in bundles:
            post_bundle(FhirPeer(server.url), bundle)
        assert server.counts() == first
        assert first["DiagnosticReport"] == len(bundles)
        assert first["Observation"] == sum(len(one.reading.findings) for one in matrix.made)
    finally:
        server.stop()


def test_the_record_system_acknowledges_every_message(matrix: Matrix) -> None:
    with Receiver("AA") as ris:
        peer = Hl7Peer("127.0.0.1", ris.port, "RIS")
        sent = [(one, document) for one in matrix.made for document, _ in one.of(DocumentKind.HL7_ORU) if not document.faults]
        assert {send(peer, document.content) for _, document in sent} == {"AA"}
        for (one, _), message in zip(sent, ris.got, strict=True):
            assert _answers(message) == {finding.key: ANSWERS[finding.decision] for finding in one.reading.findings}, one.name
            assert _person(message) == value(one.images[0], "PatientName").split("=")[0].rstrip("^"), one.name


def _answers(message: hl7.Message) -> dict[str, str]:
    """Of each finding's first OBX: what it says."""
    found: dict[str, str] = {}
    for segment in message.segments("OBX"):
        key, said = str(segment(4)), str(segment(5))
        if key not in ("", "draft", "outcome", *found):
            found[key] = "Undetermined" if str(segment(11)) == "X" else said.split("^")[1]
    return found


def _person(message: hl7.Message) -> str:
    """PID-5 of the alphabetic group as a DICOM name."""
    parts = [*str(message.segment("PID")(5)).split("~")[0].split("^"), "", "", "", "", ""]
    family, given, middle, suffix, prefix = (message.unescape(part) for part in parts[:5])
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")
