"""Bundles of sample readings, and what stands in them."""

import json
from dataclasses import replace

from reporting.context import DocumentKind
from tests.reporting.samples import OPTIONS, by_kind, context, header, reading

BY_SEARCH = replace(OPTIONS, fhir_write="by-search")


def build(read=None, ctx=None, options=OPTIONS) -> dict:
    return json.loads(by_kind(read or reading(), ctx or context(), options)[DocumentKind.FHIR_BUNDLE].content)


def resources(bundle: dict, kind: str) -> list[dict]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def one(bundle: dict, kind: str) -> dict:
    (found,) = resources(bundle, kind)
    return found


def patient(**changes: object) -> dict:
    return one(build(ctx=context(header(**changes))), "Patient")


def resolve(bundle: dict, reference: dict) -> dict:
    return next(entry["resource"] for entry in bundle["entry"] if entry["fullUrl"] == reference["reference"])
