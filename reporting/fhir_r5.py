"""The R4 Bundle of a reading in the forms of R5 (5.0.0): what the two releases write differently, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from reporting.fhir_parts import Json

# IMR is defined for R4 only. A version behind the canonical tells what a stored Bundle is without its headers
BUNDLE: Final = "http://hl7.org/fhir/StructureDefinition/Bundle|5.0.0"


def as_r5(bundle: Json) -> Json:
    """The same transaction in R5's forms; ``bundle`` is left as it is."""
    entries = [{**entry, "resource": _resource(entry["resource"])} for entry in bundle["entry"]]
    return {**bundle, "meta": {"profile": [BUNDLE]}, "entry": entries}


def _resource(resource: Json) -> Json:
    meta = {name: value for name, value in resource.get("meta", {}).items() if name != "profile"}
    found = {**resource, "meta": meta} if meta else {name: value for name, value in resource.items() if name != "meta"}
    change = _CHANGES.get(resource["resourceType"])
    return change(found) if change else found


def _study(found: Json) -> Json:
    """modality and its like: Coding → CodeableConcept; procedureCode and reasonCode → CodeableReference."""
    renamed = _renamed(found, procedureCode="procedure", reasonCode="reason")
    for name in ("procedure", "reason"):
        if name in renamed:
            renamed[name] = [{"concept": concept} for concept in renamed[name]]
    renamed["modality"] = [_wrapped(one) for one in found.get("modality", ())]
    renamed["series"] = [_series(one) for one in found.get("series", ())]
    return {name: value for name, value in renamed.items() if value != []}


def _series(found: Json) -> Json:
    changed = {**found, "modality": _wrapped(found["modality"])}
    if "bodySite" in found:
        changed["bodySite"] = {"concept": _wrapped(found["bodySite"])}
    if "laterality" in found:
        changed["laterality"] = _wrapped(found["laterality"])
    return changed


def _endpoint(found: Json) -> Json:
    payload = [{"type": found["payloadType"]}]
    rest = {name: value for name, value in found.items() if name != "payloadType"}
    return {**rest, "connectionType": [_wrapped(found["connectionType"])], "payload": payload}


def _device(found: Json) -> Json:
    """deviceName → name, whose types say only how a name is used; type is a list; a property has one value."""
    changed = _renamed(found, deviceName="name")
    changed["name"] = [{"value": one["name"], "type": "user-friendly-name"} for one in found["deviceName"]]
    changed["type"] = [found["type"]]
    if "property" in found:
        changed["property"] = [{"type": one["type"], "valueString": one["valueCode"][0]["text"]} for one in found["property"]]
    return changed


def _report(found: Json) -> Json:
    """imagingStudy → study; Attachment.size is an integer64, which JSON writes as a string (R5 2.1.28.0.1)."""
    forms = [{**form, "size": str(form["size"])} for form in found["presentedForm"]]
    return {**_renamed(found, imagingStudy="study"), "presentedForm": forms}


def _provenance(found: Json) -> Json:
    """reason → authorization, a CodeableReference."""
    changed = _renamed(found, reason="authorization")
    changed["authorization"] = [{"concept": concept} for concept in found["reason"]]
    return changed


def _wrapped(coding: Json) -> Json:
    return {"coding": [coding]}


def _renamed(found: Json, **names: str) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in found.items()}


_CHANGES: Final[dict[str, Callable[[Json], Json]]] = {
    "ImagingStudy": _study,
    "Endpoint": _endpoint,
    "Device": _device,
    "DiagnosticReport": _report,
    "Provenance": _provenance,
}
