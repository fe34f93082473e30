"""FHIR servers that we call: transaction Bundles in, CapabilityStatement out (FHIR R4 http.html)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_node.errors import PeerRefused, PeerUnavailable

MEDIA_TYPE: Final = "application/fhir+json"
# What the content of a request may cause; every other refusal (login, address, load, conflict) may pass or be put right.
CONTENT_FAULTS: Final = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class FhirPeer:
    """A FHIR base address; ``token_file`` holds a bearer token and is read anew for each request."""

    url: str
    token_file: Path | None = None
    timeout_s: float = 30

    def __str__(self) -> str:
        return self.url


def post_bundle(peer: FhirPeer, content: bytes) -> None:
    """POST a transaction Bundle (UTF-8 JSON) to the base address.

    Raises PeerUnavailable where trying again may help, PeerRefused where the server refuses this Bundle.
    """
    response = _request(peer, "POST", peer.url, content=content)
    if not response.is_success:
        raise _refusal(peer, response)
    if response.content.strip() and not _is_object(response):
        # A login page or a proxy says 200 too; taking that for a FHIR server's word would lose the document
        raise PeerUnavailable(
            f"{peer}: HTTP {response.status_code}, but the answer is no FHIR resource; is this the base address?"
        )
    failed = _failed_entries(response)
    if failed:
        raise PeerRefused(f"{peer}: took the Bundle but not its entries {failed}")


def metadata(peer: FhirPeer) -> str:
    """The FHIR version the server declares, such as "4.0.1". Raises PeerUnavailable or PeerRefused."""
    response = _request(peer, "GET", peer.url.rstrip("/") + "/metadata")
    if not response.is_success:
        raise _refusal(peer, response)
    return str(_body(response).get("fhirVersion", "unknown"))


def _request(peer: FhirPeer, method: str, url: str, content: bytes | None = None) -> httpx.Response:
    headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}
    try:
        if peer.token_file is not None:
            headers["Authorization"] = "Bearer " + peer.token_file.read_text("utf-8").strip()
        return httpx.request(method, url, content=content, headers=headers, timeout=peer.timeout_s, trust_env=False)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PeerUnavailable(f"{peer}: token file {peer.token_file} cannot be read ({why})") from error
    except httpx.HTTPError as error:
        raise PeerUnavailable(f"{peer}: {type(error).__name__}") from error


def _refusal(peer: FhirPeer, response: httpx.Response) -> PeerRefused | PeerUnavailable:
    kind = PeerRefused if response.status_code in CONTENT_FAULTS else PeerUnavailable
    return kind(f"{peer}: HTTP {response.status_code}{_issues(response)}")


def _issues(response: httpx.Response) -> str:
    """Codes and places of an OperationOutcome; never its free text, which may repeat patient data."""
    found = [
        f"{i.get('code', '?')} at {', '.join(map(str, _list(i, 'expression'))) or '?'}" for i in _objects(response, "issue")
    ]
    return ": " + "; ".join(found[:5]) if found else ""


def _failed_entries(response: httpx.Response) -> list[int]:
    answers = [entry.get("response") for entry in _objects(response, "entry")]
    statuses = [str(answer.get("status", "200")) if isinstance(answer, dict) else "200" for answer in answers]
    return [number for number, status in enumerate(statuses) if not status.startswith(("200", "201", "204", "304"))]


def _is_object(response: httpx.Response) -> bool:
    return isinstance(_json(response), dict)


def _body(response: httpx.Response) -> dict[str, Any]:
    body = _json(response)
    return body if isinstance(body, dict) else {}


def _json(response: httpx.Response) -> Any:
    """What the answer holds; None where it is no JSON, or nested so deep that it is no FHIR either."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _objects(response: httpx.Response, key: str) -> list[dict[str, Any]]:
    return [item if isinstance(item, dict) else {} for item in _list(_body(response), key)]


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    found = tree.get(key)
    return found if isinstance(found, list) else []
