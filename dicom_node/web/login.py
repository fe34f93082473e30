"""Logging in and out. A guess costs a quarter of a second of computing, five wrong ones a pause."""

from __future__ import annotations

import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from dicom_node.audit import Auditor, events
from dicom_node.errors import SettingsError
from dicom_node.storage import web_sessions
from dicom_node.storage.web_sessions import Session
from dicom_node.web.access import AccessRefused, Visitor, check_form, client_of, cookie_name, visitor_of
from dicom_node.web.accounts import User
from dicom_node.web.parts import Parts
from dicom_node.web.show import page

WRONG_IN_A_ROW: Final = 5
PAUSE_S: Final = 300.0
_REMEMBERED: Final = 10_000  # names and addresses
_LONGEST: Final = 256  # characters of a name or password
_log = structlog.get_logger()


class Guesses:
    """Wrong passwords by key; after ``WRONG_IN_A_ROW`` of them within ``PAUSE_S`` there is a pause of as long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.one_at_a_time = threading.Lock()  # a guess takes 32 MiB

    def paused_s(self, keys: tuple[str, ...], now: float) -> float:
        with self._lock:
            known = [self._wrong.get(key, (0, 0.0)) for key in keys]
        return max((last + PAUSE_S - now for number, last in known if number >= WRONG_IN_A_ROW), default=0.0)

    def wrong(self, keys: tuple[str, ...], now: float) -> None:
        with self._lock:
            for key in keys:
                number, last = self._wrong.pop(key, (0, 0.0))
                self._wrong[key] = (number + 1 if now - last < PAUSE_S else 1, now)
            while len(self._wrong) > _REMEMBERED:
                self._wrong.popitem(last=False)

    def right(self, keys: tuple[str, ...]) -> None:
        with self._lock:
            for key in keys:
                self._wrong.pop(key, None)


def router(parts: Parts) -> APIRouter:
    routes, guesses = APIRouter(), Guesses()

    @routes.get("/login")
    def ask(request: Request) -> Response:
        if parts.accounts is None or visitor_of(request) is not None:
            return RedirectResponse("/", 303)
        return page(request, "login.html", None, failed="")

    @routes.post("/login")
    def log_in(request: Request, name: Annotated[str, Form()] = "", password: Annotated[str, Form()] = "") -> Response:
        host = client_of(request)
        name = name[:_LONGEST]
        user = _try(parts, guesses, name, password[:_LONGEST], host)
        _witness(parts, name, host, login=True, succeeded=user is not None)
        if user is None:
            _log.warning("a login was refused", host=host)
            return page(request, "login.html", None, 401, failed="The name or the password is wrong.")
        return _begin(parts, name, user)

    @routes.post("/logout")
    def log_out(
        request: Request, visitor: Annotated[Visitor | None, Depends(visitor_of)], form_key: Annotated[str, Form()] = ""
    ) -> Response:
        if visitor is not None and visitor.session_key:
            check_form(visitor, form_key)
            _witness(parts, visitor.account.name, client_of(request), login=False, succeeded=True)
            with parts.db.write() as conn:
                web_sessions.end(conn, visitor.session_key)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(cookie_name(parts), path="/", secure=parts.settings.web.secure, httponly=True, samesite="strict")
        return answer

    return routes


def _try(parts: Parts, guesses: Guesses, name: str, password: str, host: str) -> User | None:
    """Raises AccessRefused during a pause."""
    where = _network(host)
    keys = (f"{name} from {where}", where)  # never the name alone: others could lock its owner out
    _refuse_in_pause(guesses, keys)
    if parts.accounts is None or not guesses.one_at_a_time.acquire(timeout=5):
        raise AccessRefused(429, "too many are logging in; try again")
    try:
        _refuse_in_pause(guesses, keys)  # those who came at once with others were not yet counted
        accounts = parts.accounts.current()
        if accounts.login(name, password) is None:
            guesses.wrong(keys, time.monotonic())
            return None
        guesses.right(keys)
        return accounts.users[name]
    except SettingsError as error:
        raise AccessRefused(503, str(error)) from error
    finally:
        guesses.one_at_a_time.release()


def _refuse_in_pause(guesses: Guesses, keys: tuple[str, ...]) -> None:
    if (pause := guesses.paused_s(keys, time.monotonic())) > 0:
        raise AccessRefused(429, f"too many wrong passwords; try again in {int(pause // 60) + 1} minutes")


def _network(host: str) -> str:
    """One machine may take any address of its IPv6 network (RFC 4291 section 2.5.4: 64 bits of interface identifier)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4 or address.ipv4_mapped is not None:
        return host
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _witness(parts: Parts, name: str, host: str, *, login: bool, succeeded: bool) -> None:
    """User Authentication (PS3.15 A.5.3.12), where the settings name an audit repository."""
    auditor = Auditor.of(parts.settings, parts.files)
    if not auditor.kept:
        return
    message = events.authentication(auditor.node, name, host, login=login, succeeded=succeeded)
    with parts.db.write() as conn:
        auditor.record(conn, message, parts.db.now())


def _begin(parts: Parts, name: str, user: User) -> Response:
    web, now = parts.settings.web, parts.db.now()
    key = secrets.token_urlsafe(32)
    session = Session(name, user.role.value, user.form_key(key), now, now + web.session_hours * 3600)
    with parts.db.write() as conn:
        web_sessions.begin(conn, key, session, web.idle_minutes * 60)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        cookie_name(parts), key, path="/", httponly=True, secure=web.secure, samesite="strict",
        max_age=int(web.session_hours * 3600),
    )  # fmt: skip
    return answer
