"""The pages, and the same as JSON under `/api`. No page changes anything but the two that run again what was given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import Field

from dicom_node.storage.events import EventKind, list_events
from dicom_node.storage.job_counts import dead_jobs
from dicom_node.storage.jobs import Job, JobKind, JobState, rerun
from dicom_node.storage.outbox import rerun_dead
from dicom_node.views import study as studies
from dicom_node.views.identity import Identity, identity_of
from dicom_node.views.status import look
from dicom_node.web.access import Visitor, check_form, needs
from dicom_node.web.accounts import Role
from dicom_node.web.parts import Parts
from dicom_node.web.show import page

PAGE: Final = 50  # studies or jobs of a page
EVENTS: Final = 100  # the newest; `wetread events` lists more
_log = structlog.get_logger()
Viewer = Annotated[Visitor, Depends(needs(Role.VIEWER))]
Operator = Annotated[Visitor, Depends(needs(Role.OPERATOR))]
_MOST: Final = 2**63 - 1  # what a database takes for a whole number
Offset = Annotated[int, Query(ge=0, le=_MOST)]
JobNumber = Annotated[int, Field(ge=1, le=_MOST)]


def router(parts: Parts) -> APIRouter:
    routes = APIRouter()
    _status_pages(routes, parts)
    _study_pages(routes, parts)
    _event_pages(routes, parts)
    _dead_pages(routes, parts)
    return routes


def _status_pages(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/")
    def overview(request: Request, visitor: Viewer) -> Response:
        return page(request, "overview.html", visitor, status=look(parts.settings, parts.db))

    @routes.get("/destinations")
    def destinations(request: Request, visitor: Viewer) -> Response:
        return page(request, "destinations.html", visitor, status=look(parts.settings, parts.db))

    @routes.get("/api/status")
    def status_json(visitor: Viewer) -> JSONResponse:  # noqa: ARG001
        return JSONResponse(asdict(look(parts.settings, parts.db)))


def _study_pages(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/studies")
    def study_list(request: Request, visitor: Viewer, before: float | None = None, state: str = "") -> Response:
        found = studies.recent(parts.db, PAGE, before, _state(state))
        older = found[-1].last_at if len(found) == PAGE and not _state(state) else None
        return page(request, "studies.html", visitor, studies=found, state=_state(state), older=older, most=PAGE)

    @routes.post("/studies/find")
    def find(visitor: Viewer, form_key: Annotated[str, Form()] = "", study: Annotated[str, Form()] = "") -> Response:
        check_form(visitor, form_key)
        uid = "".join(char for char in study if char in "0123456789.")[:64]
        return RedirectResponse(f"/studies/{uid}" if uid else "/studies", 303)

    @routes.get("/studies/{study_uid}")
    def one_study(request: Request, visitor: Viewer, study_uid: str) -> Response:
        found = studies.of_study(parts.db, study_uid)
        if found is None:
            return page(request, "nothing.html", visitor, 404, what="The node holds no such study.")
        identity = _identity(parts, visitor, study_uid)
        return page(request, "study.html", visitor, study=found, identity=identity)

    @routes.get("/api/studies")
    def study_list_json(visitor: Viewer, before: float | None = None, state: str = "") -> JSONResponse:  # noqa: ARG001
        return JSONResponse([asdict(one) for one in studies.recent(parts.db, PAGE, before, _state(state))])

    @routes.get("/api/studies/{study_uid}")
    def one_study_json(visitor: Viewer, study_uid: str) -> JSONResponse:  # noqa: ARG001
        found = studies.of_study(parts.db, study_uid)
        return JSONResponse({"error": "no such study"}, 404) if found is None else JSONResponse(asdict(found))


def _event_pages(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/events")
    def events(request: Request, visitor: Viewer, kind: str = "") -> Response:
        chosen = _kind(kind)
        with parts.db.read() as conn:
            found = list_events(conn, EVENTS, chosen)
        return page(request, "events.html", visitor, events=found, kind=chosen, kinds=tuple(EventKind), most=EVENTS)

    @routes.get("/api/events")
    def events_json(visitor: Viewer, kind: str = "") -> JSONResponse:  # noqa: ARG001
        with parts.db.read() as conn:
            return JSONResponse([asdict(one) for one in list_events(conn, EVENTS, _kind(kind))])


def _kind(text: str) -> EventKind | None:
    """Any where it is none of them."""
    return EventKind(text) if text in set(EventKind) else None


def _dead_pages(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/dead")
    def dead(request: Request, visitor: Viewer, offset: Offset = 0, done: str = "") -> Response:
        with parts.db.read() as conn:
            jobs = dead_jobs(conn, PAGE + 1, offset)
        names = sorted({job.queue for job in jobs if job.kind is JobKind.DELIVER})
        told: dict[str, Any] = {"jobs": jobs[:PAGE], "names": names, "done": done[:8], "offset": offset}
        return page(request, "dead.html", visitor, more=len(jobs) > PAGE, page_size=PAGE, **told)

    @routes.post("/dead/retry")
    def retry(
        request: Request,
        visitor: Operator,
        form_key: Annotated[str, Form()] = "",
        job: Annotated[list[JobNumber] | None, Form()] = None,
        destination: Annotated[str, Form()] = "",
    ) -> Response:
        check_form(visitor, form_key)
        number = _run_again(parts, visitor, job or [], destination)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"queued": number})
        return RedirectResponse(f"/dead?done={number}", 303)

    @routes.get("/api/dead")
    def dead_json(visitor: Viewer, offset: Offset = 0) -> JSONResponse:  # noqa: ARG001
        with parts.db.read() as conn:
            return JSONResponse([_told(job) for job in dead_jobs(conn, PAGE, offset)])


def _run_again(parts: Parts, visitor: Visitor, jobs: list[int], destination: str) -> int:
    now = parts.db.now()
    number = sum(
        rerun(parts.db, job, now, {JobState.DEAD}) for job in jobs[:PAGE]
    )  # a page may be older than what became of them
    if destination:
        number += rerun_dead(parts.db, destination, now)
    if number:
        _log.warning("what was given up runs again, by hand", count=number, host=visitor.account.name)
    return number


def _identity(parts: Parts, visitor: Visitor, study_uid: str) -> Identity | None:
    """Only for a person who has logged in."""
    return identity_of(parts.db, parts.files.path, study_uid) if visitor.session_key else None


def _state(state: str) -> str:
    return state if state in ("unfinished", "dead") else ""


def _told(job: Job) -> Mapping[str, Any]:
    names = ("id", "kind", "queue", "study_uid", "priority", "attempts", "created_at", "done_at", "last_error")
    return {name: getattr(job, name) for name in names}
