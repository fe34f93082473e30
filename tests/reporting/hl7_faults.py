"""Faults planted into our HL7 v2 message: a name, what is done to its text, and the rule of the gate that must say so."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from reporting.context import Document, DocumentKind
from reporting.documents import build_documents
from tests.reporting.samples import OPTIONS, context, header, priors, reading

KIND = DocumentKind.HL7_ORU


@cache
def sound(*, compared: bool = False) -> Document:
    """Our message as it is: without a fault. ``compared``: with two earlier studies."""
    study = context(header(), priors=priors() if compared else ())
    (document,) = build_documents(reading(), study, replace(OPTIONS, kinds=frozenset((KIND,))))
    return document


@dataclass(frozen=True)
class Planted:
    """``change`` is done to the message's text; ``rule``: what the gate calls it. ``compared``: as of ``sound``."""

    change: Callable[[str], str]
    rule: str
    kind: DocumentKind = KIND
    compared: bool = False


def sound_of(fault: Planted) -> Document:
    """What the fault is planted into."""
    return sound(compared=True) if fault.compared else sound()


def plant(fault: Planted) -> Document:
    """The document with the fault in it."""
    document = sound_of(fault)
    return replace(document, content=fault.change(document.content.decode()).encode())


PLANTED: dict[str, Planted] = {
    "no message type": Planted(lambda m: m.replace("ORU^R01^ORU_R01", ""), "hl7-required"),
    "another version": Planted(lambda m: m.replace("|2.5.1|", "|2.3|"), "hl7-header"),
    "another character set named": Planted(lambda m: m.replace("UNICODE UTF-8", "8859/1"), "hl7-header"),
    "long control id": Planted(lambda m: re.sub(r"\|([A-Z2-7]{20})\|", r"|\1X|", m), "hl7-control-id"),
    "time without offset": Planted(lambda m: m.replace("+0100", "", 1), "hl7-time"),
    "no patient": Planted(lambda m: re.sub(r"PID[^\r]*\r", "", m), "hl7-structure"),
    "segments in another order": Planted(lambda m: re.sub(r"(ORC[^\r]*\r)(OBR[^\r]*\r)", r"\2\1", m), "hl7-structure"),
    "line feeds": Planted(lambda m: m.replace("\r", "\r\n"), "hl7-structure"),
    "no last carriage return": Planted(lambda m: m[:-1], "hl7-structure"),
    "final result": Planted(lambda m: m.replace("|R|||", "|F|||", 1), "hl7-status"),
    "preliminary report": Planted(lambda m: m.replace("|RAD|R", "|RAD|P"), "hl7-status"),
    "gap in the numbers": Planted(lambda m: m.replace("OBX|3|", "OBX|33|"), "hl7-set-id"),
    "percent sign in a number": Planted(lambda m: m.replace("|93.14|", "|93.14 %|"), "hl7-number"),
    "code without system": Planted(lambda m: m.replace("52101004^Present^SCT", "52101004^Present"), "hl7-code"),
    "unknown value type": Planted(lambda m: m.replace("|TX|", "|ED|", 1), "hl7-value-type"),
    "empty value": Planted(lambda m: m.replace("|93.14|", "||"), "hl7-required"),
    "no disclaimer": Planted(lambda m: m.replace("AI draft, not a diagnosis", "Report"), "hl7-disclaimer"),
    "comparison with the study itself": Planted(
        lambda m: m.replace("|prior-1|1.2.9|", "|prior-1|1.2.3|"), "hl7-comparison", compared=True
    ),
    "the same earlier study twice": Planted(
        lambda m: m.replace("|prior-1|1.2.9|", "|prior-1|1.2.8|"), "hl7-comparison", compared=True
    ),
    "earlier findings of no study": Planted(lambda m: m.replace("|prior-2|", "|prior-3|", 1), "hl7-comparison", compared=True),
    "comparison that does not say whose word it is": Planted(
        lambda m: m.replace("the model's own earlier word", "a comparison"), "hl7-comparison-standing", compared=True
    ),
}
