"""The rules that each file breaks, and then those that only show beside the other files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from dicom_node.conformance import dicom, texts
from dicom_node.conformance.find import Found
from dicom_node.conformance.forms import DICOM, FHIR, HL7, form_of
from dicom_node.conformance.verdict import Status, Verdict
from reporting.conformance.across import Outline, across_faults
from reporting.context import Fault

_UNKNOWN: Final = "neither DICOM, FHIR JSON nor HL7 v2"
_SUFFIXES: Final = {".dcm": DICOM, ".dicom": DICOM, ".hl7": HL7}
_BEGINNINGS: Final = {DICOM: "PS3.10 7.1", HL7: "HL7 v2.5.1 2.14"}
_JUDGES: Final = {DICOM: dicom.judge, FHIR: texts.judge_fhir, HL7: texts.judge_hl7}


def judge_all(files: Iterable[Found], *, ours: bool) -> list[Verdict]:
    """Every file judged alone, then every DICOM object beside those it refers to. Raises nothing that a file could cause."""
    verdicts = [_judge(found, ours=ours) for found in files]
    first: dict[str, tuple[str, Outline]] = {}
    for verdict in verdicts:
        if verdict.outline is not None and verdict.outline.uid:
            first.setdefault(verdict.outline.uid, (verdict.file, verdict.outline))
    return [_beside(verdict, first) for verdict in verdicts]


def _judge(found: Found, *, ours: bool) -> Verdict:
    name = str(found.path)
    if found.trouble:
        return Verdict(name, Status.UNUSABLE, reason=found.trouble)
    try:
        form = form_of(found.path)
        if form not in _JUDGES:
            return _unknown(found)
        verdict = _JUDGES[form](found.path, ours=ours)
    except OSError as error:
        return Verdict(name, Status.UNUSABLE, reason=f"cannot be read ({error.strerror or type(error).__name__})")
    unusable = verdict.status is Status.SKIPPED and found.named
    return replace(verdict, status=Status.UNUSABLE) if unusable else verdict


def _unknown(found: Found) -> Verdict:
    """A file that is named as one of the forms and begins as none is damaged; any other is none of our business."""
    form = _SUFFIXES.get(found.path.suffix.lower(), "")
    if form:
        fault = Fault("unreadable", _BEGINNINGS[form], f"the file is named {found.path.suffix}, and does not begin as one")
        return Verdict(str(found.path), Status.FAULTY, form, faults=(fault,))
    return Verdict(str(found.path), Status.UNUSABLE if found.named else Status.SKIPPED, reason=_UNKNOWN)


def _beside(verdict: Verdict, first: Mapping[str, tuple[str, Outline]]) -> Verdict:
    if verdict.outline is None:
        return verdict
    faults = across_faults(verdict.outline, first)
    name = first.get(verdict.outline.uid, (verdict.file, None))[0]
    if name != verdict.file and _digest(name) != _digest(verdict.file):
        faults += (Fault("same-uid", "PS3.5 9.1", f"{name} is another object of the same SOP Instance UID"),)
    return replace(verdict, status=Status.FAULTY, faults=verdict.faults + faults) if faults else verdict


def _digest(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:  # gone since it was judged: no second fault of it
        return ""
