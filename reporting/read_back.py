"""Our reports read back from an archive to the reading they were made of, for research: what did the node say then?

Codes and numbers are read as codes and numbers. What a report says only in words is found by the phrase it was put into, in
the report's own language, and comes back in that language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom import Dataset, dcmread

from inference.reading import (
    Catalogue,
    Code,
    Decision,
    DraftReport,
    Finding,
    FrameSource,
    Method,
    ModelVersion,
    Sentence,
)
from reporting import clean, codes
from reporting.comparison import Comparison
from reporting.content import concept, is_code, walk
from reporting.errors import DocumentError
from reporting.read_back_comparison import comparisons
from reporting.read_back_words import Spoken, listed, spoken
from reporting.uids import device_uid

__all__ = ["DraftBack", "FindingsBack", "read_draft", "read_findings"]

_DECISION: Final = {code.value: decision for decision, code in codes.PRESENCE_OF.items()}
_URGENCY: Final = {code.value: urgency for urgency, code in codes.URGENCY_OF.items()}
_METHOD: Final = {code.value: method for method, code in codes.METHOD_OF.items()}


@dataclass(frozen=True, slots=True)
class FindingsBack:
    """What a findings SR says.

    ``findings``: in the document's order; probabilities and thresholds to 0.0001, as written. ``tracking``: finding key to
    Tracking Unique Identifier. ``sources``: the images of its library. ``reason``: empty where something was assessed.
    """

    study_instance_uid: str
    sop_instance_uid: str
    revision: int
    language: str
    findings: tuple[Finding, ...]
    tracking: Mapping[str, str]
    models: tuple[ModelVersion, ...]
    catalogue: Catalogue
    sources: tuple[FrameSource, ...]
    reason: str
    lines: Mapping[str, str]  # finding key to what the report says of it in words
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftBack:
    """What a draft SR says.

    Contradictions and omissions are keys of the findings, which the report names by their words: of two findings of one name
    the first is taken.
    """

    study_instance_uid: str
    sop_instance_uid: str
    draft: DraftReport


def read_findings(document: bytes) -> FindingsBack:
    """A findings SR of ours (a Part 10 file). Raises DocumentError where it is none."""
    with clean.quiet_headers(), _in_our_form():
        ds = _read(document, codes.IMAGING_MEASUREMENT_REPORT, "a findings report")
        said, series = spoken(ds), _series(ds)
        groups = [item for item in walk(ds) if is_code(concept(item), codes.MEASUREMENT_GROUP)]
        findings = tuple(_finding(group, said, series) for group in groups)
        conclusion = _texts(ds, codes.CONCLUSION)[0]
        return FindingsBack(
            study_instance_uid=str(ds.StudyInstanceUID),
            sop_instance_uid=str(ds.SOPInstanceUID),
            revision=int(ds.InstanceNumber),
            language=said.language,
            findings=findings,
            tracking={one.key: _uid(group) for one, group in zip(findings, groups, strict=True)},
            models=_models(ds, said),
            catalogue=_catalogue(_texts(ds, codes.CATALOGUE)[0], said),
            sources=tuple(dict.fromkeys(_sources(ds, series))),
            reason=said.reason("not_assessed", conclusion) if not _assessed(ds) else "",
            lines={one.key: _texts(group, codes.COMMENT)[0] for one, group in zip(findings, groups, strict=True)},
            comparisons=comparisons(ds, said),
        )


def read_draft(document: bytes, findings: FindingsBack) -> DraftBack:
    """A draft SR of ours beside the findings SR of the same reading. Raises DocumentError where it is none."""
    with clean.quiet_headers(), _in_our_form():
        ds = _read(document, codes.DIAGNOSTIC_IMAGING_REPORT, "a draft report")
        if str(ds.StudyInstanceUID) != findings.study_instance_uid:
            raise DocumentError("the draft and the findings are of different studies")
        said = spoken(ds)
        if ds.get("VerificationFlag") != "UNVERIFIED":
            raise DocumentError("this report is signed: its text is a person's and no draft")
        section, impressions = (_section(ds, name) for name in (codes.FINDINGS, codes.IMPRESSIONS))
        images = tuple(dict.fromkeys(_sources(section, _series(ds))))
        sentences = tuple(_sentences(section, codes.FINDING, said, findings))
        draft = DraftReport(
            sentences=sentences,
            reason="" if sentences else said.reason("no_draft", _texts(section, codes.FINDING)[0]),
            source=images[0] if images else None,
            impression=tuple(_sentences(impressions, codes.IMPRESSION, said, findings)),
            **_remarks(section, said, findings),
        )
        return DraftBack(str(ds.StudyInstanceUID), str(ds.SOPInstanceUID), draft)


@contextmanager
def _in_our_form() -> Iterator[None]:
    """What is missing or of another kind than we write is one error, whatever pydicom makes of it."""
    try:
        yield
    except DocumentError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise DocumentError("the report has not the form that this version reads") from error


def _read(document: bytes, title: Code, what: str) -> Dataset:
    try:
        ds = dcmread(BytesIO(document))
    except Exception as error:
        raise DocumentError("these bytes are no DICOM file") from error
    if not is_code(concept(ds), title) or not _is_ours(ds):
        raise DocumentError(f"this object is not {what} of this software")
    return ds


def _is_ours(ds: Dataset) -> bool:
    schemes = ds.get("CodingSchemeIdentificationSequence") or ()
    own = codes.SCHEMES[codes.PRIVATE_SCHEME].uid
    return any(one.get("CodingSchemeUID") == own for one in schemes)


def _children(item: Dataset, name: Code) -> list[Dataset]:
    return [child for child in item.get("ContentSequence") or () if is_code(concept(child), name)]


def _section(ds: Dataset, name: Code) -> Dataset:
    found = _children(ds, name)
    if not found:
        raise DocumentError(f"the report has no section {name.meaning}")
    return found[0]


def _texts(item: Dataset, name: Code) -> list[str]:
    """The texts of that name anywhere below."""
    found = [child for child in walk(item) if child.get("ValueType") == "TEXT" and is_code(concept(child), name)]
    return [str(child.TextValue) for child in found]


def _code(item: Dataset, name: Code) -> Code | None:
    found = _children(item, name)
    return concept(found[0], "ConceptCodeSequence") if found else None


def _fraction(item: Dataset, name: Code) -> float | None:
    found = _children(item, name)
    return round(float(found[0].MeasuredValueSequence[0].NumericValue) / 100, 4) if found else None


def _finding(group: Dataset, said: Spoken, series: Mapping[str, str]) -> Finding:
    code, answer, urgency = (_code(group, name) for name in (codes.FINDING, codes.PRESENCE, codes.URGENCY))
    threshold, method = _fraction(group, codes.THRESHOLD), _code(group, codes.MEASUREMENT_METHOD)
    if code is None or answer is None or urgency is None or threshold is None:
        raise DocumentError("a measurement group of the report lacks finding, answer, urgency or threshold")
    decision = _DECISION[answer.value]
    line = _texts(group, codes.COMMENT)[0]
    image = _children(group, codes.SOURCE_OF_MEASUREMENT)
    return Finding(
        key=str(_children(group, codes.TRACKING_IDENTIFIER)[0].TextValue),
        code=code,
        site=_code(group, codes.FINDING_SITE),
        urgency=_URGENCY[urgency.value],
        threshold=threshold,
        decision=decision,
        probability=_fraction(group, codes.CERTAINTY),
        reason=said.reason("finding_open", line, name=code.meaning) if decision is Decision.NOT_ASSESSABLE else "",
        source=_source(image[0], series) if image else None,
        method=_METHOD[method.value] if method else Method.ZERO_SHOT,
        aggregation=next(iter(_texts(group, codes.AGGREGATION)), ""),
    )


def _uid(group: Dataset) -> str:
    return str(_children(group, codes.TRACKING_UID)[0].UID)


def _assessed(ds: Dataset) -> bool:
    outcomes = [concept(item, "ConceptCodeSequence") for item in walk(ds) if is_code(concept(item), codes.OUTCOME)]
    return any(is_code(one, codes.ASSESSED) for one in outcomes)


def _series(ds: Dataset) -> dict[str, str]:
    """SOP Instance UID to Series Instance UID of the evidence."""
    return {
        str(reference.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def _source(item: Dataset, series: Mapping[str, str]) -> FrameSource:
    found = item.ReferencedSOPSequence[0]
    uid = str(found.ReferencedSOPInstanceUID)
    frame = int(found.ReferencedFrameNumber) if "ReferencedFrameNumber" in found else 1
    return FrameSource(uid, str(found.ReferencedSOPClassUID), series.get(uid, ""), frame)


def _sources(item: Dataset, series: Mapping[str, str]) -> Iterator[FrameSource]:
    for child in walk(item):
        if child.get("ValueType") == "IMAGE" and is_code(concept(child), codes.SOURCE_IMAGE):
            yield _source(child, series)


def _models(ds: Dataset, said: Spoken) -> tuple[ModelVersion, ...]:
    """By the card that each Contributing Equipment item carries; a head is none, and its card has another form."""
    notes = [said.parts("acknowledged", text) for text in _texts(ds, codes.NOTICE)]
    permitted = {note["model"]: note["record"].removesuffix(".") for note in notes if note}
    found = []
    for item in ds.get("ContributingEquipmentSequence") or ():
        card = said.parts("model", str(item.get("ContributionDescription", "")))
        if card and device_uid(card["digest"]) == item.get("DeviceUID"):
            found.append(ModelVersion(**card, phantom=said.phantom(ds), acknowledgement=permitted.get(card["name"], "")))
    return tuple(found)


def _catalogue(line: str, said: Spoken) -> Catalogue:
    parts = said.parts("catalogue", line)
    if parts is None:
        raise DocumentError("the report does not name its catalogue in the form this version writes")
    return Catalogue(**parts)


def _sentences(section: Dataset, name: Code, said: Spoken, findings: FindingsBack) -> Iterator[Sentence]:
    """Those with a confidence: the others of that name are the software's own words."""
    lines = {key: line.rstrip(".") for key, line in findings.lines.items()}
    for item in _children(section, name):
        confidence = _fraction(item, codes.SENTENCE_CONFIDENCE)
        if confidence is not None:
            marks = [said.parts("otherwise", text.removesuffix(".")) for text in _texts(item, codes.COMMENT)]
            against = [key for mark in marks if mark for key in listed(mark["findings"], "; ", lines)]
            yield Sentence(str(item.TextValue), confidence, None, tuple(against))


def _remarks(section: Dataset, said: Spoken, findings: FindingsBack) -> dict[str, Any]:
    """``omits``, ``checked`` and ``notes`` of a draft."""
    found: dict[str, Any] = {"omits": (), "checked": "", "notes": ()}
    notes: list[str] = []
    for line in (str(item.TextValue) for item in _children(section, codes.COMMENT)):
        if omitted := said.parts("omitted", line):
            found["omits"] = listed(omitted["names"], ", ", {one.key: said.named(one) for one in findings.findings})
        elif compared := said.parts("compared", line):
            found["checked"] = compared["how"]
        elif not said.parts("contradicted", line) and not said.parts("drafted_by", line):
            notes.append(line.removesuffix("."))
    return {**found, "notes": tuple(notes)}
