"""The gate for FHIR: what R4 (4.0.1) says of anybody's resources, and what we promise of our own transactions.

One walk judges every element by HL7's definitions and runs their invariants; HL7's JSON schema and the classes of
fhir.resources judge beside it (``outside``); references, attachments and identifiers are followed. Of R5, whose definitions
are not shipped, the classes of fhir.resources and our own rules judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from reporting.conformance.fhir.attachments import attachment_faults
from reporting.conformance.fhir.bundle import OwnBundle, is_r5
from reporting.conformance.fhir.comparison import comparison_faults
from reporting.conformance.fhir.definitions import r4
from reporting.conformance.fhir.outside import own_shapes, structure_faults
from reporting.conformance.fhir.promises import promise_faults
from reporting.conformance.fhir.r5 import r5_faults
from reporting.conformance.fhir.references import Index, entry_faults, identifier_faults, reference_faults
from reporting.conformance.fhir.report import report_faults
from reporting.conformance.fhir.walk import Walk, walked
from reporting.context import Fault

__all__ = ["bundle_faults", "standard_bundle_faults", "unjudged"]

Json = dict[str, Any]

_STATEMENT: Final = "WetRead conformance statement"
_JSON: Final = "FHIR R4 2.6 JSON"


class _DuplicateNameError(ValueError):
    pass


def bundle_faults(content: bytes, *, uid: str | None = None, version: str | None = None) -> tuple[Fault, ...]:
    """Each rule that one of our own transactions breaks; never raises, whatever the bytes are.

    ``uid``, ``version``: what its Document says that it is (``Document.fhir_version``); None: the Bundle's own word is taken.
    """
    try:
        bundle = json.loads(content, parse_constant=_no_number)
        return tuple(dict.fromkeys((*_document_faults(bundle, uid, version), *_own_faults(bundle))))
    except Exception as error:  # noqa: BLE001  whatever damaged bytes do to the reader, they may not leave
        return (_unreadable(error),)


def standard_bundle_faults(content: bytes | Json) -> tuple[Fault, ...]:
    """What R4 alone says of anybody's Bundle or resource, as bytes or parsed; never raises.

    Resources of types that are not among the shipped definitions are left out: ``unjudged`` names them.
    """
    try:
        return tuple(dict.fromkeys(_standard_faults(_parsed(content))))
    except Exception as error:  # noqa: BLE001  anybody's bytes
        return (_unreadable(error),)


def unjudged(content: bytes | Json) -> tuple[str, ...]:
    """The R4 resource types in it that ``standard_bundle_faults`` does not judge, sorted; none of what cannot be read."""
    try:
        return tuple(sorted(walked(_parsed(content), r4()).unjudged))
    except Exception:  # noqa: BLE001  standard_bundle_faults tells why
        return ()


def _document_faults(bundle: Any, uid: str | None, version: str | None) -> Iterator[Fault]:
    identifier = bundle.get("identifier") if isinstance(bundle, dict) else None
    if uid is not None and (not isinstance(identifier, dict) or identifier.get("value") != f"urn:oid:{uid}"):
        yield Fault("document-uid", _STATEMENT, "Bundle.identifier: differs from the document's UID")
    if version is not None and is_r5(bundle) is not (version == "5.0"):
        yield Fault("document-version", _STATEMENT, "Bundle.meta.profile: is not of the document's version of FHIR")


def _own_faults(bundle: Json) -> Iterator[Fault]:
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        yield Fault("resource-type", _JSON, "the document is no Bundle")
        return
    own = OwnBundle.of_value(bundle)
    yield from r5_faults(bundle) if own.r5 else _r4_faults(bundle)
    yield from promise_faults(own)
    yield from report_faults(own)
    yield from comparison_faults(own)


def _r4_faults(bundle: Json) -> Iterator[Fault]:
    walk = walked(bundle, r4(), once=True)
    yield from walk.faults
    shapes = own_shapes()
    for one in walk.judged:
        if one.sound and one.shape not in shapes:
            told = tuple(structure_faults(one.resource, one.where))
            yield from told
            if not told:
                shapes.add(one.shape)
    yield from _relations(bundle, walk, own=True)
    if walk.unjudged:
        yield Fault("resource-type", _STATEMENT, f"Bundle: {', '.join(walk.unjudged)} cannot be judged")


def _standard_faults(value: Json) -> Iterator[Fault]:
    walk = walked(value, r4())
    yield from walk.faults
    for one in walk.judged:
        if one.sound:
            yield from structure_faults(one.resource, one.where)
    yield from _relations(value, walk, own=False)


def _relations(value: Json, walk: Walk, *, own: bool) -> Iterator[Fault]:
    index = Index.of(value, walk.definitions)
    for found in walk.found["Reference"]:
        yield from reference_faults(found, index, own=own)
    for found in walk.found["Attachment"]:
        yield from attachment_faults(found.value, found.where)
    for found in walk.found["Identifier"]:
        yield from identifier_faults(found, copied=own)
    yield from entry_faults(value)


def _parsed(content: bytes | Json) -> Json:
    if isinstance(content, dict):
        return content
    value = json.loads(content, parse_constant=_no_number, object_pairs_hook=_unique)
    return value if isinstance(value, dict) else {}


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    held = dict(pairs)
    if len(held) != len(pairs):
        raise _DuplicateNameError
    return held


def _no_number(_: str) -> NoReturn:
    raise ValueError("JSON has no NaN and no infinity")


def _unreadable(error: Exception) -> Fault:
    if isinstance(error, _DuplicateNameError):
        return Fault("json", "RFC 8259 4", "an object has two members of the same name")
    return Fault("json", _JSON, f"the document cannot be read ({type(error).__name__})")
