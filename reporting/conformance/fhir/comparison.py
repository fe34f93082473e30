"""What we promise of Observations that compare with an earlier study: whose word they are, of which study, coded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from reporting import codes
from reporting.conformance.fhir.bundle import Entry, OwnBundle, items
from reporting.context import Fault
from reporting.wording import PHRASES

_OURS: Final = "WetRead conformance statement: comparison"
_CHANGES: Final = frozenset(code.value for code in codes.CHANGE_OF.values())
_UID: Final = "urn:dicom:uid"


def comparison_faults(bundle: OwnBundle) -> Iterator[Fault]:
    """Each promise that a comparison of the Bundle breaks."""
    own = {_uid(one) for study in bundle.of("ImagingStudy") for one in items(study.resource, "identifier")}
    seen: list[str] = []
    for entry in bundle.of("Observation"):
        if codes.PREVIOUS_FINDINGS.value in _codes(entry.resource.get("code")):
            yield from _faults(entry, own, seen)


def _faults(entry: Entry, own: set[str], seen: list[str]) -> Iterator[Fault]:
    observation = entry.resource
    studies = [uid for one in items(observation, "derivedFrom") if (uid := _uid(one.get("identifier")))]
    if len(studies) != 1 or studies[0] in own or studies[0] in seen:
        text = "Observation.derivedFrom: a comparison does not name one other study by its UID, or names one again"
        yield Fault("comparison-study", f"{_OURS}, FHIR R4 Observation.derivedFrom", text)
    seen += studies
    notes = [str(one.get("text", "")) for one in items(observation, "note")]
    if not any(said.comparison_standing in note for note in notes for said in PHRASES.values()):
        text = "Observation.note: a comparison does not say that it is the model's own earlier word"
        yield Fault("comparison-standing", _OURS, text)
    absent = observation.get("dataAbsentReason")
    if not isinstance(observation.get("valueString"), str) and not (isinstance(absent, dict) and absent.get("text")):
        yield Fault("comparison-text", _OURS, "Observation.value: a comparison says nothing in words, and not why")
    for part in items(observation, "component"):
        if not _codes(part.get("valueCodeableConcept")) & _CHANGES:
            yield Fault("comparison-change", _OURS, "Observation.component: a comparison's component tells no change")


def _uid(identifier: Any) -> str:
    held = identifier if isinstance(identifier, dict) else {}
    return str(held.get("value", "")) if held.get("system") == _UID else ""


def _codes(concept: Any) -> set[str]:
    return {str(one.get("code", "")) for one in items(concept, "coding")}
