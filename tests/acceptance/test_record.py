"""Bundles in a real FHIR server, written in each way that there is, twice: nothing is doubled, nothing dangles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import httpx
import pytest

from dicom_node.errors import PeerRefused
from dicom_node.remote.fhir import FhirPeer, connected
from dicom_node.remote.fhir_capabilities import Capabilities, TypeRules
from dicom_node.remote.fhir_delivery import FhirServer as Record
from dicom_node.remote.fhir_delivery import deliver
from reporting.context import DocumentKind
from reporting.options import DocumentOptions
from tests.reporting.samples import OPTIONS, by_kind, context, header, reading

from .harness.peers import FhirServer

ONLY = replace(OPTIONS, kinds=frozenset({DocumentKind.FHIR_BUNDLE}))
WITH_A_PLACE = replace(ONLY, dicomweb_url="https://pacs.example.org/dicom-web")
_ANY = frozenset({"read", "create", "update", "search-type"})
_NO_PROMISE = TypeRules(_ANY, conditional_create=False, update_create=False, searched_by=frozenset({"identifier"}))
KINDS = ("Patient", "Endpoint", "ImagingStudy", "Organization", "Device", "Observation", "DiagnosticReport", "Provenance")
SINGLY = Capabilities(interactions=frozenset({"batch"}))
UNPROMISED = Capabilities(interactions=frozenset({"batch"}), types=dict.fromkeys(KINDS, _NO_PROMISE))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    peer = FhirServer(tmp_path_factory.mktemp("record"))
    peer.start()
    yield peer
    peer.stop()


def bundle(number: int, options: DocumentOptions, *, small: bool = False) -> bytes:
    """A reading of a study of its own; ``small``: of eight resources, the most that this server takes with conditions."""
    uid = f"1.2.3.{number}"
    ctx = context(header(StudyInstanceUID=uid, PatientID=f"P-{number}"), study_instance_uid=uid)
    read = reading()
    if small:
        read = replace(read, findings=read.findings[:1], models=read.models[:1])
    document = by_kind(read, ctx, options)[DocumentKind.FHIR_BUNDLE]
    assert document.faults == ()
    return document.content


WAYS: dict[str, tuple[int, DocumentOptions, bool, Capabilities | None]] = {
    "by id, at once": (1, WITH_A_PLACE, False, None),
    "by search, at once": (2, replace(ONLY, fhir_write="by-search"), True, None),
    "by id, one by one": (3, WITH_A_PLACE, False, SINGLY),
    "by search, one by one": (4, replace(WITH_A_PLACE, fhir_write="by-search"), False, SINGLY),
    "looked up first": (5, WITH_A_PLACE, False, UNPROMISED),
}


@pytest.mark.parametrize(("number", "options", "small", "offered"), WAYS.values(), ids=WAYS)
def test_written_twice_it_is_there_once(
    server: FhirServer, number: int, options: DocumentOptions, small: bool, offered: Capabilities | None
) -> None:
    content, peer = bundle(number, options, small=small), FhirPeer(server.url)
    sent = Counter(entry["resource"]["resourceType"] for entry in json.loads(content)["entry"])
    seen = []
    for _ in range(2):
        if offered is None:
            Record(peer).deliver(content)
        else:
            with connected(peer) as client:
                deliver(peer, client, content, offered, nullcontext())
        seen.append(_held(server))
    assert set(seen[0]) == set(seen[1])
    held = seen[1]
    (study,) = [own for own, one in held.items() if one.get("identifier", [{}])[0].get("value") == f"urn:oid:1.2.3.{number}"]
    (report,) = [one for one in held.values() if {"reference": study, "type": "ImagingStudy"} in one.get("imagingStudy", ())]
    assert len(report["result"]) == sent["Observation"]
    assert set(_references(report)) <= set(held)
    assert held[report["subject"]["reference"]]["identifier"][0]["value"] == f"P-{number}"


def test_a_release_that_the_server_does_not_speak_is_refused_for_good(server: FhirServer) -> None:
    before = _held(server)
    with pytest.raises(PeerRefused, match="HTTP 422"):
        Record(FhirPeer(server.url)).deliver(bundle(9, replace(WITH_A_PLACE, fhir_version="R5")))
    assert _held(server) == before


def _held(server: FhirServer) -> dict[str, dict[str, Any]]:
    """Everything of our types that the server holds, by its address."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60, verify=False) as client:
        answers = [client.get(f"/{kind}", params={"_count": "1000"}).raise_for_status().json() for kind in KINDS]
    found = [entry["resource"] for answer in answers for entry in answer.get("entry", ())]
    return {f"{one['resourceType']}/{one['id']}": one for one in found}


def _references(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if "reference" in tree:
            yield tree["reference"]
        for below in tree.values():
            yield from _references(below)
    elif isinstance(tree, list):
        for below in tree:
            yield from _references(below)
