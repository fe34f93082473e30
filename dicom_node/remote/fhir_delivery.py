"""Delivery of a Bundle to one FHIR server, as that server takes it, and never twice."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Lock
from typing import Any, Final

import httpx

from dicom_node.errors import PeerRefused, PeerUnavailable, RemoteError
from dicom_node.remote.fhir import FhirPeer, accepted, ask, connected, objects, post_transaction
from dicom_node.remote.fhir_capabilities import Capabilities, ask_capabilities
from dicom_node.remote.fhir_plan import REPORT, Plan, Write, entry_of, plan, referring, same, search_for, without

ASKED_AGAIN_S: Final = 3600.0  # a server that was upgraded is noticed within an hour, or with its first refusal
NO_UPDATE: Final = "the server updates nothing by id: findings and draft are written together"
_ID: Final = r"[A-Za-z0-9\-.]{1,64}"


class FhirServer:
    """One server and what it said of itself last: asked once, and again after a failure or an hour. Threads may share it.

    ``confirm``: each DiagnosticReport is read back before it counts as delivered.
    """

    def __init__(self, peer: FhirPeer, clock: Callable[[], float] = time.monotonic, *, confirm: bool = False) -> None:
        self._peer, self._clock, self._confirm = peer, clock, confirm
        self._known: tuple[Capabilities, float] | None = None
        self._alone = Lock()

    def __str__(self) -> str:
        return str(self._peer)

    def deliver(self, content: bytes, *, preliminary: bool = False) -> str:
        """Write a Bundle (UTF-8 JSON); returns what an operator should know, or "".

        Written again, it changes nothing. ``preliminary``: another Bundle of the same resources will follow, which takes the
        place of this one where they are written by id; elsewhere this one is not written. Raises PeerUnavailable where trying
        again may help, PeerRefused where the server refuses this Bundle or says that it cannot take it.
        """
        try:
            with connected(self._peer) as client:
                offered = self._capabilities(client)
                if preliminary and not _updates(self._peer, json.loads(content), offered):
                    return NO_UPDATE
                note = deliver(self._peer, client, content, offered, self._alone)
                if self._confirm:
                    confirm(self._peer, client, json.loads(content))
                return note
        except RemoteError:
            self._known = None
            raise

    def _capabilities(self, client: httpx.Client) -> Capabilities:
        known, now = self._known, self._clock()
        if known is None or now - known[1] > ASKED_AGAIN_S:
            self._known = known = ask_capabilities(self._peer, client), now
        return known[0]


def deliver(
    peer: FhirPeer, client: httpx.Client, content: bytes, offered: Capabilities, alone: AbstractContextManager[object]
) -> str:
    """``FhirServer.deliver`` with what the server offers already known.

    ``alone``: held while resources are looked for and then made, which the server does not promise to do in one step: two
    deliveries that both found nothing would both make one.
    """
    bundle = json.loads(content)
    wished = _planned(peer, bundle, offered)
    if wished.as_it_is:
        post_transaction(peer, client, content, len(wished.writes))
        return "; ".join(wished.notes)
    with alone if any(write.find for write in wished.writes) else nullcontext():
        if wished.transaction:
            _at_once(peer, client, bundle, wished)
        else:
            _one_by_one(peer, client, wished)
    return "; ".join(wished.notes)


def confirm(peer: FhirPeer, client: httpx.Client, bundle: dict[str, Any]) -> None:
    """Look for the Bundle's DiagnosticReport, as written. Raises PeerUnavailable where the server does not have it so."""
    for own in (entry["resource"] for entry in bundle["entry"]):
        if own["resourceType"] != REPORT:
            continue
        answer = accepted(peer, ask(peer, client, "GET", f"{REPORT}?{search_for(own)}"))
        found = [entry.get("resource") for entry in objects(answer, "entry")]
        if not any(isinstance(one, dict) and same(one, own) and _says_the_same(one, own) for one in found):
            raise PeerUnavailable(f"{peer}: said that it stored the {REPORT}, but does not find it so")


