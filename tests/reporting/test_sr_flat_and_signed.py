"""Basic Text SR, the signed report, and the link of a revision to what it replaces; dciodvfy and dsrdump judge."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from inference.reading import DraftReport, Reading, Sentence
from reporting.context import Document, DocumentKind, Predecessor
from reporting.documents import build_documents
from reporting.errors import DocumentError
from reporting.sr_signed import Signature, signed_report
from reporting.text import sr_text
from reporting.uids import derive_uid
from tests.reporting.samples import OPTIONS, READ_AT, context, disagreeing, header, reading, unassessed
from tests.support import peer_path

TEXT = replace(OPTIONS, kinds=frozenset({DocumentKind.TEXT_SR}))
BLANK = DraftReport((Sentence(" ", 0.1),))
SIGNATURE = Signature(
    "Lesemann^Li", "Example Hospital", READ_AT, ("Left pneumothorax, 3.5 cm.",), ("Pneumothorax. Chest drain advised.",)
)


def text_sr(read: Reading, **headers: object) -> Document:
    (document,) = build_documents(read, context(header(**headers)), TEXT)
    return document


def draft(read: Reading | None = None, **changes: object) -> Document:
    kinds = replace(OPTIONS, kinds=frozenset({DocumentKind.DRAFT_SR}))
    (document,) = build_documents(read or reading(), context(**changes), kinds)
    return document


def faults(document: Document, folder: Path) -> list[str]:
    """What dciodvfy and dsrdump say, less what VALIDATORS names as false alarms."""
    (folder / "sr.dcm").write_bytes(document.content)
    said = []
    for program in (["dciodvfy", "-new"], ["dsrdump"]):
        if shutil.which(program[0]):
            done = subprocess.run(
                [*program, str(folder / "sr.dcm")], capture_output=True, text=True, errors="replace", timeout=60, check=False,
                env={"PATH": peer_path()},
            )  # fmt: skip
            said += (done.stdout + done.stderr).splitlines()
    return [line for line in said if line.startswith(("Error", "E:", "W:")) and "ISO_IR 192" not in line]


@pytest.mark.parametrize(
    "read",
    [
        reading(),
        reading(phantom=True),
        disagreeing(),
        unassessed(),
        replace(reading(), draft=DraftReport((Sentence(" ", 0.1),))),
    ],
    ids=["draft", "phantom", "contradicted", "not assessed", "no text"],
)
def test_basic_text_is_valid_and_has_no_numbers(read: Reading, tmp_path: Path) -> None:
    document = text_sr(read)
    ds = dcmread(BytesIO(document.content))
    assert document.faults == ()
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.11"
    assert faults(document, tmp_path) == []
    assert "NUM" not in {element.value for element in ds.iterall() if element.keyword == "ValueType"}


def test_basic_text_says_what_the_draft_says() -> None:
    said = sr_text(text_sr(disagreeing()).content)
    assert "[confidence" in said
    assert "the findings say otherwise" in said
    assert "AI draft, not a diagnosis" in said
    assert "Marked for review" in said


def test_a_revision_names_the_document_it_replaces() -> None:
    earlier = (
        Predecessor(DocumentKind.DRAFT_SR, "1.2.9.1", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.9"),
        Predecessor(DocumentKind.PDF, "1.2.9.2", "1.2.840.10008.5.1.4.1.1.104.1", "1.2.8"),
    )
    first, second = (dcmread(BytesIO(draft(revision=n, predecessors=earlier[: 2 * (n - 1)]).content)) for n in (1, 2))
    assert "PredecessorDocumentsSequence" not in first
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID, reference.ReferencedSOPInstanceUID) == (
        "1.2.3",
        "1.2.9",
        "1.2.9.1",
    )
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_a_signed_report_replaces_its_draft(tmp_path: Path) -> None:
    source = draft(reading(phantom=True))
    signed = signed_report(source.content, SIGNATURE)
    ds = dcmread(BytesIO(signed.content))
    assert (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag) == ("COMPLETE", "VERIFIED", "FINAL")
    (observer,) = ds.VerifyingObserverSequence
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("Lesemann^Li", "Example Hospital")
    assert observer.VerificationDateTime == "20260304050607.080900+0100"
    replaced = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID == source.uid
    said = sr_text(signed.content)
    assert "Left pneumothorax, 3.5 cm." in said
    assert "Large left pneumothorax." not in said  # the draft's words do not survive by themselves
    assert "No person has verified" not in said
    assert "Prepared with AI: BiomedGPT" in said
    assert "Person Observer Name: Lesemann^Li" in said
    assert faults(signed, tmp_path) == []


def test_signing_again_gives_the_same_object_and_other_words_another() -> None:
    source = draft().content
    first, again = signed_report(source, SIGNATURE), signed_report(source, SIGNATURE)
    other = signed_report(source, replace(SIGNATURE, findings=("Nothing.",)))
    assert first == again
    assert len({first.uid, other.uid, str(dcmread(BytesIO(source)).SOPInstanceUID)}) == 3
    assert derive_uid("x") != first.uid


NOT_SIGNED = {
    "nobody": (replace(SIGNATURE, person=" ^ "), "named person"),
    "no organization": (replace(SIGNATURE, organization=""), "named organization"),
    "no time zone": (replace(SIGNATURE, signed_at=datetime(2026, 1, 1)), "time zone"),
    "no text": (replace(SIGNATURE, findings=("  ",), impression=()), "without text"),
}


@pytest.mark.parametrize(("signature", "said"), NOT_SIGNED.values(), ids=NOT_SIGNED)
def test_what_cannot_be_signed(signature: Signature, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        signed_report(draft().content, signature)


def other_kind() -> bytes:
    (document,) = build_documents(reading(), context(), replace(OPTIONS, kinds=frozenset({DocumentKind.FINDINGS_SR})))
    return document.content


@pytest.mark.parametrize(
    "source",
    [lambda: b"nothing", other_kind, lambda: signed_report(draft().content, SIGNATURE).content],
    ids=["no DICOM", "findings", "signed already"],
)
def test_only_a_draft_is_signed(source: object) -> None:
    with pytest.raises(DocumentError, match=r"DICOM file|only one of those"):
        signed_report(source(), SIGNATURE)  # type: ignore[operator]
