"""The reading as an HL7 v2.5.1 ORU^R01, for records without FHIR (HL7 v2.5.1 chapter 7; IHE RAD TF-2 for the study's UID).

Findings that go out before their draft is written are a message of their own; the whole one follows for the same order.
Result status ``R``, "entered, not verified" (tables 0085 and 0123): ``P`` would say that a person has verified it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from inference.reading import Code, Decision, Finding
from reporting import clean, codes
from reporting.comparison import Comparison
from reporting.heads import deciding_heads
from reporting.materials import Materials
from reporting.source import request_items
from reporting.uids import message_uid
from reporting.wording import Words, fill
from reporting.wording.compared import compared_lines, prior_line

VERSION: Final = "2.5.1"
NOT_VERIFIED: Final = "R"
NO_RESULT: Final = "X"  # table 0085: results cannot be obtained for this observation
STUDY_UID: Final = Code("110180", "DCM", "Study Instance UID")
_DELIMITERS: Final = (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("~", "\\R\\"))  # the backslash first
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


def oru_message(made: Materials) -> bytes:
    """The whole message, UTF-8, segments ended by carriage returns; the same reading gives the same bytes."""
    segments = [_header(made), _software(made), _patient(made), *_order(made), *_notes(made), *_observations(made)]
    return "".join(f"{segment}\r" for segment in segments).encode("utf-8")


def control_id(made: Materials) -> str:
    """MSH-10: 20 characters (the most that 2.5.1 allows) derived from the reading, so that a receiver knows a resend."""
    digest = hashlib.sha256(message_uid(made.reading, made.key.uid("hl7")).encode()).digest()
    return base64.b32encode(digest).decode()[:20]


def escape(text: str) -> str:
    """Delimiters and line ends of free text (2.5.1, 2.7); other control characters are dropped."""
    for mark, escaped in _DELIMITERS:
        text = text.replace(mark, escaped)
    text = _LINE_END.sub(lambda _: "\\.br\\", text)
    return "".join(character for character in text if character.isprintable())


def _segment(*fields: str) -> str:
    return "|".join(fields).rstrip("|")


def _header(made: Materials) -> str:
    institution = escape(made.source.context.institution)
    processing = "T" if made.reading.phantom else "P"  # table 0103: training, production
    kind = "ORU^R01^ORU_R01"
    at = _time(made.source.written_at)
    fields = ("MSH", "^~\\&", "WETREAD", institution, "", "", at, "", kind, control_id(made), processing, VERSION)
    return _segment(*fields, "", "", "", "", "", "UNICODE UTF-8", _language(made.words.language))


def _language(tag: str) -> str:
    """MSH-19: a language of ISO 639; the country of a tag has no place in it."""
    known = codes.LANGUAGES[tag.split("-")[0]]
    return f"{known.value}^{known.meaning}^ISO639"


def _software(made: Materials) -> str:
    version = escape(made.options.software_version)
    models = "; ".join(f"{model.name} {model.version} sha256 {model.digest[:16]}" for model in made.reading.models)
    return _segment("SFT", escape(made.options.manufacturer), version, "WetRead", version, escape(models))


def _patient(made: Materials) -> str:
    source = made.source
    issuer = escape(source.text("IssuerOfPatientID"))
    number = f"{escape(source.text('PatientID'))}^^^{issuer}^PI" if source.text("PatientID") else ""
    birth = source.text("PatientBirthDate")
    sex = source.text("PatientSex") if source.text("PatientSex") in ("M", "F", "O") else "U"  # table 0001
    return _segment("PID", "1", "", number, "", _name(source.text("PatientName")), "", birth, sex)


def _name(person: str) -> str:
    """DICOM PN to XPN: the same five components, the alphabetic group first, further groups as repetitions (PS3.5 6.2.1)."""
    groups = [group for group in person.split("=") if group.strip("^ ")]
    kinds = ("A", "I", "P")  # table 0465: alphabetic, ideographic, phonetic
    marked = zip(groups, kinds, strict=False)
    named = "~".join(_xpn(group, kind if len(groups) > 1 else "") for group, kind in marked)
    return named or "^^^^^^U"  # table 0200: unspecified; PID-5 must not be empty


def _xpn(group: str, representation: str) -> str:
    family, given, middle, prefix, suffix = [escape(part) for part in (*group.split("^"), "", "", "", "", "")[:5]]
    return "^".join((family, given, middle, suffix, prefix, "", "L", representation)).rstrip("^")


def _order(made: Materials) -> Iterator[str]:
    """ORC and OBR: the numbers by which the record knows the request (SWF.b), the study, and the time of the reading."""
    request = request_items(made.source)[0]
    placer = escape(clean.text(request, "PlacerOrderNumberImagingServiceRequest"))
    accession = escape(made.source.text("AccessionNumber"))
    filler = escape(clean.text(request, "FillerOrderNumberImagingServiceRequest")) or accession
    procedure = made.source.procedure_reported()[0]
    yield _segment("ORC", "RE", placer, filler)
    studied = made.source.text("StudyDate") + made.source.text("StudyTime").split(".")[0]
    at = _time(made.source.written_at)
    fields = [
        "OBR",
        "1",
        placer,
        filler,
        _coded(procedure, made.words),
        "",
        "",
        studied,
        *[""] * 14,
        at,
        "",
        "RAD",
        NOT_VERIFIED,
    ]
    fields[18] = accession
    yield _segment(*fields)


def _notes(made: Materials) -> Iterator[str]:
    """What the reading says of its own standing comes before anything it says of the patient."""
    notes = [*made.words.draft_notices(made.reading), *made.words.pending_lines(made.reading)]
    if made.source.context.predecessors:
        notes.append(fill(made.words.phrases.revision, number=str(made.source.context.revision)))
    if made.source.context.priors:
        notes.append(made.words.phrases.comparison_standing)
    notes += [*map(made.words.head_line, deciding_heads(made.reading)), *made.words.method_lines(made.reading)]
    for number, note in enumerate(notes, start=1):
        yield _segment("NTE", str(number), "L", escape(note))


def _observations(made: Materials) -> Iterator[str]:
    """OBX segments, numbered through; those of one finding share its key as sub-identifier (OBX-4)."""
    words = made.words
    bodies = [_text_value("ST", STUDY_UID, "", made.source.context.study_instance_uid, words)]
    for finding in made.reading.findings:
        bodies += _finding(finding, words)
    for number, prior in enumerate(made.source.comparisons(made.reading), start=1):
        bodies += _prior(made, prior, f"prior-{number}")
    bodies += [_text_value("TX", codes.FINDINGS, "draft", line, words) for line in _draft(made)]
    impression = [one.text for one in made.reading.draft.impression if one.text.strip()]
    bodies += [_text_value("TX", codes.IMPRESSION, "draft", text, words) for text in impression]
    bodies.append(_text_value("TX", codes.CONCLUSION, "outcome", words.outcome(made.reading), words))
    at = _time(made.source.written_at)
    for number, body in enumerate(bodies, start=1):
        yield _segment("OBX", str(number), *body, "", "", at)


def _finding(finding: Finding, words: Words) -> Iterator[Sequence[str]]:
    key = escape(finding.key)
    if finding.probability is None:
        why = words.not_assessed(words.reason_of(finding))
        yield ("TX", _coded(finding.code, words), key, escape(why), "", "", "", "", "", NO_RESULT)
        return
    flag = "A" if finding.decision is Decision.POSITIVE else "N"  # table 0078: abnormal, normal
    answer = _coded(codes.PRESENCE_OF[finding.decision], words)
    yield ("CWE", _coded(finding.code, words), key, answer, "", "", flag, "", "", NOT_VERIFIED)
    yield _number(codes.CERTAINTY, key, finding.probability, words)
    yield _number(codes.THRESHOLD, key, finding.threshold, words)
    urgency = _coded(codes.URGENCY_OF[finding.urgency], words)
    yield ("CWE", _coded(codes.URGENCY, words), key, urgency, "", "", "", "", "", NOT_VERIFIED)


def _prior(made: Materials, prior: Comparison, sub: str) -> Iterator[Sequence[str]]:
    """One earlier study. Its UID has another code than the study's own, so that no receiver files the result there."""
    words = made.words
    yield _text_value("ST", codes.PROCEDURE_STUDY_UID, sub, prior.study_uid, words)
    yield _text_value("TX", codes.PREVIOUS_FINDINGS, sub, prior_line(words, prior), words)
    for line in compared_lines(words, prior, made.reading):
        yield _text_value("TX", codes.PREVIOUS_FINDING, sub, line, words)


def _number(what: Code, key: str, fraction: float, words: Words) -> Sequence[str]:
    unit = f"%^{escape(words.phrases.percent_unit)}^UCUM"
    return ("NM", _coded(what, words), key, f"{100 * fraction:.2f}", unit, "", "", "", "", NOT_VERIFIED)


def _text_value(kind: str, what: Code, sub: str, text: str, words: Words) -> Sequence[str]:
    return (kind, _coded(what, words), sub, escape(text), "", "", "", "", "", NOT_VERIFIED)


def _draft(made: Materials) -> list[str]:
    lines = [made.words.sentence_line(one, made.reading) for one in made.reading.draft.sentences if one.text.strip()]
    return lines or [made.words.no_draft(made.reading)]


def _coded(code: Code, words: Words) -> str:
    return f"{escape(code.value)}^{escape(words.name(code))}^{escape(code.scheme)}"


def _time(when: datetime) -> str:
    """DTM with offset (2.5.1, 2.A.22)."""
    return when.strftime("%Y%m%d%H%M%S%z")
