"""Documents of one made-up reading against the files of tests/golden, so that a change of what we write is seen in review.

After an intended change: ``WETREAD_RENEW_GOLDEN=1 pytest tests/reporting/test_golden.py``, then read the difference.
DICOM objects stand there as DICOM JSON (PS3.18 F), an attribute a line, without pixels and pages; HL7 a segment a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inference.reading import Frame, HeadVersion, HeatMap, Method, Reading
from reporting.comparison import PriorReading, compare
from reporting.context import Document, DocumentKind
from reporting.header import encode
from reporting.read_back import read_draft, read_findings
from tests.reporting.samples import OPTIONS, by_kind, context, disagreeing, frame_of, header, priors
from tests.reporting.test_round_trip import carried

GOLDEN = Path(__file__).parents[1] / "golden"
BULK = ("PixelData", "EncapsulatedDocument", "EncapsulatedDocumentLength")  # the last says how long one library's page is
RENEW = os.environ.get("WETREAD_RENEW_GOLDEN") == "1"
FILM = header(
    Rows=60, Columns=50, PhotometricInterpretation="MONOCHROME2", PixelSpacing=[0.5, 0.5], WindowCenter="100",
    WindowWidth="200", BodyPartExamined="CHEST", PatientName="Muster^Erika=山田^花子", TimezoneOffsetFromUTC="+0100",
)  # fmt: skip


def golden_reading() -> Reading:
    """Each decision, a draft that the findings contradict, a heat map, a head, an acknowledgement, a note."""
    source = frame_of(FILM)
    read = disagreeing(source)
    judged = tuple(replace(one, method=Method.CALIBRATED) if one.probability is not None else one for one in read.findings)
    heat = HeatMap("pneumothorax", source, ((0.0, 1.0), (0.0, 0.2)), (5, 0, 55, 50), "made up")
    head = HeadVersion("calibration", "site A", "3", "e" * 64)
    return replace(read, findings=judged, heat_maps=(heat,), heads=(head,))


CASES: dict[str, tuple[PriorReading, ...]] = {"alone": (), "compared": priors(golden_reading())}


@cache
def documents(case: str = "alone") -> dict[DocumentKind, Document]:
    frame = Frame(np.full((60, 50), 90, np.uint8), frame_of(FILM), "DX")
    study = context(FILM, priors=CASES[case])
    return by_kind(golden_reading(), study, replace(OPTIONS, kinds=frozenset(DocumentKind)), [frame])


def written(document: Document) -> str:
    """The document as its golden file holds it."""
    if document.sop_class_uid:
        ds = dcmread(BytesIO(document.content))
        lines = [f"{json.dumps(tag)}: {json.dumps(value, ensure_ascii=False)}" for tag, value in _json(ds).items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"
    if document.kind is DocumentKind.FHIR_BUNDLE:
        return document.content.decode() + "\n"
    return document.content.decode().replace("\r", "\n")


def _json(ds: Dataset) -> dict[str, Any]:
    for keyword in BULK:
        if keyword in ds:
            delattr(ds, keyword)
    found: dict[str, Any] = ds.to_json_dict()
    return found


def place(kind: DocumentKind, case: str) -> Path:
    name = f"{kind.value}{'' if case == 'alone' else f'-{case}'}"
    return GOLDEN / f"{name}{'.hl7' if kind is DocumentKind.HL7_ORU else '.json'}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", DocumentKind)
def test_the_document_is_the_golden_one(kind: DocumentKind, case: str) -> None:
    document = documents(case)[kind]
    assert document.faults == ()
    path, found = place(kind, case), written(document)
    if RENEW:
        path.write_text(found, "utf-8")
    held = path.read_text("utf-8")
    if found != held:
        wrong = "\n".join(list(_differences(_tree(held), _tree(found)))[:15])
        pytest.fail(f"{path.name} differs; if so intended, renew it (see the head of this file):\n{wrong}")


def _tree(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else text.splitlines()


def _differences(held: Any, found: Any, where: str = "") -> Iterator[str]:
    """Each place where two trees differ, with what was and what is."""
    if isinstance(held, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*held, *found)):
            yield from _differences(held.get(key), found.get(key), f"{where}/{key}")
    elif isinstance(held, list) and isinstance(found, list) and len(held) == len(found):
        for number, (was, now) in enumerate(zip(held, found, strict=True)):
            yield from _differences(was, now, f"{where}[{number}]")
    elif held != found:
        yield f"{where}: {str(held)[:200]} -> {str(found)[:200]}"


def test_nothing_else_lies_among_the_golden_files() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {place(kind, case).name for kind in DocumentKind for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_the_golden_reports_give_the_reading_back(case: str) -> None:
    """DICOM JSON to object to reading: what a later version must still read."""
    findings = read_findings(_object(DocumentKind.FINDINGS_SR, case))
    draft = read_draft(_object(DocumentKind.DRAFT_SR, case), findings)
    read = golden_reading()
    assert findings.findings == read.findings
    assert (findings.models, findings.catalogue, findings.sources) == (read.models, read.catalogue, read.sources)
    assert draft.draft == carried(read.draft)
    assert findings.comparisons == compare(read, CASES[case], "20260304")


def _object(kind: DocumentKind, case: str) -> bytes:
    text = place(kind, case).read_text("utf-8")
    return encode(Dataset.from_json(text))