def _says_the_same(found: dict[str, Any], own: dict[str, Any]) -> bool:
    """A server may normalise a resource; what a reader takes from it must be there."""
    return all(found.get(key) == own.get(key) for key in ("status", "conclusion"))


def _planned(peer: FhirPeer, bundle: dict[str, Any], offered: Capabilities) -> Plan:
    try:
        return plan(bundle, offered)
    except PeerRefused as error:
        raise PeerRefused(f"{peer}: {error}") from error


def _updates(peer: FhirPeer, bundle: dict[str, Any], offered: Capabilities) -> bool:
    """Whether the report is written by id, so that writing it again updates it."""
    return not any(write.search for write in _planned(peer, bundle, offered).writes if write.kind == REPORT)


def _at_once(peer: FhirPeer, client: httpx.Client, bundle: dict[str, Any], wished: Plan) -> None:
    """A transaction of what the server does not hold yet."""
    known, absent = _look_up(peer, client, wished.writes)
    writes = [write for write in wished.writes if write.url not in known and write not in absent]
    entries = [entry_of(replace(write, resource=referring(without(write.resource, absent), known))) for write in writes]
    if entries:
        post_transaction(peer, client, _encoded({**bundle, "entry": entries}), len(entries))


def _one_by_one(peer: FhirPeer, client: httpx.Client, wished: Plan) -> None:
    """Each resource for itself; one that broke off in the middle is taken up again by the next attempt."""
    known, absent = _look_up(peer, client, wished.writes)
    for write in wished.writes:
        if write.url not in known and write not in absent:
            resource = referring(without(write.resource, absent), known)
            known[write.url] = _written(peer, client, replace(write, resource=resource))


def _look_up(peer: FhirPeer, client: httpx.Client, writes: tuple[Write, ...]) -> tuple[dict[str, str], list[Write]]:
    """Addresses of what the server holds already, and what it neither holds nor makes."""
    known: dict[str, str] = {}
    absent: list[Write] = []
    for write in writes:
        found = _find(peer, client, write) if write.find else ""
        if found:
            known[write.url] = found
        elif not write.make and write.kind == "Patient":
            # The record learns of its patients from elsewhere (ADT), perhaps later than of their images
            raise PeerUnavailable(f"{peer}: it creates no Patient and does not know this one yet")
        elif not write.make:
            absent.append(write)
    return known, absent


def _written(peer: FhirPeer, client: httpx.Client, write: Write) -> str:
    """Write one resource; returns its address on the server."""
    entry = entry_of(write)
    if not write.search:
        accepted(peer, ask(peer, client, "PUT", entry["request"]["url"], _encoded(entry["resource"])))
        return str(entry["request"]["url"])
    response = ask(peer, client, "POST", write.kind, _encoded(write.resource), {"If-None-Exist": write.search})
    answer = accepted(peer, response)
    place = re.search(rf"(?:^|/){write.kind}/({_ID})", response.headers.get("Location", ""))
    own = place[1] if place else str(answer.get("id", "")) if answer.get("resourceType") == write.kind else ""
    found = f"{write.kind}/{own}" if own else _find(peer, client, write)
    if not found:
        raise PeerUnavailable(f"{peer}: took a {write.kind} and does not say under which id")
    return found


def _find(peer: FhirPeer, client: httpx.Client, write: Write) -> str:
    """The address of the one resource that the search finds; empty where none. Raises PeerUnavailable where several do.

    A server may pass over a parameter it does not know and answer with anything (R4 3.1.1.1.2): only what carries the same
    identifier counts.
    """
    answer = accepted(peer, ask(peer, client, "GET", f"{write.kind}?{write.search}"))
    resources = [entry.get("resource") for entry in objects(answer, "entry")]
    found = {str(one.get("id")) for one in resources if isinstance(one, dict) and same(one, write.resource)}
    if len(found) > 1:
        raise PeerUnavailable(f"{peer}: holds {len(found)} resources {write.kind} with one identifier; join them there")
    own = "".join(found)
    return f"{write.kind}/{own}" if re.fullmatch(_ID, own) else ""


def _encoded(resource: dict[str, Any]) -> bytes:
    return json.dumps(resource, ensure_ascii=False, allow_nan=False).encode()
