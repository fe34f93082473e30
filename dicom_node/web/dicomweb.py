"""DICOMweb, read-only: QIDO-RS (PS3.18 10.6) over the index of what is here; WADO-RS is in the modules beside.

Answers are JSON (application/dicom+json). A page has at most ``query.most`` matches; where there are more, a warning says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydicom.datadict import dictionary_VR, tag_for_keyword
from starlette.exceptions import HTTPException

from dicom_node.index.matching import Key
from dicom_node.index.search import search
from dicom_node.pixels.decoders import Decoders
from dicom_node.remote.matches import Level
from dicom_node.trail import Trail
from dicom_node.web import dicomweb_frames, dicomweb_rendered, dicomweb_retrieve
from dicom_node.web.access import client_of
from dicom_node.web.dicomweb_found import PEER
from dicom_node.web.media import ANY, ranges
from dicom_node.web.parts import Parts
from dicom_node.web.turns import Turns

JSON: Final = "application/dicom+json"
_TAKEN: Final = (JSON, "application/json")
_OPTIONS: Final = frozenset(
    {"accept", "limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"}
)
_AT_ONCE: Final = 2  # requests for pixels, for each decoder process: one is decoded while another is sent
_NEVER: Final = 10_000_000  # an offset that nobody pages to
_STUDY, _SERIES, _INSTANCE, _RETRIEVE_URL = "0020000D", "0020000E", "00080018", "00081190"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a search asks for. ``fuzzy``: asked for, and not done."""

    level: Level
    keys: tuple[Key, ...]
    limit: int
    offset: int
    fuzzy: bool


def router(parts: Parts, decoders: Decoders) -> APIRouter:
    """What is served under `/dicom-web`. ``decoders``: for pictures, and for frames that must be decoded."""
    made = APIRouter()
    trail = Trail.of(parts.settings, parts.db, parts.files)

    def answer(level: Level, request: Request, **within: str) -> Response:
        _require_json(request)
        trail.asked(PEER, client_of(request), "QIDO-RS", str(request.url).encode())
        return _found(parts, _wish(parts, level, request, within), request)

    @made.get("/studies")
    def studies(request: Request) -> Response:
        return answer(Level.STUDY, request)

    @made.get("/series")
    def series(request: Request) -> Response:
        return answer(Level.SERIES, request)

    @made.get("/instances")
    def instances(request: Request) -> Response:
        return answer(Level.IMAGE, request)

    @made.get("/studies/{study}/series")
    def series_of_study(request: Request, study: str) -> Response:
        return answer(Level.SERIES, request, StudyInstanceUID=study)

    @made.get("/studies/{study}/instances")
    def instances_of_study(request: Request, study: str) -> Response:
        return answer(Level.IMAGE, request, StudyInstanceUID=study)

    @made.get("/studies/{study}/series/{series}/instances")
    def instances_of_series(request: Request, study: str, series: str) -> Response:
        return answer(Level.IMAGE, request, StudyInstanceUID=study, SeriesInstanceUID=series)

    dicomweb_retrieve.add(made, parts, trail, decoders)
    turns = Turns(_AT_ONCE * decoders.limits.count)
    dicomweb_frames.add(made, parts, trail, decoders, turns)
    dicomweb_rendered.add(made, parts, trail, decoders, turns)
    return made


def _require_json(request: Request) -> None:
    """406 for who takes XML only."""
    if not any(one.takes(kind) and (not one.multipart or one.kind == ANY) for one in ranges(request) for kind in _TAKEN):
        raise HTTPException(406, f"answers are {JSON}")


def _wish(parts: Parts, level: Level, request: Request, within: dict[str, str]) -> _Wish:
    told = request.query_params.multi_items()
    keys = [_key(name, value) for name, value in (*within.items(), *told) if name not in _OPTIONS]
    most = parts.settings.query.most
    limit, offset = _number(request, "limit", most, most), _number(request, "offset", 0, _NEVER)
    fuzzy = request.query_params.get("fuzzymatching", "").lower() == "true"
    return _Wish(level, tuple(keys), limit, offset, fuzzy)


def _number(request: Request, name: str, otherwise: int, most: int) -> int:
    text = request.query_params.get(name, str(otherwise))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise HTTPException(400, f"{name} must be a whole number")
    return min(int(text), most)


def _key(name: str, value: str) -> Key:
    """Of a keyword or of a tag as 8 hexadecimal digits; several UIDs stand between commas (PS3.18 8.3.4.1)."""
    tag = tag_for_keyword(name)
    if tag is None and len(name) == 8:
        try:
            tag = int(name, 16)
        except ValueError:
            tag = None
    if tag is None:
        raise HTTPException(400, "a parameter is neither the keyword nor the tag of an attribute")
    try:
        vr = dictionary_VR(tag)
    except KeyError as error:
        raise HTTPException(400, "a parameter is no attribute of PS3.6") from error
    return Key(f"{tag:08X}", vr, value.replace(",", "\\") if vr == "UI" else value)


def _found(parts: Parts, wish: _Wish, request: Request) -> Response:
    page = search(parts.db, wish.level, wish.keys, wish.limit, wish.offset) if wish.limit else None
    base = f"{str(request.base_url).rstrip('/')}/dicom-web"
    told = [{**one, _RETRIEVE_URL: {"vr": "UR", "Value": [_url(base, one)]}} for one in (page.matches if page else ())]
    warnings = list(_warnings(wish, more=page is not None and page.more))
    headers = {"Warning": ", ".join(f'299 wetread: "{text}"' for text in warnings)} if warnings else {}
    return Response(json.dumps(told), media_type=JSON, headers=headers)


def _warnings(wish: _Wish, *, more: bool) -> Iterator[str]:
    """PS3.18 8.3.4.3 and 8.3.4.4."""
    if more:
        yield "There are additional results that can be requested"
    if wish.fuzzy:
        yield "The fuzzymatching parameter is not supported. Only literal matching has been performed."


def _url(base: str, found: dict[str, Any]) -> str:
    parts = (("studies", _STUDY), ("series", _SERIES), ("instances", _INSTANCE))
    return base + "".join(f"/{name}/{uid}" for name, tag in parts for uid in _values(found, tag))


def _values(found: dict[str, Any], tag: str) -> list[str]:
    return [str(value) for value in found.get(tag, {}).get("Value", ())]
