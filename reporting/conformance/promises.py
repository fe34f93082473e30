"""What we promise of our own objects beyond the standard: IHE AIR's wishes, and that a draft never looks like a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom import Dataset

from inference.reading import Code
from reporting import codes
from reporting.conformance.comparison import comparison_faults
from reporting.conformance.templates import children, template_of
from reporting.content import concept, is_code, walk
from reporting.context import DocumentKind, Fault
from reporting.wording import PHRASES

_DISCLAIMERS: Final = tuple(said.disclaimer for said in PHRASES.values())
_BURNED_IN: Final = tuple(said.burned_in for said in PHRASES.values())
_OURS: Final = "WetRead conformance statement"
_AIR: Final = "IHE RAD AIR 6.5.3"
_ROOTS: Final = {DocumentKind.FINDINGS_SR: "1500", DocumentKind.DRAFT_SR: "2000", DocumentKind.TEXT_SR: "2000"}
_ROOT_ITEMS: Final = (codes.LANGUAGE, codes.OBSERVER_TYPE, codes.DEVICE_OBSERVER_UID, codes.PROCEDURE_REPORTED)
_GROUP_ITEMS: Final = (codes.TRACKING_IDENTIFIER, codes.TRACKING_UID, codes.FINDING, codes.PRESENCE)
_ALGORITHM: Final = (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.MEASUREMENT_METHOD)
_SCHEME_PARTS: Final = frozenset({"CodeValue", "CodeMeaning", "CodingSchemeDesignator"})


def state_faults(ds: Dataset) -> Iterator[Fault]:
    """Completion and verification, of anybody's reports (PS3.3 C.17.2)."""
    if ds.get("VerificationFlag") == "VERIFIED":
        if ds.get("CompletionFlag") != "COMPLETE":
            yield Fault("verified-partial", "PS3.3 C.17.2", "a report that is not complete is called verified")
        if not ds.get("VerifyingObserverSequence"):
            yield Fault("verified-by-nobody", "PS3.3 C.17.2", "a verified report names no verifying observer")


def sr_promises(ds: Dataset, kind: DocumentKind) -> Iterator[Fault]:
    """Of a draft: its state, observer, procedure, disclaimer, and each finding's answer."""
    yield from _fixed(ds, {"Modality": "SR", "SpecificCharacterSet": "ISO_IR 192"})
    if ds.get("CompletionFlag") != "PARTIAL" or ds.get("VerificationFlag") != "UNVERIFIED":
        yield Fault("draft-state", "PS3.3 C.17.2", "a draft is not PARTIAL and UNVERIFIED")
    if template_of(ds) != _ROOTS[kind]:
        yield Fault("draft-template", "PS3.16 TID 1500, TID 2000", f"the root does not name template {_ROOTS[kind]}")
    for wanted in _ROOT_ITEMS:
        if not children(ds, wanted):
            yield Fault("draft-context", f"{_AIR}, PS3.16 TID 1001 and 1204", f"the root lacks {wanted.meaning!r}")
    if not any(_says(_disclaimers(ds), item.get("TextValue")) for item in walk(ds)):
        yield Fault("draft-disclaimer", _OURS, "the draft disclaimer is missing")
    for item in walk(ds):
        if is_code(concept(item), codes.MEASUREMENT_GROUP):
            yield from _finding(item)
        if is_code(concept(item), codes.IMAGE_LIBRARY) and not children(item, codes.IMAGE_LIBRARY_GROUP):
            yield Fault("library", f"{_AIR}, PS3.16 TID 1600", "the Image Library names no image that was read")
    if _ROOTS[kind] == "2000" and not any(child.get("ValueType") == "CONTAINER" for child in ds.get("ContentSequence") or ()):
        yield Fault("tid-2000-section", f"{_OURS}, PS3.16 TID 2000 row 8", "the report has no section")
    for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or ():
        if study.get("StudyInstanceUID") != ds.get("StudyInstanceUID") and not ds.get("ReferencedRequestSequence"):
            yield Fault("evidence-study", "PS3.3 C.17.2.3", "current evidence is of another study than the document")
    yield from comparison_faults(ds)
    yield from _schemes(ds)
    yield from _equipment(ds)


def _disclaimers(ds: Dataset) -> tuple[str, ...]:
    """The disclaimer in the language that the root names; in any, where it names none of ours."""
    named = [concept(item, "ConceptCodeSequence") for item in children(ds, codes.LANGUAGE)]
    tags = [code.value.split("-")[0] for code in named if code]
    return tuple(PHRASES[tag].disclaimer for tag in tags if tag in PHRASES) or _DISCLAIMERS


