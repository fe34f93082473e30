"""DICOMweb, read-only: WADO-RS (PS3.18 10.4), objects as they are stored, and their metadata.

Nothing is transcoded: a request that names other transfer syntaxes than that of a stored object is answered with 406. Files are
read as they are sent, so memory does not grow with a study.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydicom import Dataset, dcmread
from starlette.exceptions import HTTPException

from dicom_node.pixels.quiet import quiet
from dicom_node.storage.index import InstanceEntry, Narrow, files_of
from dicom_node.trail import Trail
from dicom_node.web.access import client_of
from dicom_node.web.parts import Parts

PEER: Final = "DICOMweb"  # who asks, in the audit trail: keys have names, but several may share one
_CHUNK: Final = 1 << 17  # bytes
_BULK: Final = 1024  # bytes; longer values of bulk VRs are left out of metadata
_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PART: Final = re.compile(r"[^,\"]*(?:\"[^\"]*\"[^,\"]*)*")
_SYNTAX: Final = re.compile(r'transfer-syntax="?([0-9.*]+)"?')


def add(made: APIRouter, parts: Parts, trail: Trail) -> None:
    """The resources of objects, below those of searches."""

    def entries(study: str, series: str = "", instance: str = "") -> tuple[InstanceEntry, ...]:
        named = Narrow((study,), (series,) if series else (), (instance,) if instance else ())
        with parts.db.read() as conn:
            found = files_of(conn, named)
        if not found:
            raise HTTPException(404, "there is no such object here")
        return found

    def objects(request: Request, found: tuple[InstanceEntry, ...]) -> Response:
        answer = _objects(parts, request, found)
        trail.gave(PEER, client_of(request), found)
        return answer

    @made.get("/studies/{study}")
    def study_objects(request: Request, study: str) -> Response:
        return objects(request, entries(study))

    def metadata(request: Request, found: tuple[InstanceEntry, ...]) -> Response:
        trail.asked(PEER, client_of(request), "WADO-RS", str(request.url).encode())
        return _metadata(parts, found)

    @made.get("/studies/{study}/metadata")
    def study_metadata(request: Request, study: str) -> Response:
        return metadata(request, entries(study))

    @made.get("/studies/{study}/series/{series}")
    def series_objects(request: Request, study: str, series: str) -> Response:
        return objects(request, entries(study, series))

    @made.get("/studies/{study}/series/{series}/metadata")
    def series_metadata(request: Request, study: str, series: str) -> Response:
        return metadata(request, entries(study, series))

    @made.get("/studies/{study}/series/{series}/instances/{instance}")
    def one_object(request: Request, study: str, series: str, instance: str) -> Response:
        return objects(request, entries(study, series, instance))

    @made.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
    def one_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        return metadata(request, entries(study, series, instance))


def _objects(parts: Parts, request: Request, found: Sequence[InstanceEntry]) -> Response:
    """multipart/related, or the object alone for who takes application/dicom of one only (PS3.18 10.4.1.2)."""
    whole, single = _accepted(request.headers.get("accept", "*/*"), found)
    paths = [parts.files.path(one.path) for one in found]
    if not all(path.is_file() for path in paths):
        raise HTTPException(410, "an object was removed")
    if single and not whole:
        return StreamingResponse(_bytes(paths[0]), media_type="application/dicom")
    boundary = uuid.uuid4().hex
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return StreamingResponse(_multipart(paths, found, boundary), media_type=kind)


def _accepted(accept: str, found: Sequence[InstanceEntry]) -> tuple[bool, bool]:
    """Whether the objects are taken as multipart, and whether one is taken alone. Raises 406."""
    offers = [one.strip().lower() for one in _PART.findall(accept) if one.strip()]
    fitting = [one for one in offers if _syntaxes_fit(one, found)]
    whole = any(_is_multipart(one) for one in fitting)
    single = len(found) == 1 and any(one.split(";")[0].strip() == "application/dicom" for one in fitting)
    if not whole and not single:
        raise HTTPException(
            406, "objects are given as they are stored: multipart/related; type=application/dicom; transfer-syntax=*"
        )
    return whole, single


def _is_multipart(offer: str) -> bool:
    kind = offer.split(";")[0].strip()
    return kind in ("*/*", "multipart/*") or (
        kind == "multipart/related" and ("type=" not in offer or "application/dicom" in offer)
    )


def _syntaxes_fit(offer: str, found: Sequence[InstanceEntry]) -> bool:
    """Who names no transfer syntax gets what there is."""
    named = _SYNTAX.findall(offer)
    return not named or "*" in named or {one.transfer_syntax for one in found} <= set(named)


def _multipart(paths: Sequence[Path], found: Sequence[InstanceEntry], boundary: str) -> Iterator[bytes]:
    for path, entry in zip(paths, found, strict=True):
        yield f"--{boundary}\r\nContent-Type: application/dicom; transfer-syntax={entry.transfer_syntax}\r\n\r\n".encode()
        yield from _bytes(path)
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _bytes(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _metadata(parts: Parts, found: Sequence[InstanceEntry]) -> Response:
    """PS3.18 10.4.1.1.2: all attributes but bulk data, object by object."""
    return StreamingResponse(_headers([parts.files.path(one.path) for one in found]), media_type="application/dicom+json")


def _headers(paths: Sequence[Path]) -> Iterator[bytes]:
    yield b"["
    before = b""
    for path in paths:
        told = _header(path)
        if told is not None:
            yield before + json.dumps(told).encode()
            before = b","
    yield b"]"


def _header(path: Path) -> dict[str, Any] | None:
    """None for a file that cannot be read."""
    try:
        with quiet():
            dataset = dcmread(path, stop_before_pixels=True)
            _drop_bulk(dataset)
            told: dict[str, Any] = dataset.to_json_dict(suppress_invalid_tags=True)
    except Exception:  # noqa: BLE001  whatever a header does to the reader, the others are told
        return None
    return told


def _drop_bulk(dataset: Dataset) -> None:
    """Of sequences too; what cannot be decoded is left to the encoder, which leaves it out."""
    for raw in list(dataset.elements()):
        try:
            element = dataset[raw.tag]
        except Exception:  # noqa: BLE001  one value that cannot be decoded
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                _drop_bulk(item)
        elif element.VR in _BULK_VRS and len(element.value or b"") > _BULK:
            del dataset[raw.tag]
