"""DICOMweb stores that we call by STOW-RS (PS3.18 10.5): objects in one request, an answer for each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.dimse import refusal as status_refusal
from dicom_node.remote.http import HttpPeer, refusal, request

_ACCEPT: Final = "application/dicom+json"
_FAILED, _REFERENCED = "00081198", "00081199"  # Failed SOP Sequence, Referenced SOP Sequence
_INSTANCE, _FAILURE, _WARNING = "00081155", "00081197", "00081196"
_PROCESSING_FAILURE: Final = 0x0110
_NO_CONTENT: Final = 204  # nothing found (PS3.18 10.6.3.1)
_CONFLICT: Final = 409  # "none was stored", each with its reason (table 10.5.3-1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one object. ``error`` None: it is there; ``note``: what an operator should know of it."""

    error: PeerUnavailable | PeerRefused | None = None
    note: str = ""


def store(peer: HttpPeer, contents: Sequence[bytes]) -> tuple[Outcome, ...]:
    """POST Part 10 objects to ``studies``; what came of each, in their order.

    An object that the answer does not name counts as not stored: a proxy says 200 too. Raises PeerUnavailable or PeerRefused
    where the request as a whole was not taken.
    """
    uids = [_sop_uid(content) for content in contents]
    sent = [content for uid, content in zip(uids, contents, strict=True) if uid]
    boundary = f"wetread-{uuid.uuid4().hex}"
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    answer = request(peer, "POST", "studies", _multipart(sent, boundary), {"Content-Type": kind, "Accept": _ACCEPT})
    told = _read(answer.body)
    if told is None or not (answer.good or answer.status == _CONFLICT):
        if answer.good:
            raise PeerUnavailable(
                f"{peer}: HTTP {answer.status}, but the answer is no STOW-RS response; is this the base address?"
            )
        raise refusal(peer, answer.status)
    return tuple(_outcome(peer, uid, *told) for uid in uids)


def missing(peer: HttpPeer, content: bytes) -> PeerUnavailable | None:
    """Look for a stored object by QIDO-RS (PS3.18 10.6): why it counts as not stored, None where it is found.

    Raises PeerUnavailable, PeerRefused where the search as such fails.
    """
    uid = _sop_uid(content)
    answer = request(peer, "GET", f"instances?SOPInstanceUID={uid}", None, {"Accept": _ACCEPT})
    if answer.status == _NO_CONTENT:
        return PeerUnavailable(f"{peer}: said that it stored the object, but does not find it")
    if not answer.good:
        raise refusal(peer, answer.status)
    if uid.encode() in answer.body:
        return None
    return PeerUnavailable(f"{peer}: said that it stored the object, but does not find it")


def reach(peer: HttpPeer) -> None:
    """Ask for one study by QIDO-RS: shows address and login, and stores nothing. Raises PeerUnavailable, PeerRefused."""
    answer = request(peer, "GET", "studies?limit=1", None, {"Accept": _ACCEPT})
    if not answer.good:
        raise refusal(peer, answer.status)


def _sop_uid(content: bytes) -> str:
    """Empty where it is no DICOM object."""
    try:
        return str(dcmread(BytesIO(content), stop_before_pixels=True).get("SOPInstanceUID", ""))
    except InvalidDicomError:
        return ""


def _multipart(contents: Sequence[bytes], boundary: str) -> bytes:
    """RFC 2387; one part per object."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + content + b"\r\n" for content in contents) + f"--{boundary}--\r\n".encode()


def _outcome(peer: HttpPeer, uid: str, stored: dict[str, int], failed: dict[str, int]) -> Outcome:
    if not uid:
        return Outcome(PeerRefused("the document is not a DICOM Part 10 file"))
    if uid in failed:
        error = status_refusal(f"{peer}: did not store the object,", failed[uid])
        return Outcome(error, "" if error else f"is there already (0x{failed[uid]:04X})")
    if uid in stored:
        return Outcome(note=f"stored with warning 0x{stored[uid]:04X}" if stored[uid] else "")
    return Outcome(PeerUnavailable(f"{peer}: its answer does not name the object"))


def _read(body: bytes) -> tuple[dict[str, int], dict[str, int]] | None:
    """SOP Instance UIDs with warning reasons (0: none), and with failure reasons; None for no STOW-RS response at all."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = tree[0] if isinstance(tree, list) and tree else tree
    if not isinstance(found, dict) or not (_REFERENCED in found or _FAILED in found):
        return None
    stored = {uid: _number(item, _WARNING, 0) for uid, item in _items(found, _REFERENCED)}
    return stored, {uid: _number(item, _FAILURE, _PROCESSING_FAILURE) for uid, item in _items(found, _FAILED)}


def _items(tree: dict[str, Any], tag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in _values(tree, tag):
        uids = _values(item, _INSTANCE) if isinstance(item, dict) else []
        if uids:
            yield str(uids[0]), item


def _number(item: dict[str, Any], tag: str, otherwise: int) -> int:
    values = _values(item, tag)
    return values[0] if values and isinstance(values[0], int) else otherwise


def _values(tree: dict[str, Any], tag: str) -> list[Any]:
    element = tree.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
