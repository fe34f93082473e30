"""Readings and studies for the tests of this package: made up, no patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from pydicom import Dataset

from inference.reading import (
    Catalogue,
    Code,
    Decision,
    DraftReport,
    Finding,
    FrameSource,
    ModelVersion,
    Reading,
    Sentence,
    Skipped,
    Urgency,
    UseMode,
)
from reporting.comparison import PriorReading, prior_reading
from reporting.content import put
from reporting.context import Document, DocumentKind, StudyContext
from reporting.documents import DocumentOptions, build_documents

DX_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
READ_AT = datetime(2026, 3, 4, 5, 6, 7, 80900, tzinfo=timezone(timedelta(hours=1)))
OPTIONS = DocumentOptions(software_version="0.1.0")
SITE = Code("39607008", "SCT", "Lung structure")
TRIAGE = ModelVersion("BiomedCLIP", "biomedclip", "1.0", "a" * 64, "example/biomedclip@rev1", "MIT", "research", phantom=False)
DRAFTING = ModelVersion(
    "BiomedGPT", "biomedgpt", "2.0", "b" * 64, "example/biomedgpt@rev2", "non-commercial", "research", False, "A. Person, 2026"
)
CATALOGUE = Catalogue("chest", "3", "c" * 64)


def header(**changes: object) -> Dataset:
    values: dict[str, object] = {
        "SOPClassUID": DX_CLASS,
        "SOPInstanceUID": "1.2.3.1.1",
        "SeriesInstanceUID": "1.2.3.1",
        "StudyInstanceUID": "1.2.3",
        "Modality": "DX",
        "PatientName": "Muster^Erika",
        "PatientID": "P-1",
        "PatientBirthDate": "19700102",
        "PatientSex": "F",
        "StudyDate": "20260304",
        "StudyTime": "0430",
        "StudyID": "S1",
        "AccessionNumber": "ACC7",
        **changes,
    }
    return put(Dataset(), **{keyword: value for keyword, value in values.items() if value is not None})


def frame_of(ds: Dataset) -> FrameSource:
    return FrameSource(str(ds.SOPInstanceUID), str(ds.SOPClassUID), str(ds.SeriesInstanceUID))


def reading(source: FrameSource | None = None, *, phantom: bool = False) -> Reading:
    """Three findings, one of each decision, and a draft of two sentences."""
    source = source or frame_of(header())
    return Reading(
        findings=(
            Finding(
                "pneumothorax",
                Code("36118008", "SCT", "Pneumothorax"),
                SITE,
                Urgency.STAT,
                0.5,
                Decision.POSITIVE,
                0.9314,
                source=source,
            ),
            Finding(
                "effusion",
                Code("60046008", "SCT", "Pleural effusion"),
                None,
                Urgency.URGENT,
                0.4,
                Decision.NEGATIVE,
                0.021,
                source=source,
            ),
            Finding(
                "nodule",
                Code("RID50149", "RADLEX", "Pulmonary nodule"),
                SITE,
                Urgency.ROUTINE,
                0.6,
                Decision.NOT_ASSESSABLE,
                reason="The film is lateral",
            ),
        ),
        draft=DraftReport(
            (Sentence("Large left pneumothorax.", 0.81), Sentence("No effusion < 3 mm & nothing else.", 0.5)), source=source
        ),
        models=(replace(TRIAGE, phantom=phantom), replace(DRAFTING, phantom=phantom)),
        catalogue=CATALOGUE,
        mode=UseMode.ASSIST,
        sources=(source,),
        skipped=(Skipped("1.2.3.9", "no pixels"), Skipped("1.2.3.10", "no pixels")),
    )


def disagreeing(source: FrameSource | None = None) -> Reading:
    """The same, where the draft denies what triage found, does not mention another finding, and has an impression."""
    first = reading(source)
    finding = replace(first.findings[0], key="mass", code=Code("4147007", "SCT", "Mass"))
    draft = DraftReport(
        (Sentence("No pneumothorax.", 0.9, first.draft.source, ("pneumothorax",)), Sentence("Clear lungs.", 0.8)),
        source=first.draft.source,
        impression=(Sentence("No acute abnormality.", 0.7, first.draft.source, ("pneumothorax",)),),
        omits=("mass",),
        notes=("one of the images gave no text: no draft: the image is uniform",),
        checked="rules over words",
    )
    return replace(first, findings=(*first.findings, finding), draft=draft)


def unassessed(reason: str = "The catalogue does not cover CT") -> Reading:
    """Nothing could be read: every finding open, no draft, no model, no source."""
    findings = tuple(
        replace(one, decision=Decision.NOT_ASSESSABLE, probability=None, reason=reason, source=None)
        for one in reading().findings
    )
    return replace(reading(), findings=findings, draft=DraftReport((), reason), models=(), sources=(), reason=reason)


def priors(read: Reading | None = None) -> tuple[PriorReading, PriorReading]:
    """Of ``read``'s patient: three days before, without its first finding; and a year before, by another model."""
    now = read or reading()
    first, *others = now.findings
    image = FrameSource("1.2.9.1.1", DX_CLASS, "1.2.9.1")
    then = replace(
        now, findings=(replace(first, decision=Decision.NEGATIVE, probability=0.123), *others), sources=(image, image)
    )
    older = replace(then, models=(replace(TRIAGE, digest="9" * 64),), sources=())
    return prior_reading("1.2.9", "20260301", "1015", 1, then), prior_reading("1.2.8", "20250301", "", 2, older)


def context(*headers: Dataset, **changes: object) -> StudyContext:
    base = StudyContext("1.2.3", headers or (header(),), 1, READ_AT, "d" * 64, "1.2.826.0.1.99", institution="Example Hospital")
    return replace(base, **changes)  # type: ignore[arg-type]


def by_kind(*args: object) -> dict[DocumentKind, Document]:
    return {document.kind: document for document in build_documents(*args)}  # type: ignore[arg-type]
