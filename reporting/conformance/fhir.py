"""The gate for FHIR Bundles: what our transactions must hold."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

from reporting.context import Fault


def bundle_faults(content: bytes) -> Iterator[Fault]:
    """Each rule that the Bundle breaks."""
    yield from (Fault("fhir", "FHIR R4, IHE RAD IMR", text) for text in _bundle_faults(content))


def _bundle_faults(content: bytes) -> Iterator[str]:
    bundle = json.loads(content)
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
