"""DICOMweb, read-only: WADO-RS (PS3.18 10.4), objects as they are stored, and their metadata.

Nothing is transcoded: a request that names other transfer syntaxes than that of a stored object is answered with 406. Files are
read as they are sent, so memory does not grow with a study.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydicom import Dataset
from starlette.exceptions import HTTPException

from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.opening import read_instance
from dicom_node.pixels.quiet import quiet
from dicom_node.storage.index import InstanceEntry
from dicom_node.trail import Trail
from dicom_node.web.access import client_of
from dicom_node.web.dicomweb_found import PEER, entries, file_of, multipart, related
from dicom_node.web.media import ANY, Range, ranges
from dicom_node.web.parts import Parts

_DICOM: Final = "application/dicom"
_CHUNK: Final = 1 << 17  # bytes
_BULK: Final = 1024  # bytes; longer values of bulk VRs are left out of metadata
_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def add(made: APIRouter, parts: Parts, trail: Trail, decoders: Decoders) -> None:
    """The resources of whole objects, below those of searches."""

    def objects(request: Request, found: tuple[InstanceEntry, ...]) -> Response:
        answer = _objects(parts, request, found)
        trail.gave(PEER, client_of(request), found)
        return answer

    @made.get("/studies/{study}")
    def study_objects(request: Request, study: str) -> Response:
        return objects(request, entries(parts, study))

    def metadata(request: Request, found: tuple[InstanceEntry, ...]) -> Response:
        trail.asked(PEER, client_of(request), "WADO-RS", str(request.url).encode())
        return _metadata(parts, found, decoders)

    @made.get("/studies/{study}/metadata")
    def study_metadata(request: Request, study: str) -> Response:
        return metadata(request, entries(parts, study))

    @made.get("/studies/{study}/series/{series}")
    def series_objects(request: Request, study: str, series: str) -> Response:
        return objects(request, entries(parts, study, series))

    @made.get("/studies/{study}/series/{series}/metadata")
    def series_metadata(request: Request, study: str, series: str) -> Response:
        return metadata(request, entries(parts, study, series))

    @made.get("/studies/{study}/series/{series}/instances/{instance}")
    def one_object(request: Request, study: str, series: str, instance: str) -> Response:
        return objects(request, entries(parts, study, series, instance))

    @made.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
    def one_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        return metadata(request, entries(parts, study, series, instance))


def _objects(parts: Parts, request: Request, found: Sequence[InstanceEntry]) -> Response:
    """multipart/related, or the object alone for who takes application/dicom of one only (PS3.18 10.4.1.2)."""
    whole, single = _accepted(ranges(request), found)
    paths = [file_of(parts, one) for one in found]
    if single and not whole:
        return StreamingResponse(_bytes(paths[0]), media_type=_DICOM)
    boundary, kind = related(_DICOM)
    return StreamingResponse(multipart(boundary, _contents(paths, found)), media_type=kind)


def _accepted(wished: Sequence[Range], found: Sequence[InstanceEntry]) -> tuple[bool, bool]:
    """Whether the objects are taken as multipart, and whether one is taken alone. Raises 406."""
    fitting = [one for one in wished if one.takes(_DICOM) and all(one.takes_syntax(of.transfer_syntax) for of in found)]
    whole = any(one.multipart or one.kind == ANY for one in fitting)
    single = len(found) == 1 and any(not one.multipart and one.kind == _DICOM for one in fitting)
    if not whole and not single:
        raise HTTPException(
            406, "objects are given as they are stored: multipart/related; type=application/dicom; transfer-syntax=*"
        )
    return whole, single


def _contents(paths: Sequence[Path], found: Sequence[InstanceEntry]) -> Iterator[tuple[str, Iterator[bytes]]]:
    for path, entry in zip(paths, found, strict=True):
        yield f"{_DICOM}; transfer-syntax={entry.transfer_syntax}", _bytes(path)


def _bytes(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _metadata(parts: Parts, found: Sequence[InstanceEntry], decoders: Decoders) -> Response:
    """PS3.18 10.4.1.1.2: all attributes but bulk data, object by object."""
    paths = [parts.files.path(one.path) for one in found]
    return StreamingResponse(_headers(paths, decoders), media_type="application/dicom+json")


def _headers(paths: Sequence[Path], decoders: Decoders) -> Iterator[bytes]:
    yield b"["
    before = b""
    for path in paths:
        told = _header(path, decoders)
        if told is not None:
            yield before + json.dumps(told).encode()
            before = b","
    yield b"]"


def _header(path: Path, decoders: Decoders) -> dict[str, Any] | None:
    """None for a file that cannot be read."""
    try:
        with quiet():
            dataset = read_instance(path, decoders).header
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
