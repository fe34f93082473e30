"""Routes: those in force, and a trial of others on studies of the store, before they are live. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Final

import yaml
from fastapi import APIRouter, Depends, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from dicom_node.errors import SettingsError
from dicom_node.routing import Routes, StudyFacts, parse_routes
from dicom_node.views import study as studies
from dicom_node.views.routes import Verdict, judge_stored
from dicom_node.web.access import Visitor, check_form, needs
from dicom_node.web.accounts import Role
from dicom_node.web.parts import Parts
from dicom_node.web.show import page

OFFERED: Final = 25  # recent studies to choose from
MOST: Final = 50  # studies of one trial
LONGEST: Final = 256 << 10  # bytes of a routes file
_ALIASES: Final = 20  # of a YAML file: more could make it grow without end
_ORIGIN: Final = "these routes"
Viewer = Annotated[Visitor, Depends(needs(Role.VIEWER))]


def router(parts: Parts) -> APIRouter:
    routes = APIRouter()

    @routes.get("/routes")
    def show(request: Request, visitor: Viewer) -> Response:
        return _page(request, visitor, parts, "", (), "", datetime.now().astimezone(), ())

    @routes.post("/routes/try")
    def try_out(
        request: Request,
        visitor: Viewer,
        form_key: Annotated[str, Form()] = "",
        text: Annotated[str, Form()] = "",
        file: Annotated[UploadFile | None, Depends(_uploaded)] = None,
        study: Annotated[list[str] | None, Form()] = None,
        also: Annotated[str, Form()] = "",
        at: Annotated[str, Form()] = "",
    ) -> Response:
        check_form(visitor, form_key)
        text = _text_of(file, text)
        chosen = tuple(dict.fromkeys([*(study or []), *also.split()]))[:MOST]
        moment = _moment(at)
        try:
            verdicts, fault = trial(parts, text, chosen, moment), ""
        except SettingsError as error:
            verdicts, fault = (), str(error)
        if "application/json" in request.headers.get("accept", ""):
            told: Any = {"error": fault} if fault else [asdict(one) for one in verdicts]
            return JSONResponse(told, 422 if fault else 200)
        return _page(request, visitor, parts, text, verdicts, fault, moment, chosen)

    return routes


def trial(parts: Parts, text: str, chosen: Sequence[str], at: datetime) -> tuple[Verdict, ...]:
    """What routes make of studies. ``text`` empty: those in force. Raises SettingsError, StorageError."""
    tried = candidate(parts, text) if text.strip() else parts.routes()
    return tuple(judge_stored(uid, parts.db, parts.files.path, tried, at) for uid in chosen)


def candidate(parts: Parts, text: str) -> Routes:
    """Raises SettingsError, as `wetread routes check` does."""
    if len(text.encode()) > LONGEST:
        raise SettingsError(f"{_ORIGIN}: larger than {LONGEST >> 10} KiB")
    try:
        aliases = sum(1 for _ in islice(_aliases(text), _ALIASES + 1))
    except yaml.YAMLError as error:
        raise SettingsError(f"{_ORIGIN}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if aliases > _ALIASES:
        raise SettingsError(f"{_ORIGIN}: more than {_ALIASES} aliases (*name); write them out")
    return parse_routes(text, _ORIGIN, parts.names)


def _aliases(text: str) -> Iterator[yaml.Event]:
    return (event for event in yaml.parse(text, yaml.SafeLoader) if isinstance(event, yaml.AliasEvent))


async def _uploaded(request: Request) -> UploadFile | None:
    found = (await request.form()).get("file")
    return found if not isinstance(found, str) and found is not None and found.filename else None  # type: ignore[return-value]


def _text_of(file: UploadFile | None, text: str) -> str:
    """An uploaded file comes before what was typed."""
    if file is None:
        return text.replace("\r\n", "\n")
    return file.file.read(LONGEST + 1).decode("utf-8", "replace")


def _moment(text: str) -> datetime:
    """Local time, as a browser's field gives it; now where it gives none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return datetime.now().astimezone()


def _page(
    request: Request,
    visitor: Visitor,
    parts: Parts,
    text: str,
    verdicts: Sequence[Verdict],
    fault: str,
    at: datetime,
    chosen: Sequence[str],
) -> Response:
    offered = studies.recent(parts.db, OFFERED)
    told: dict[str, Any] = {
        "live": parts.routes(),
        "source": parts.settings.routes,
        "offered": offered,
        "text": text,
        "chosen": chosen,
        "nobody": StudyFacts(),
    }
    others = " ".join(uid for uid in chosen if uid not in {one.study_uid for one in offered})
    moment = at.strftime("%Y-%m-%dT%H:%M")
    tried = bool(verdicts or fault)
    return page(
        request, "routes.html", visitor, 422 if fault else 200, verdicts=verdicts, fault=fault, at=moment, also=others,
        tried=tried, **told,
    )  # fmt: skip
