"""The gate for HL7 v2 messages: what ORU^R01 asks for (HL7 v2.5.1 chapter 7) and what we promise of a draft."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from inference.reading import Code
from reporting import codes
from reporting.context import Fault
from reporting.wording import PHRASES

_DISCLAIMERS: Final = tuple(said.disclaimer for said in PHRASES.values())
_COMPARISON: Final = "WetRead conformance statement: comparison"
_STUDY_UID: Final = Code("110180", "DCM", "Study Instance UID")  # the study's own
_ORDER: Final = re.compile(r"MSH( SFT)+ PID ORC OBR( NTE)+( OBX)+")
_TIME: Final = re.compile(r"\d{14}[+-]\d{4}")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
_STATUS: Final = frozenset({"R", "X"})  # table 0085: not verified, cannot be obtained
_TYPES: Final = frozenset({"CWE", "NM", "ST", "TX"})
_REQUIRED: Final = {  # segment: (field, its name)
    "MSH": (
        (3, "Sending Application"), (7, "Date/Time Of Message"), (9, "Message Type"), (10, "Message Control ID"),
        (11, "Processing ID"), (12, "Version ID"),
    ),
    "SFT": (
        (1, "Software Vendor Organization"), (2, "Software Version"), (3, "Software Product Name"), (4, "Software Binary ID"),
    ),
    "PID": ((3, "Patient Identifier List"), (5, "Patient Name")),  # a record could not file a result of nobody
    "ORC": ((1, "Order Control"),),
    "OBR": ((4, "Universal Service Identifier"), (22, "Results Rpt/Status Chng Date/Time"), (25, "Result Status")),
    "OBX": ((2, "Value Type"), (3, "Observation Identifier"), (5, "Observation Value"), (11, "Observation Result Status")),
}  # fmt: skip


def hl7_faults(content: bytes) -> Iterator[Fault]:
    """Each rule that the message breaks."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        yield Fault("hl7-charset", "HL7 v2.5.1 2.15.9.18", "the message is not the UTF-8 that MSH-18 names")
        return
    segments = [_fields(line) for line in text.split("\r")[:-1]]
    names = " ".join(fields[0] for fields in segments)
    if not text.endswith("\r") or "\n" in text or not _ORDER.fullmatch(names):
        yield Fault("hl7-structure", "HL7 v2.5.1 7.3.1", "the segments are not those of ORU^R01, in their order")
        return
    for fields in segments:
        yield from _missing(fields)
    yield from _header(segments[0])
    yield from _results([fields for fields in segments if fields[0] in ("OBR", "OBX")])
    yield from _comparison(segments)
    notes = [fields[3] for fields in segments if fields[0] == "NTE" and len(fields) > 3]
    if not any(one in note for note in notes for one in _DISCLAIMERS):
        yield Fault("hl7-disclaimer", "WetRead", "no NTE says that this is an AI draft")


def _fields(line: str) -> list[str]:
    """By the numbers of the standard: MSH-1 is the delimiter itself."""
    fields = line.split("|")
    return [fields[0], "|", *fields[1:]] if fields[0] == "MSH" else fields


def _missing(fields: list[str]) -> Iterator[Fault]:
    for number, name in _REQUIRED.get(fields[0], ()):
        if len(fields) <= number or not fields[number]:
            yield Fault("hl7-required", "HL7 v2.5.1 chapter 2.14 and 7.4", f"{fields[0]}-{number} {name} is empty")


def _header(fields: list[str]) -> Iterator[Fault]:
    wanted = {9: "ORU^R01^ORU_R01", 12: "2.5.1", 18: "UNICODE UTF-8"}
    for number, value in wanted.items():
        if len(fields) <= number or fields[number] != value:
            yield Fault("hl7-header", "HL7 v2.5.1 2.15.9", f"MSH-{number} is not {value}")
    if len(fields) > 10 and len(fields[10]) > 20:
        yield Fault("hl7-control-id", "HL7 v2.5.1 2.15.9.10", "MSH-10 is longer than 20 characters")
    if len(fields) > 7 and not _TIME.fullmatch(fields[7]):
        yield Fault("hl7-time", "HL7 v2.5.1 2.A.22", "MSH-7 is no time with its offset")


def _results(segments: list[list[str]]) -> Iterator[Fault]:
    numbers = [fields[1] for fields in segments if fields[0] == "OBX"]
    if numbers != [str(number) for number in range(1, len(numbers) + 1)]:
        yield Fault("hl7-set-id", "HL7 v2.5.1 7.4.2.1", "the OBX segments are not numbered through")
    for fields in segments:
        place = 25 if fields[0] == "OBR" else 11
        if len(fields) > place and fields[place] not in _STATUS:
            yield Fault(
                "hl7-status", "HL7 v2.5.1 tables 0085 and 0123", f"{fields[0]}-{place} claims more than an unverified result"
            )
        if fields[0] == "OBX":
            yield from _value(fields)


def _comparison(segments: list[list[str]]) -> Iterator[Fault]:
    """Earlier studies: each named once by its UID, none of them the study itself, each in words, and whose word they are."""
    told = [fields for fields in segments if fields[0] == "OBX" and len(fields) > 5]
    priors = [(fields[4], fields[5]) for fields in told if _is(fields, codes.PROCEDURE_STUDY_UID)]
    own = {fields[5] for fields in told if _is(fields, _STUDY_UID)}
    said = {fields[4] for fields in told if _is(fields, codes.PREVIOUS_FINDINGS)}
    about = said | {fields[4] for fields in told if _is(fields, codes.PREVIOUS_FINDING)}
    subs, uids = [sub for sub, _ in priors], [uid for _, uid in priors]
    if len(set(subs)) != len(subs) or len(set(uids)) != len(uids) or own & set(uids) or about != set(subs):
        yield Fault("hl7-comparison", _COMPARISON, "a comparison does not name one other study, or names one again")
    if set(subs) - said:
        yield Fault("hl7-comparison", _COMPARISON, "an earlier study is named, and nothing said of it")
    notes = [fields[3] for fields in segments if fields[0] == "NTE" and len(fields) > 3]
    if priors and not any(one.comparison_standing in note for note in notes for one in PHRASES.values()):
        yield Fault("hl7-comparison-standing", _COMPARISON, "no NTE says that comparisons are the model's own earlier word")


def _is(fields: list[str], what: Code) -> bool:
    return fields[3].split("^")[::2] == [what.value, what.scheme]


def _value(fields: list[str]) -> Iterator[Fault]:
    kind, what, value = (fields + [""] * 6)[2], (fields + [""] * 6)[3], (fields + [""] * 6)[5]
    if kind not in _TYPES:
        yield Fault("hl7-value-type", "HL7 v2.5.1 table 0125", "OBX-2 is a value type that we do not send")
    if any(len(part.split("^")) != 3 or not all(part.split("^")) for part in ([what, value] if kind == "CWE" else [what])):
        yield Fault("hl7-code", "HL7 v2.5.1 2.A.13", "a coded element lacks its code, meaning or coding system")
    if kind == "NM" and not _NUMBER.fullmatch(value):
        yield Fault("hl7-number", "HL7 v2.5.1 2.A.47", "a value of type NM is no number")
