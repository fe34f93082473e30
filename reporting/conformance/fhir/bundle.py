"""One of our own Bundles as its promises see it: entries by type, and what a reference in it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

_R5_MARK: Final = "|5.0.0"


def items(value: Any, name: str) -> list[Json]:
    """The objects in a list of this name; none where there is no such list."""
    found = value.get(name) if isinstance(value, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def profiles_of(resource: Any) -> list[str]:
    """The profiles that a resource claims; none where its meta is none."""
    meta = resource.get("meta") if isinstance(resource, dict) else None
    profiles = meta.get("profile") if isinstance(meta, dict) else None
    return [one for one in profiles if isinstance(one, str)] if isinstance(profiles, list) else []


def is_r5(bundle: Any) -> bool:
    """Our R5 Bundles name the version of the Bundle that they are (R5 2.1.5.0 meta.profile with a version)."""
    return any(one.endswith(_R5_MARK) for one in profiles_of(bundle))


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of the transaction with its full URL, empty where it has none, and its request."""

    url: str
    kind: str
    resource: Json
    request: Json


@dataclass(frozen=True, slots=True)
class OwnBundle:
    """``entries``: those that hold a resource. ``r5``: whether it is of FHIR R5 instead of R4."""

    value: Json
    entries: tuple[Entry, ...]
    r5: bool

    @classmethod
    def of_value(cls, value: Json) -> OwnBundle:
        return cls(value, tuple(_entry(one) for one in items(value, "entry")), is_r5(value))

    @property
    def study_element(self) -> str:
        """Where a report names its study: R5 renamed the element."""
        return "study" if self.r5 else "imagingStudy"

    @property
    def profiles(self) -> list[str]:
        return profiles_of(self.value)

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def named(self, reference: Any) -> Json | None:
        """The resource that a Reference names by full URL; None where there is none."""
        url = reference.get("reference") if isinstance(reference, dict) else None
        return next((entry.resource for entry in self.entries if url and entry.url == url), None)

    def kind_of(self, reference: Any) -> str:
        found = self.named(reference)
        return str(found.get("resourceType")) if found else ""


def _entry(value: Json) -> Entry:
    url, resource, request = value.get("fullUrl"), value.get("resource"), value.get("request")
    held = resource if isinstance(resource, dict) else {}
    named = request if isinstance(request, dict) else {}
    return Entry(url if isinstance(url, str) else "", str(held.get("resourceType")), held, named)
