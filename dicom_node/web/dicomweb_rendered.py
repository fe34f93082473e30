"""DICOMweb, read-only: pictures of an object or of its frames, as JPEG or PNG (PS3.18 10.4.1.1.3, 10.4.1.1.5, 8.3.5).

They are what the node itself shows its models: modality LUT, window, polarity, palette, shutter. Each is made whole in a
decoder process with its limits, so what an object does to a decoder costs that picture only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from dicom_node.errors import PixelError
from dicom_node.index.headers import values_of
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.look import AS_STORED, Look
from dicom_node.pixels.rules import NamedWindow
from dicom_node.pixels.task import Picture, Viewport
from dicom_node.storage.index import InstanceEntry
from dicom_node.trail import Trail
from dicom_node.web.access import client_of
from dicom_node.web.dicomweb_found import PEER, entries, file_of, frame_list, frames_of, multipart, related, told_of
from dicom_node.web.media import ranges
from dicom_node.web.parts import Parts
from dicom_node.web.turns import Turns

_FORMS: Final[dict[str, Literal["jpeg", "png"]]] = {"image/jpeg": "jpeg", "image/png": "png"}
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_MOST_SIDE: Final = 16_384  # pixels of a viewport's side
_THUMBNAIL: Final = Viewport(200, 200)
_LARGEST: Final = 1e12  # beyond all modality units
_IGNORED: Final = ("annotation", "iccprofile")
_HERE: Final = "/studies/{study}/series/{series}/instances/{instance}"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What of pictures is asked for. ``kind``: their media type."""

    kind: str
    look: Look
    viewport: Viewport | None
    quality: int

    def picture(self, parts: Parts, entry: InstanceEntry, number: int | None) -> Picture:
        path = file_of(parts, entry)
        return Picture(path, number, self.look, self.viewport, _FORMS[self.kind], self.quality)


@dataclass(frozen=True, slots=True)
class _Renderer:
    parts: Parts
    trail: Trail
    decoders: Decoders

    def one(self, request: Request, entry: InstanceEntry, number: int | None, wish: _Wish) -> Response:
        content = self._drawn(wish.picture(self.parts, entry, number))
        self.trail.gave(PEER, client_of(request), (entry,))
        return Response(content, media_type=wish.kind, headers=_warnings(request))

    def several(self, entry: InstanceEntry, numbers: Sequence[int], wish: _Wish) -> tuple[Iterator[bytes], str]:
        """Each is drawn when its turn has come; the first at once, so that its failure can be told."""
        boundary, kind = related(wish.kind)
        drawn = ((wish.kind, [self._drawn(wish.picture(self.parts, entry, number))]) for number in numbers)
        body = multipart(boundary, drawn)
        return chain(list(islice(body, 2)), body), kind

    def _drawn(self, picture: Picture) -> bytes:
        """Raises 406 for what cannot be shown truthfully."""
        try:
            return self.decoders.picture(picture)
        except PixelError as error:
            raise HTTPException(406, f"no picture can be made of this object: {error.reason}") from error


def add(made: APIRouter, parts: Parts, trail: Trail, decoders: Decoders, turns: Turns) -> None:
    renderer = _Renderer(parts, trail, decoders)

    def whole(request: Request, study: str, series: str, instance: str) -> Response:
        entry = _image(entries(parts, study, series, instance)[0])
        return renderer.one(request, entry, 1, _wish(request))

    def frames(request: Request, study: str, series: str, instance: str, listed: str) -> Response:
        entry = _image(entries(parts, study, series, instance)[0])
        numbers, wish = frame_list(listed, frames_of(entry)), _wish(request)
        if len(numbers) == 1:
            return renderer.one(request, entry, numbers[0], wish)
        body, kind = renderer.several(entry, numbers, wish)
        trail.gave(PEER, client_of(request), (entry,))
        return StreamingResponse(turns.each(body), media_type=kind, headers=_warnings(request))

    def thumbnail(request: Request, *named: str) -> Response:
        wish = _wish(request)
        entry = _representative(entries(parts, *named))
        return renderer.one(request, entry, None, replace(wish, viewport=wish.viewport or _THUMBNAIL))

    @made.get(f"{_HERE}/rendered")
    async def rendered(request: Request, study: str, series: str, instance: str) -> Response:
        return await turns.do(lambda: whole(request, study, series, instance))

    @made.get(f"{_HERE}/frames/{{numbers}}/rendered")
    async def rendered_frames(request: Request, study: str, series: str, instance: str, numbers: str) -> Response:
        return await turns.do(lambda: frames(request, study, series, instance, numbers))

    @made.get(f"{_HERE}/thumbnail")
    async def thumbnail_of_object(request: Request, study: str, series: str, instance: str) -> Response:
        return await turns.do(lambda: thumbnail(request, study, series, instance))

    @made.get("/studies/{study}/series/{series}/thumbnail")
    async def thumbnail_of_series(request: Request, study: str, series: str) -> Response:
        return await turns.do(lambda: thumbnail(request, study, series))

    @made.get("/studies/{study}/thumbnail")
    async def thumbnail_of_study(request: Request, study: str) -> Response:
        return await turns.do(lambda: thumbnail(request, study))


