"""FHIR servers that we call over HTTP (FHIR R4 http.html): login, TLS, and what their answers mean.

What a server offers stands in ``fhir_capabilities``, how a Bundle is fitted to it in ``fhir_plan``, and the whole delivery in
``fhir_delivery``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote import http
from dicom_node.remote.http import HttpPeer

MEDIA_TYPE: Final = "application/fhir+json"
# What the content of a request may cause; every other refusal (login, address, load, conflict) may pass or be put right.
CONTENT_FAULTS: Final = frozenset({400, 413, 415, 422})
# The codes of an OperationOutcome that say "not now" (R4 issue-type), whatever the status beside them
_PASSING: Final = frozenset({"transient", "lock-error", "no-store", "timeout", "incomplete", "throttled"})
_MOVED: Final = frozenset({301, 302, 307, 308})
_HOPS: Final = 3
_SHOWN: Final = 5


class FhirPeer(HttpPeer):
    """A FHIR base address; its secrets are read anew for each delivery."""


@contextmanager
def connected(peer: FhirPeer) -> Iterator[httpx.Client]:
    """A client that is logged in at ``peer``. Raises PeerUnavailable where a secret or a TLS file cannot be read."""
    with http.connected(peer, {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}) as client:
        yield client


def post_bundle(peer: FhirPeer, content: bytes) -> None:
    """POST a transaction Bundle (UTF-8 JSON) to the base address, as it is.

    Raises PeerUnavailable where trying again may help, PeerRefused where the server refuses this Bundle.
    """
    with connected(peer) as client:
        post_transaction(peer, client, content, len(json.loads(content)["entry"]))


def post_transaction(peer: FhirPeer, client: httpx.Client, content: bytes, entries: int) -> None:
    """``post_bundle`` over a connection already made; the outcome of each of the ``entries`` counts (R4 3.1.0.11.3)."""
    answer = accepted(peer, ask(peer, client, "POST", "", content))
    told = len(objects(answer, "entry"))
    if answer.get("type") == "transaction-response" and 0 < told < entries:
        raise PeerUnavailable(f"{peer}: told what became of {told} of {entries} entries only")
    failed = _failed_entries(answer)
    if failed:
        kind = PeerRefused if any(status in CONTENT_FAULTS for _, status in failed) else PeerUnavailable
        named = ", ".join(f"{number} (HTTP {status})" for number, status in failed[:_SHOWN])
        raise kind(f"{peer}: took the Bundle but not its entries {named}{issues(answer)}")


def accepted(peer: FhirPeer, response: httpx.Response) -> dict[str, Any]:
    """What a successful answer holds, empty where nothing. Raises PeerRefused or PeerUnavailable for any other."""
    answer = body(response)
    if not response.is_success:
        raise _refusal(peer, response.status_code, answer or {})
    if response.content.strip() and answer is None:
        # A login page or a proxy says 200 too; taking that for a FHIR server's word would lose the document
        raise PeerUnavailable(
            f"{peer}: HTTP {response.status_code}, but the answer is no FHIR resource; is this the base address?"
        )
    if (answer or {}).get("resourceType") == "OperationOutcome" and _grave(answer or {}):
        raise _refusal(peer, response.status_code, answer or {}, content=True)
    return answer or {}


def ask(
    peer: FhirPeer,
    client: httpx.Client,
    method: str,
    path: str,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """One request below the base address. Raises PeerUnavailable where no answer comes.

    A redirect is followed within the same host only (IHE RAD-141 2:4.141.4.2.3): patient data go nowhere that the settings
    do not name.
    """
    url = peer.url.rstrip("/") + f"/{path}" if path else peer.url
    try:
        for _ in range(_HOPS):
            response = client.request(method, url, content=content, headers=headers)
            target = urljoin(url, response.headers.get("Location", ""))
            if response.status_code not in _MOVED or urlsplit(target)[:2] != urlsplit(url)[:2] or target == url:
                return response
            url = target
    except httpx.HTTPError as error:
        raise PeerUnavailable(f"{peer}: {type(error).__name__}") from error
    raise PeerUnavailable(f"{peer}: redirects without end; give the final address as `url`")


def body(response: httpx.Response) -> dict[str, Any] | None:
    """The JSON object of an answer; None where it is none, or nested so deep that it is no FHIR either."""
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def objects(tree: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The items of a list of objects; whatever else a server sent there counts as an empty one."""
    found = tree.get(key)
    return [item if isinstance(item, dict) else {} for item in found] if isinstance(found, list) else []


def issues(answer: dict[str, Any]) -> str:
    """Codes and places of an OperationOutcome or of those in a Bundle; never free text, which may repeat patient data."""
    own = objects(answer, "issue")
    inner = [(entry.get("response") or {}) for entry in objects(answer, "entry")]
    outcomes = [one.get("outcome") for one in inner if isinstance(one, dict)]
    own += [issue for outcome in outcomes if isinstance(outcome, dict) for issue in objects(outcome, "issue")]
    found = [f"{issue.get('code', '?')} at {_places(issue)}" for issue in own]
    return ": " + "; ".join(found[:_SHOWN]) if found else ""


def _places(issue: dict[str, Any]) -> str:
    places = issue.get("expression")
    return ", ".join(map(str, places)) if isinstance(places, list) and places else "?"


def _refusal(peer: FhirPeer, status: int, answer: dict[str, Any], *, content: bool = False) -> PeerRefused | PeerUnavailable:
    passing = any(issue.get("code") in _PASSING for issue in objects(answer, "issue"))
    kind = PeerRefused if (content or status in CONTENT_FAULTS) and not passing else PeerUnavailable
    moved = "; it sends us elsewhere: give the new address as `url`" if status in _MOVED else ""
    return kind(f"{peer}: HTTP {status}{moved}{issues(answer)}")


def _grave(answer: dict[str, Any]) -> bool:
    return any(issue.get("severity") in ("fatal", "error") for issue in objects(answer, "issue"))


def _failed_entries(answer: dict[str, Any]) -> list[tuple[int, int]]:
    """Number and status of each entry that was not taken, where the answer says so."""
    answers = [entry.get("response") for entry in objects(answer, "entry")]
    words = [str(one.get("status", "200")) if isinstance(one, dict) else "200" for one in answers]
    statuses = [int(word[:3]) if word[:3].isdigit() else 0 for word in words]
    return [(number, status) for number, status in enumerate(statuses) if status not in (200, 201, 204, 304)]
