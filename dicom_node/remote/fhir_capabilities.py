"""What a FHIR server says of itself: its CapabilityStatement (FHIR R4 and R5 capabilitystatement.html), in the parts we use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from dicom_node.errors import PeerUnavailable
from dicom_node.remote.fhir import FhirPeer, accepted, ask, body, connected, objects

_JSON: Final = frozenset({"json", "application/json", "application/fhir+json", "text/json", "application/json+fhir"})
_RELEASES: Final = {"4.0": "R4", "4.3": "R4", "5.0": "R5"}  # R4B (4.3) takes R4's forms of the resources that we send


@dataclass(frozen=True, slots=True)
class TypeRules:
    """What the server does with one resource type. An absent list or flag says nothing: None."""

    interactions: frozenset[str] | None
    conditional_create: bool | None
    update_create: bool | None
    searched_by: frozenset[str]

    def offers(self, interaction: str) -> bool:
        return self.interactions is None or interaction in self.interactions

    @property
    def creates(self) -> bool:
        """Whether it makes resources under ids of its own (POST)."""
        return self.offers("create")

    @property
    def names(self) -> bool:
        """Whether it makes resources under ids of ours (PUT; R4 3.1.0.7.1, update as create)."""
        return self.offers("update") and self.update_create is not False

    def finds(self, parameter: str) -> bool:
        """Whether it can be searched by ``parameter``; those that each type has need not be listed (R4 3.1.1.1.1)."""
        return self.offers("search-type") and (not self.searched_by or parameter in self.searched_by or parameter == "_tag")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The parts of a CapabilityStatement that decide how we write. None and "": the server does not say."""

    fhir_version: str = ""
    json: bool | None = None
    interactions: frozenset[str] | None = None  # of the whole system
    types: Mapping[str, TypeRules] | None = None

    @property
    def release(self) -> str:
        """``R4`` or ``R5``; empty where the version is not said; the version itself where it is another."""
        return _RELEASES.get(self.fhir_version[:3], self.fhir_version)

    @property
    def transaction(self) -> bool:
        return self.interactions is None or "transaction" in self.interactions

    def rules(self, kind: str) -> TypeRules | None:
        """None where the server names its types and this is not among them."""
        return _ANYTHING if self.types is None else self.types.get(kind)


_ANYTHING: Final = TypeRules(None, None, None, frozenset())


def capabilities(peer: FhirPeer) -> Capabilities:
    """Ask ``peer`` for its CapabilityStatement.

    A server that has none is used as the settings say: everything unknown. Raises PeerUnavailable where it does not answer.
    """
    with connected(peer) as client:
        return ask_capabilities(peer, client)


def ask_capabilities(peer: FhirPeer, client: httpx.Client) -> Capabilities:
    response = ask(peer, client, "GET", "metadata")
    if (400 <= response.status_code < 500 and response.status_code not in (408, 429)) or response.status_code == 501:
        return Capabilities()
    if not response.is_success:
        raise PeerUnavailable(f"{peer}: HTTP {response.status_code} to a question about its capabilities")
    accepted(peer, response)
    answer = body(response) or {}
    return read_statement(answer) if answer.get("resourceType") == "CapabilityStatement" else Capabilities()


def read_statement(statement: dict[str, Any]) -> Capabilities:
    """The parts we use of a CapabilityStatement; whatever has not the form of the standard counts as not said."""
    server = next((one for one in objects(statement, "rest") if one.get("mode", "server") == "server"), {})
    formats = _words(statement, "format")
    listed = objects(server, "resource")
    return Capabilities(
        fhir_version=_word(statement.get("fhirVersion")),
        json=any(one.partition(";")[0].strip().lower() in _JSON for one in formats) if formats else None,
        interactions=_codes(server, "interaction"),
        types={_word(one.get("type")): _rules(one) for one in listed} if listed else None,
    )


def _rules(listed: dict[str, Any]) -> TypeRules:
    searched = {_word(one.get("name")) for one in objects(listed, "searchParam")}
    flags = [listed.get(name) for name in ("conditionalCreate", "updateCreate")]
    conditional, update = (flag if isinstance(flag, bool) else None for flag in flags)
    return TypeRules(_codes(listed, "interaction"), conditional, update, frozenset(searched - {""}))


def _codes(tree: dict[str, Any], key: str) -> frozenset[str] | None:
    found = frozenset(_word(one.get("code")) for one in objects(tree, key)) - {""}
    return found or None


def _words(tree: dict[str, Any], key: str) -> list[str]:
    found = tree.get(key)
    return [_word(one) for one in found if _word(one)] if isinstance(found, list) else []


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
