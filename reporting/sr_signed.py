"""The report that a person signs: it replaces the draft, COMPLETE and VERIFIED (PS3.3 C.17.2). Software never signs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedSRStorage

from inference.reading import Code
from reporting import clean, codes
from reporting.content import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    ImageReference,
    Item,
    code_item,
    coded,
    concept,
    container,
    image_item,
    is_code,
    put,
    put_items,
    text_item,
)
from reporting.context import Document, DocumentKind
from reporting.errors import DocumentError
from reporting.header import encode
from reporting.sr_context import person_observer
from reporting.uids import derive_uid
from reporting.wording import Words, fill, of

SERIES_NUMBER: Final = 9906


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signs what. ``person``: a DICOM person name. ``signed_at``: aware.

    ``findings`` and ``impression``: the report's text as the person leaves it, a paragraph each; the draft's words count for
    nothing that is not among them. ``identification``: the person's code in the site's own scheme, where it has one.
    """

    person: str
    organization: str
    signed_at: datetime
    findings: tuple[str, ...]
    impression: tuple[str, ...]
    identification: Code | None = None


def signed_report(draft: bytes, signature: Signature) -> Document:
    """The signed report that replaces ``draft`` (a draft SR of ours, a Part 10 file).

    The same draft and signature give the same object. Raises DocumentError where the bytes are no draft SR, the person or
    organization is not named, the time has no zone, or there is no text.
    """
    _check(signature)
    with clean.quiet_headers():
        ds = _read(draft)
        _sign(ds, signature)
        _say(ds, signature)
        return Document(
            DocumentKind.DRAFT_SR, str(ds.SOPInstanceUID), encode(ds), str(ds.SOPClassUID), str(ds.SeriesInstanceUID)
        )


def _check(signature: Signature) -> None:
    if not clean.person_name(signature.person).strip("^ ") or not signature.organization.strip():
        raise DocumentError("a report is signed by a named person of a named organization (PS3.3 C.17.2, type 1)")
    if signature.signed_at.tzinfo is None:
        raise DocumentError("the time of signing has no time zone; give an aware time")
    if not any(text.strip() for text in (*signature.findings, *signature.impression)):
        raise DocumentError("a signed report without text is none")


def _read(draft: bytes) -> Dataset:
    try:
        ds = dcmread(BytesIO(draft))
    except Exception as error:
        raise DocumentError("these bytes are no DICOM file") from error
    ours = ds.get("SOPClassUID") == EnhancedSRStorage and is_code(concept(ds), codes.DIAGNOSTIC_IMAGING_REPORT)
    if not ours or ds.get("VerificationFlag") != "UNVERIFIED":
        raise DocumentError("this object is no unverified draft report; only one of those can be signed")
    return ds


def _sign(ds: Dataset, signature: Signature) -> None:
    at = signature.signed_at
    predecessor = _reference(ds)
    what = (str(ds.SOPInstanceUID), signature.person, signature.organization, at.isoformat())
    uid = derive_uid("signed", *what, *signature.findings, "\x00", *signature.impression)
    observer = put(
        Dataset(),
        VerifyingObserverName=clean.person_name(signature.person),
        VerifyingObserverIdentificationCodeSequence=[coded(signature.identification)] if signature.identification else [],
        VerifyingOrganization=clean.one_line(signature.organization, 64),
        VerificationDateTime=at.strftime("%Y%m%d%H%M%S.%f%z"),
    )
    put(
        ds,
        SOPInstanceUID=uid,
        SeriesInstanceUID=derive_uid("signed series", uid),
        SeriesNumber=SERIES_NUMBER,
        SeriesDescription=_words(ds).phrases.signed_series,
        SeriesDate=at.strftime("%Y%m%d"),
        SeriesTime=at.strftime("%H%M%S"),
        InstanceCreationDate=at.strftime("%Y%m%d"),
        InstanceCreationTime=at.strftime("%H%M%S"),
        ContentDate=at.strftime("%Y%m%d"),
        ContentTime=at.strftime("%H%M%S"),
        CompletionFlag="COMPLETE",
        VerificationFlag="VERIFIED",
        PreliminaryFlag="FINAL",
        VerifyingObserverSequence=[observer],
        PredecessorDocumentsSequence=[predecessor],
    )


def _reference(ds: Dataset) -> Dataset:
    instance = put(Dataset(), ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID)
    series = put(Dataset(), SeriesInstanceUID=ds.SeriesInstanceUID, ReferencedSOPSequence=[instance])
    return put(Dataset(), StudyInstanceUID=ds.StudyInstanceUID, ReferencedSeriesSequence=[series])


def _named(ds: Dataset, name: Code) -> list[Dataset]:
    """The root's items of that name, whatever the language of its meaning."""
    return [item for item in ds.ContentSequence if is_code(concept(item), name)]


def _words(ds: Dataset) -> Words:
    """The draft's own language."""
    (tag,) = _named(ds, codes.LANGUAGE)
    said = concept(tag, "ConceptCodeSequence")
    return of(said.value if said else "en")


def _say(ds: Dataset, signature: Signature) -> None:
    """The person's text in the place of the draft's; the images and the models that prepared it stay named."""
    words = _words(ds)
    kept = [*_kept(ds, codes.LANGUAGE), *_kept(ds, codes.PROCEDURE_REPORTED)]
    images = [_image(item) for item in _named(ds, codes.FINDINGS)[0].ContentSequence if item.ValueType == "IMAGE"]
    models = [
        fill(words.phrases.prepared_with, model=one.ManufacturerModelName)
        for one in ds.get("ContributingEquipmentSequence", ())
    ]
    said = [text_item(CONTAINS, codes.FINDING, text) for text in signature.findings if text.strip()]
    said += [text_item(CONTAINS, codes.COMMENT, clean.one_line(model)) for model in models]
    concluded = [text_item(CONTAINS, codes.IMPRESSION, text) for text in signature.impression if text.strip()]
    sections = [container(codes.FINDINGS, [*said, *images], CONTAINS)]
    sections += [container(codes.IMPRESSIONS, concluded, CONTAINS)] if concluded else []
    put_items(ds, [*kept, *person_observer(signature.person, signature.organization), *sections], words)


def _kept(ds: Dataset, name: Code) -> list[Item]:
    """The draft's own codes of that name."""
    values = [concept(item, "ConceptCodeSequence") for item in _named(ds, name)]
    return [code_item(HAS_CONCEPT_MOD, name, value) for value in values if value]


def _image(item: Dataset) -> Item:
    found = item.ReferencedSOPSequence[0]
    frame = int(found.ReferencedFrameNumber) if "ReferencedFrameNumber" in found else None
    named = ImageReference(str(found.ReferencedSOPClassUID), str(found.ReferencedSOPInstanceUID), "", frame)
    return image_item(CONTAINS, codes.SOURCE_IMAGE, named)
