"""Who asks, and may they. Pages by session (a cookie), programs by key (`Authorization: Bearer KEY`, or Basic name:key).

Where there is no users file only this machine can reach the node, and whoever is on it may look, and change nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from dicom_node.errors import NodeError, SettingsError
from dicom_node.storage import web_sessions
from dicom_node.storage.web_sessions import Session
from dicom_node.web.accounts import Account, Role
from dicom_node.web.parts import Parts, parts_of

LOCAL: Final = Account("this machine", Role.VIEWER)
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SEEN_EVERY_S: Final = 60.0


class AccessRefused(NodeError):  # noqa: N818
    """``status``: 401 who asks is not known, 403 may not, 429 asks too often."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Visitor:
    """``form_key``: what forms must carry; empty for a program and where there is no login."""

    account: Account
    form_key: str = ""
    session_key: str = ""

    @property
    def operator(self) -> bool:
        return self.account.may(Role.OPERATOR)


def needs(role: Role) -> Callable[[Request], Visitor]:
    """A dependency that gives the visitor, or raises AccessRefused. Synchronous: it reads the database."""

    def check(request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor is None:
            raise AccessRefused(401, "log in, or send a key")
        if not visitor.account.may(role):
            raise AccessRefused(
                403, f"this needs the role {role.value}; {visitor.account.name} has {visitor.account.role.value}"
            )
        return visitor

    return check


def visitor_of(request: Request) -> Visitor | None:
    """Raises AccessRefused for a wrong key and for a users file that cannot be read."""
    parts = parts_of(request)
    if parts.accounts is None:
        return Visitor(LOCAL)
    key = _key_of(request.headers.get("authorization", ""))
    if key is not None:
        account = _held(parts, key)
        if account is None:
            raise AccessRefused(401, "this key is not known")
        return Visitor(account)
    by_itself = request.headers.get("x-refresh") == "1"
    return _in_session(parts, request.cookies.get(cookie_name(parts), ""), by_itself=by_itself)


def check_form(visitor: Visitor, form_key: str) -> None:
    """Raises AccessRefused for a form that is not of this session."""
    if visitor.session_key and not hmac.compare_digest(form_key.encode(), visitor.form_key.encode()):
        raise AccessRefused(403, "this form is of another session; load the page again")


def check_origin(method: str, headers: dict[str, str]) -> None:
    """Another site's page may not send forms here (OWASP: Fetch Metadata, else Origin). Raises AccessRefused."""
    if method in _SAFE or "authorization" in headers:
        return
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    same = site in ("same-origin", "none") if site else not origin or origin.partition("://")[2] == headers.get("host", "")
    if not same:
        raise AccessRefused(403, "this was sent by a page of another site")


def check_host(parts: Parts, host: str) -> None:
    """Without a login only names of this machine, lest another site's name be pointed here. Raises AccessRefused."""
    web = parts.settings.web
    if parts.accounts is not None and not web.names:
        return
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # half of an IPv6 address
        name = ""
    if name not in {"localhost", "127.0.0.1", "::1", web.host, *web.names}:
        raise AccessRefused(400, "this name is not among `web.names` of the settings")


def cookie_name(parts: Parts) -> str:
    """With TLS the browser itself holds the cookie to this host (RFC 6265bis, the prefix)."""
    return "__Host-wetread" if parts.settings.web.secure else "wetread"


def client_of(request: Request) -> str:
    """The browser's address; behind a proxy what the proxy says of it."""
    if parts_of(request).settings.web.behind_proxy:
        told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if told:
            return told[:64]
    return request.client.host if request.client else ""


def _in_session(parts: Parts, key: str, *, by_itself: bool) -> Visitor | None:
    """``by_itself``: the page asks, not a person; a screen that nobody sits at must not stay logged in."""
    if not key:
        return None
    idle_s, now = parts.settings.web.idle_minutes * 60, parts.db.now()
    with parts.db.read() as conn:
        session = web_sessions.find(conn, key, idle_s, now)
    if session is None or not _still_right(parts, session, key):
        return None
    if now - session.seen_at > _SEEN_EVERY_S and not by_itself:
        with parts.db.write() as conn:
            web_sessions.seen(conn, key, now)
    return Visitor(Account(session.name, Role(session.role)), session.form_key, key)


def _still_right(parts: Parts, session: Session, key: str) -> bool:
    """Who was taken out of the users file, or has another role or password now, must log in again."""
    if parts.accounts is None:
        return False
    try:
        user = parts.accounts.current().users.get(session.name)
    except SettingsError as error:
        raise AccessRefused(503, str(error)) from error
    return user is not None and hmac.compare_digest(user.form_key(key), session.form_key)


def _held(parts: Parts, key: str) -> Account | None:
    try:
        return parts.accounts.current().holder(key) if parts.accounts is not None else None
    except SettingsError as error:
        raise AccessRefused(503, str(error)) from error


def _key_of(header: str) -> str | None:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return None
