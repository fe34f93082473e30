"""FHIR JSON and HL7 v2 files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from dicom_node.conformance.verdict import Status, Verdict
from reporting.conformance.fhir import bundle_faults, standard_bundle_faults, unjudged
from reporting.conformance.hl7 import hl7_faults
from reporting.conformance.hl7_messages import message_faults, split_messages
from reporting.context import Fault

_MAX: Final = 1 << 28  # bytes
_TOO_LARGE: Final = "larger than 256 MiB"
_TYPE: Final = re.compile(r"[A-Z][A-Za-z]{1,60}")
_MESSAGE: Final = re.compile(r"MSH(.)[^\r\n]*")
_MESSAGE_TYPE: Final = re.compile(r"[A-Z0-9]{3}([^A-Za-z0-9][A-Z0-9_]{1,7}){0,2}")


def judge_fhir(path: Path, *, ours: bool) -> Verdict:
    """A Bundle or a resource, in JSON. Raises OSError."""
    if path.stat().st_size > _MAX:
        return Verdict(str(path), Status.UNUSABLE, "fhir", reason=_TOO_LARGE)
    content = path.read_bytes()
    try:
        parsed: Any = json.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return _broken(path, content)
    if not isinstance(parsed, dict) or "resourceType" not in parsed:
        return Verdict(str(path), Status.SKIPPED, reason="JSON, but no FHIR resource")
    faults, notes = list(standard_bundle_faults(content)), [f"{kind}: not judged" for kind in unjudged(content)]
    kind = str(parsed["resourceType"])
    if ours and kind == "Bundle":
        faults += bundle_faults(content)
    elif ours:
        notes.append("no document of ours is this resource alone: no promise was judged")
    kept = tuple(dict.fromkeys(faults))
    what = kind if _TYPE.fullmatch(kind) else "unknown resource"
    return Verdict(str(path), Status.FAULTY if kept else Status.OK, "fhir", what, kept, tuple(notes))


def _broken(path: Path, content: bytes) -> Verdict:
    if b"resourceType" not in content:
        return Verdict(str(path), Status.SKIPPED, reason="no whole JSON, and no FHIR resource")
    fault = Fault("fhir-json", "FHIR R4 2.6.2", "the file is no whole JSON object (a resource, not lines of them)")
    return Verdict(str(path), Status.FAULTY, "fhir", faults=(fault,))


def judge_hl7(path: Path, *, ours: bool) -> Verdict:
    """One message or several. Raises OSError."""
    if path.stat().st_size > _MAX:
        return Verdict(str(path), Status.UNUSABLE, "hl7", reason=_TOO_LARGE)
    messages = split_messages(path.read_bytes())
    if not messages:
        return Verdict(str(path), Status.SKIPPED, "hl7", reason="an HL7 v2 batch without a message")
    types = [_type_of(message) for message in messages]
    faults: list[Fault] = []
    for number, (message, kind) in enumerate(zip(messages, types, strict=True), start=1):
        promised = hl7_faults(message) if ours and kind.startswith("ORU") else ()
        place = f"message {number}: " if len(messages) > 1 else ""
        found = dict.fromkeys((*message_faults(message), *promised))
        faults += (Fault(fault.rule, fault.clause, place + fault.text) for fault in found)
    others = ours and not all(kind.startswith("ORU") for kind in types)
    notes = ("no message of ours is of another type than ORU: of those no promise was judged",) if others else ()
    what = types[0] if len(messages) == 1 else f"{len(messages)} messages"
    return Verdict(str(path), Status.FAULTY if faults else Status.OK, "hl7", what, tuple(faults), notes)


def _type_of(message: bytes) -> str:
    header = _MESSAGE.match(message.decode("latin-1"))
    fields = header[0].split(header[1]) if header else []
    named = fields[8] if len(fields) > 8 else ""
    return named if _MESSAGE_TYPE.fullmatch(named) else "message"
