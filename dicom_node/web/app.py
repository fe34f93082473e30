"""The application: pages, health, metrics and DICOMweb under one roof, with the headers that hold for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from dicom_node.errors import StorageError, describe
from dicom_node.web import health, login, pages, routes_page
from dicom_node.web.access import AccessRefused, Visitor, check_host, check_origin, needs
from dicom_node.web.accounts import Role
from dicom_node.web.metrics import scrape
from dicom_node.web.parts import Parts
from dicom_node.web.show import page

_FREE_OF_NAMES: Final = frozenset({"/livez", "/healthz", "/readyz", "/metrics"})  # asked by programs, under whatever name
_LARGEST: Final = 1 << 20  # bytes of a request's body
_STATIC: Final = {"style.css": "text/css", "refresh.js": "text/javascript", "icon.svg": "image/svg+xml"}
# What a browser may do with a page of ours: load our own files, send our own forms, and nothing else (W3C CSP 3).
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_log = structlog.get_logger()
Next = Callable[[Request], Awaitable[Response]]


def build(parts: Parts, dicomweb: APIRouter | None = None) -> FastAPI:
    """The application over these parts. ``dicomweb``: what is served under `/dicom-web`, to keys of that role only."""
    made = FastAPI(title="WetRead", openapi_url=None, docs_url=None, redoc_url=None)
    made.state.parts = parts
    made.middleware("http")(_around)
    made.add_exception_handler(AccessRefused, _refused)
    made.add_exception_handler(StorageError, _storage_failed)
    made.add_exception_handler(HTTPException, _not_found)
    made.add_exception_handler(RequestValidationError, _malformed)
    for one in (health.router(parts), login.router(parts), pages.router(parts), routes_page.router(parts)):
        made.include_router(one)
    _add_metrics(made, parts)
    _add_static(made)
    if dicomweb is not None:
        made.include_router(dicomweb, prefix="/dicom-web", dependencies=[Depends(needs(Role.DICOMWEB))])
    return made


def _add_metrics(made: FastAPI, parts: Parts) -> None:
    @made.get("/metrics")
    def metrics(request: Request, visitor: Annotated[Visitor, Depends(needs(Role.METRICS))]) -> Response:  # noqa: ARG001
        content, media_type = scrape(parts.settings, parts.db, request.headers.get("accept", ""))
        return Response(content, media_type=media_type)


def _add_static(made: FastAPI) -> None:
    folder = resources.files("dicom_node.web") / "static"
    files = {name: (folder / name).read_bytes() for name in _STATIC}

    @made.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=_STATIC[name], headers={"Cache-Control": "max-age=3600"})


async def _around(request: Request, go_on: Next) -> Response:
    """Refuse what no page of ours would send; put the headers on whatever is answered."""
    parts: Parts = request.app.state.parts
    try:
        if request.url.path not in _FREE_OF_NAMES:
            check_host(parts, request.headers.get("host", ""))
        check_origin(request.method, dict(request.headers))
        _check_size(request)
        answer = await go_on(request)
    except AccessRefused as error:
        answer = JSONResponse({"error": str(error)}, error.status)
    except Exception as error:  # noqa: BLE001  else the server tells a log its words, and the browser gets no headers of ours
        _log.error("a page could not be made", error=describe(error))
        answer = _failed(request)
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)
    if not request.url.path.startswith("/static/"):
        answer.headers.setdefault("Cache-Control", "no-store")
    if parts.settings.web.secure:
        answer.headers["Strict-Transport-Security"] = "max-age=31536000"
    return answer


def _check_size(request: Request) -> None:
    """A body must say how large it is, as those of browsers do."""
    told = request.headers.get("content-length", "")
    if "chunked" in request.headers.get("transfer-encoding", "").lower() or (
        told and (not told.isdigit() or int(told) > _LARGEST)
    ):
        raise AccessRefused(413, f"a request may have {_LARGEST >> 20} MiB")


def _refused(request: Request, error: Exception) -> Response:
    """Who may not is told so; a browser that is not logged in is shown the way."""
    assert isinstance(error, AccessRefused)
    if not _is_page(request):
        headers = {"WWW-Authenticate": 'Bearer realm="WetRead", Basic realm="WetRead"'} if error.status == 401 else {}
        return JSONResponse({"error": str(error)}, error.status, headers)
    if error.status == 401 and "authorization" not in request.headers:
        return RedirectResponse("/login", 303)
    if error.status == 429:
        return page(request, "login.html", None, 429, failed=f"{str(error).capitalize()}.")
    return page(request, "nothing.html", None, error.status, what=f"Refused: {error}.")


def _failed(request: Request) -> Response:
    what = "The node could not make this page; its log says where."
    return page(request, "nothing.html", None, 500, what=what) if _is_page(request) else JSONResponse({"error": what}, 500)


def _malformed(request: Request, error: Exception) -> Response:
    """What was asked is not quoted back."""
    assert isinstance(error, RequestValidationError)
    names = ", ".join(sorted({str(fault["loc"][-1]) for fault in error.errors()}))
    what = f"This address or form cannot be understood: {names[:100]}."
    return page(request, "nothing.html", None, 422, what=what) if _is_page(request) else JSONResponse({"error": what}, 422)


def _storage_failed(request: Request, error: Exception) -> Response:
    _log.error("a page could not be made", error=describe(error))
    what = "The database does not answer at the moment."
    return page(request, "nothing.html", None, 503, what=what) if _is_page(request) else JSONResponse({"error": what}, 503)


def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if _is_page(request) and error.status_code == 404:
        return page(request, "nothing.html", None, 404, what="There is no such page.")
    return JSONResponse({"error": str(error.detail)}, error.status_code, dict(error.headers or {}))


def _is_page(request: Request) -> bool:
    apart = ("/api/", "/dicom-web/", "/metrics", "/static/")
    return not request.url.path.startswith(apart) and "application/json" not in request.headers.get("accept", "")
