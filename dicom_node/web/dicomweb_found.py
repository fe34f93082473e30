"""What the resources of DICOMweb begin with: the entries that an address names, their frames, and multipart answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException

from dicom_node.index.headers import values_of
from dicom_node.storage.index import InstanceEntry, Narrow, files_of
from dicom_node.web.parts import Parts

PEER: Final = "DICOMweb"  # who asks, in the audit trail: keys have names, but several may share one
MOST_FRAMES: Final = 10_000  # of one request
_DIGITS: Final = 9


def entries(parts: Parts, study: str, series: str = "", instance: str = "") -> tuple[InstanceEntry, ...]:
    """Raises 404 where there are none."""
    named = Narrow((study,), (series,) if series else (), (instance,) if instance else ())
    with parts.db.read() as conn:
        found = files_of(conn, named)
    if not found:
        raise HTTPException(404, "there is no such object here")
    return found


def file_of(parts: Parts, entry: InstanceEntry) -> Path:
    """Raises 410 where it was removed."""
    path = parts.files.path(entry.path)
    if not path.is_file():
        raise HTTPException(410, "an object was removed")
    return path


def frame_list(text: str, count: int) -> tuple[int, ...]:
    """Numbers from 1, between commas (PS3.18 10.1.1). Raises 400 for no such list, 404 for a frame beyond ``count``."""
    told = text.split(",")
    if len(told) > MOST_FRAMES or not all(one.isascii() and one.isdigit() and len(one) <= _DIGITS for one in told):
        raise HTTPException(400, f"frames are at most {MOST_FRAMES} whole numbers from 1, between commas")
    numbers = tuple(int(one) for one in told)
    if 0 in numbers:
        raise HTTPException(400, "frames are counted from 1")
    if max(numbers) > count:
        raise HTTPException(404, f"there are {count} frames")
    return numbers


def told_of(entry: InstanceEntry) -> dict[str, Any]:
    """Its attributes, as DICOM JSON."""
    told: dict[str, Any] = json.loads(entry.attributes)
    return told


def frames_of(entry: InstanceEntry) -> int:
    """How many the object says it has; 0 where it is no image."""
    told = told_of(entry)
    if not values_of(told, "Rows"):
        return 0
    stated = next(iter(values_of(told, "NumberOfFrames")), "1")
    return max(1, int(stated)) if stated.isascii() and stated.isdigit() else 1


def related(kind: str) -> tuple[str, str]:
    """A boundary, and the media type of a multipart answer whose parts are of ``kind``."""
    boundary = uuid.uuid4().hex
    return boundary, f'multipart/related; type="{kind}"; boundary={boundary}'


def multipart(boundary: str, parts: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """Each part: its content type, and its bytes."""
    for kind, content in parts:
        yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
        yield from content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