def _finding(group: Dataset) -> Iterator[Fault]:
    """TID 1501 as IHE AIR wants it: tracked, answered, and by a named algorithm or with the reason why not."""
    judged = bool(children(group, codes.CERTAINTY))
    for wanted in (*_GROUP_ITEMS, *(_ALGORITHM if judged else (codes.COMMENT,))):
        if not children(group, wanted):
            yield Fault("finding-item", f"{_AIR}, PS3.16 TID 1501 and 4019", f"a finding lacks {wanted.meaning!r}")
    answers = [concept(item, "ConceptCodeSequence") for item in children(group, codes.PRESENCE)]
    known: tuple[Code, ...] = (codes.PRESENT, codes.ABSENT, codes.UNDETERMINED)
    if any(not any(is_code(answer, one) for one in known) for answer in answers):
        yield Fault("finding-answer", "PS3.16 CID 240", "a finding's answer is none of present, absent, undetermined")
    for item in children(group, codes.CERTAINTY):
        for measured in item.get("MeasuredValueSequence") or ():
            if not 0 <= float(measured.get("NumericValue", -1)) <= 100:
                yield Fault("finding-probability", _OURS, "a probability is outside 0 to 100 percent")
    if judged and any(is_code(answer, codes.UNDETERMINED) for answer in answers):
        yield Fault("finding-silent", _OURS, "a finding that is not assessable has a probability")


def _schemes(ds: Dataset) -> Iterator[Fault]:
    """PS3.3 C.12.1: every coding scheme that is used is identified."""
    known = {item.get("CodingSchemeDesignator") for item in ds.get("CodingSchemeIdentificationSequence") or ()}
    for element in ds.iterall():
        if element.keyword == "CodingSchemeDesignator" and element.value not in known:
            yield Fault("scheme", "PS3.3 table C.12-1", f"coding scheme {element.value!r} is not identified")
        if element.keyword in _SCHEME_PARTS and not element.value:
            yield Fault("code", "PS3.3 8.8", f"a code has an empty {element.keyword}")


def _equipment(ds: Dataset) -> Iterator[Fault]:
    """IHE AIR: each algorithm is a contributing device with version and UID."""
    for item in ds.get("ContributingEquipmentSequence") or ():
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
            if not item.get(keyword):
                yield Fault("equipment", _AIR, f"a contributing device lacks {keyword}")


def picture_promises(ds: Dataset, kind: DocumentKind) -> Iterator[Fault]:
    """Of heat maps and pages: that they say what they are, to people and to software."""
    yield from _fixed(ds, {"SpecificCharacterSet": "ISO_IR 192"})
    yield from _equipment(ds)
    if kind is DocumentKind.HEAT_MAP:
        yield from _capture(ds)
    if kind is DocumentKind.HEAT_MAP_GSPS:
        yield from _state(ds)
    if kind is DocumentKind.PDF:
        yield from _page(ds)


def _capture(ds: Dataset) -> Iterator[Fault]:
    yield from _fixed(ds, {"BurnedInAnnotation": "YES", "Modality": "OT"})
    if not _says(_BURNED_IN, ds.get("ImageComments")):
        yield Fault("picture-standing", _OURS, "Image Comments do not say that this is an AI draft")
    if not ds.get("SourceImageSequence"):
        yield Fault("picture-source", "PS3.3 C.7.6.1.1.4", "the picture does not name the image it was made from")
    size = int(ds.get("Rows", 0)) * int(ds.get("Columns", 0)) * int(ds.get("SamplesPerPixel", 0))
    if not size or len(ds.get("PixelData", b"")) != size + size % 2:
        yield Fault("picture-size", "PS3.5 8.1.1", "the pixel data are not as long as rows, columns and samples say")


def _state(ds: Dataset) -> Iterator[Fault]:
    texts = [text for note in ds.get("GraphicAnnotationSequence") or () for text in note.get("TextObjectSequence") or ()]
    if not any(_says(_BURNED_IN, text.get("UnformattedTextValue")) for text in texts):
        yield Fault("state-standing", _OURS, "no text of the state says that this is an AI draft")


def _page(ds: Dataset) -> Iterator[Fault]:
    yield from _fixed(ds, {"VerificationFlag": "UNVERIFIED", "MIMETypeOfEncapsulatedDocument": "application/pdf"})
    if not _says(_BURNED_IN, ds.get("DocumentTitle")):
        yield Fault("page-standing", _OURS, "the document's title does not say that this is an AI draft")
    data, length = bytes(ds.get("EncapsulatedDocument", b"")), int(ds.get("EncapsulatedDocumentLength", 0))
    if not data.startswith(b"%PDF-") or not data[:length].rstrip().endswith(b"%%EOF") or len(data) - length not in (0, 1):
        yield Fault("page-pdf", "PS3.3 C.24.2", "the encapsulated document is no whole PDF of the stated length")


def _says(wanted: tuple[str, ...], text: object) -> bool:
    """Whether the text holds one of the sentences; each language has its own."""
    return any(one in str(text or "") for one in wanted)


def _fixed(ds: Dataset, wanted: dict[str, str]) -> Iterator[Fault]:
    for keyword, value in wanted.items():
        if ds.get(keyword) != value:
            yield Fault("fixed", _OURS, f"{keyword} is not {value}")