def _image(entry: InstanceEntry) -> InstanceEntry:
    if not frames_of(entry):
        raise HTTPException(406, "this object holds no image")
    return entry


def _representative(found: Sequence[InstanceEntry]) -> InstanceEntry:
    """The image in the middle of the first series that has one, by instance number. Raises 406 where there is none."""
    images = [one for one in found if frames_of(one)]
    if not images:
        raise HTTPException(406, "there is no image to show")
    of_series = sorted((one for one in images if one.series_uid == images[0].series_uid), key=_number)
    return of_series[len(of_series) // 2]


def _number(entry: InstanceEntry) -> int:
    text = next(iter(values_of(told_of(entry), "InstanceNumber")), "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _wish(request: Request) -> _Wish:
    """Raises 400 for parameters that cannot be read, 406 where neither JPEG nor PNG is taken."""
    kind = next((form for one in ranges(request) for form in _FORMS if one.takes(form)), None)
    if kind is None:
        raise HTTPException(406, f"pictures are {' or '.join(_FORMS)}")
    asked = request.query_params
    quality = asked.get("quality", "90")
    if not (quality.isascii() and quality.isdigit() and len(quality) <= 3 and 1 <= int(quality) <= 100):
        raise HTTPException(400, "quality must be a whole number from 1 to 100")
    return _Wish(kind, _look(asked.get("window", "")), _viewport(asked.get("viewport", "")), int(quality))


def _look(text: str) -> Look:
    """`window=center,width,function` (8.3.5.1.4), in modality units."""
    if not text:
        return AS_STORED
    told = text.split(",")
    numbers = _numbers(told[:2])
    function = _FUNCTIONS.get(told[2].strip().lower()) if len(told) == 3 else None
    if len(numbers) != 2 or function is None:
        raise HTTPException(400, "window must be center,width,function; the function linear, linear-exact or sigmoid")
    center, width = numbers
    if width <= 0 or (width < 1 and function == "LINEAR"):
        raise HTTPException(400, "the width of a window must be at least 1 (linear), or more than 0")
    return Look(NamedWindow("requested", center, width), function=function)


def _viewport(text: str) -> Viewport | None:
    """`viewport=width,height` or `viewport=width,height,left,top,width,height` (8.3.5.1.3); an empty one is the default."""
    if not text:
        return None
    told = text.split(",")
    if len(told) not in (2, 6) or not all(one.isascii() and one.isdigit() and len(one) < 6 for one in told[:2]):
        raise HTTPException(400, "viewport must be width,height or width,height,left,top,width,height")
    width, height = int(told[0]), int(told[1])
    if not (0 < width <= _MOST_SIDE and 0 < height <= _MOST_SIDE):
        raise HTTPException(400, f"a viewport has 1 to {_MOST_SIDE} pixels a side")
    return Viewport(width, height, _region(told[2:]) if len(told) == 6 else None)


def _region(told: Sequence[str]) -> tuple[float, float, float, float]:
    numbers = _numbers([*(part or "0" for part in told[:2]), *told[2:]])
    if len(numbers) != 4 or numbers[0] < 0 or numbers[1] < 0 or abs(numbers[2]) < 1 or abs(numbers[3]) < 1:
        raise HTTPException(400, "the region of a viewport must be left,top,width,height in pixels of the image")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _numbers(told: Sequence[str]) -> list[float]:
    """None at all where one of them is no number."""
    try:
        found = [float(one) for one in told]
    except ValueError:
        return []
    return found if all(math.isfinite(one) and abs(one) < _LARGEST for one in found) else []


def _warnings(request: Request) -> dict[str, str]:
    """What was asked for and is not done (8.3.5)."""
    ignored = [name for name in _IGNORED if request.query_params.get(name)]
    if not ignored:
        return {}
    return {"Warning": f'299 wetread: "The following parameters are not supported: {", ".join(ignored)}"'}
