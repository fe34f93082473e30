"""The gate: a document that does not hold what we promise of it never leaves.

The finished bytes are read back and judged, not the objects they were made from.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError
from pydicom import Dataset, dcmread

from inference.reading import Code
from reporting import clean, codes
from reporting.conformance.hl7 import hl7_faults
from reporting.content import concept, walk
from reporting.context import Document, DocumentKind, Fault
from reporting.errors import DocumentError
from reporting.wording import DISCLAIMER

_FIXED: Final = {
    "CompletionFlag": "PARTIAL",
    "VerificationFlag": "UNVERIFIED",
    "Modality": "SR",
    "SpecificCharacterSet": "ISO_IR 192",
}
_ROOTS: Final = {DocumentKind.FINDINGS_SR: "1500", DocumentKind.DRAFT_SR: "2000", DocumentKind.TEXT_SR: "2000"}
_ROOT_ITEMS: Final = (codes.LANGUAGE, codes.OBSERVER_TYPE, codes.DEVICE_OBSERVER_UID, codes.PROCEDURE_REPORTED)
_GROUP_ITEMS: Final = (codes.TRACKING_IDENTIFIER, codes.TRACKING_UID, codes.FINDING, codes.PRESENCE)
_ALGORITHM: Final = (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION)
_MAX_SHOWN: Final = 5


def faults_of(document: Document) -> tuple[Fault, ...]:
    """Each rule that ``document`` breaks; no patient data in the texts."""
    if document.kind in (DocumentKind.HEAT_MAP, DocumentKind.HEAT_MAP_GSPS, DocumentKind.PDF):
        return ()
    if document.kind is DocumentKind.HL7_ORU:
        return tuple(hl7_faults(document.content))
    faults = _bundle_faults(document) if document.kind is DocumentKind.FHIR_BUNDLE else _sr_faults(document)
    return tuple(Fault("gate", "", text) for text in faults)


def check(document: Document) -> None:
    """Raise DocumentError naming each rule that ``document`` breaks; no patient data in the message."""
    faults = faults_of(document)
    if faults:
        more = f" and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
        raise DocumentError(f"{document.kind.value}: {'; '.join(fault.text for fault in faults[:_MAX_SHOWN])}{more}")


def _sr_faults(document: Document) -> Iterator[str]:
    with clean.quiet_headers():
        ds = dcmread(BytesIO(document.content))
        yield from (f"{keyword} is not {wanted}" for keyword, wanted in _FIXED.items() if ds.get(keyword) != wanted)
        if document.uid != ds.get("SOPInstanceUID") or document.sop_class_uid != ds.get("SOPClassUID"):
            yield "the SOP UIDs differ from the document's"
        yield from _evidence_faults(ds)
        yield from _tree_faults(ds, _ROOTS[document.kind])
        yield from _scheme_faults(ds)


def _evidence_faults(ds: Dataset) -> Iterator[str]:
    """PS3.3 C.17.2.3: everything referenced in the tree stands in the evidence."""
    evidence = {
        reference.ReferencedSOPInstanceUID
        for study in ds.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    for item in walk(ds):
        for reference in item.get("ReferencedSOPSequence", ()):
            if reference.ReferencedSOPInstanceUID not in evidence:
                yield "an image is referenced that the evidence sequence lacks"


def _tree_faults(ds: Dataset, template: str) -> Iterator[str]:
    named = ds.get("ContentTemplateSequence") or ()
    if not named or named[0].get("TemplateIdentifier") != template:
        yield f"the root does not name template {template}"
    yield from (f"the root lacks {wanted.meaning!r}" for wanted in _missing(ds, _ROOT_ITEMS))
    texts = [str(item.get("TextValue", "")) for item in walk(ds)]
    if not any(DISCLAIMER in text for text in texts):
        yield "the draft disclaimer is missing"
    for item in walk(ds):
        if _is(concept(item), codes.MEASUREMENT_GROUP):
            yield from _group_faults(item)


def _group_faults(group: Dataset) -> Iterator[str]:
    """TID 1501, 4108 and 4019: what public validators let pass."""
    judged = not _missing(group, (codes.CERTAINTY,))
    wanted = (*_GROUP_ITEMS, *(_ALGORITHM if judged else (codes.COMMENT,)))
    yield from (f"a finding lacks {code.meaning!r}" for code in _missing(group, wanted))


def _scheme_faults(ds: Dataset) -> Iterator[str]:
    known = {item.CodingSchemeDesignator for item in ds.get("CodingSchemeIdentificationSequence", ())}
    for element in ds.iterall():
        if element.keyword == "CodingSchemeDesignator" and element.value not in known:
            yield f"coding scheme {element.value!r} is not identified"
        if element.keyword in {"CodeValue", "CodeMeaning", "CodingSchemeDesignator"} and not element.value:
            yield f"a code has an empty {element.keyword}"


def _missing(parent: Dataset, wanted: tuple[Code, ...]) -> list[Code]:
    held = [concept(child) for child in parent.get("ContentSequence", ())]
    return [code for code in wanted if not any(_is(one, code) for one in held)]


def _is(found: Code | None, wanted: Code) -> bool:
    return found is not None and (found.value, found.scheme) == (wanted.value, wanted.scheme)


def _bundle_faults(document: Document) -> Iterator[str]:
    bundle = json.loads(document.content)
    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        yield from (f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in error.errors(include_input=False))
        return
    entries = bundle["entry"]
    urls = [entry["fullUrl"] for entry in entries]
    if len(set(urls)) != len(urls):
        yield "two entries have the same fullUrl"
    for entry in entries:
        yield from _entry_faults(entry, dict(zip(urls, (one["resource"]["resourceType"] for one in entries), strict=True)))


def _entry_faults(entry: dict[str, Any], types: dict[str, str]) -> Iterator[str]:
    resource = entry["resource"]
    kind = resource["resourceType"]
    request = entry["request"]
    if not request.get("ifNoneExist") and (request["method"], request["url"]) != ("PUT", f"{kind}/{resource.get('id')}"):
        yield f"{kind} would be created again on a retry"
    if "contained" in resource:
        yield f"{kind} contains resources (IHE IMR forbids it)"
    for reference in _references(resource):
        if types.get(reference["reference"]) != reference.get("type"):
            yield f"{kind} refers to {reference.get('type')} {reference['reference']}, which is not in the Bundle"
    for form in resource.get("presentedForm", ()):
        data = base64.b64decode(form["data"])
        digest = base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
        if (form["size"], form["hash"]) != (len(data), digest):
            yield "presentedForm has a wrong size or hash"


def _references(value: Any) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        if "reference" in value:
            yield value
        for below in value.values():
            yield from _references(below)
    elif isinstance(value, list):
        for below in value:
            yield from _references(below)
