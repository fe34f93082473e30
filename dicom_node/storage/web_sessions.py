"""Who is logged in to the pages, on whatever machine they are served. Of a session's key only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select, update

from dicom_node.storage.tables import web_sessions


@dataclass(frozen=True, slots=True)
class Session:
    """``form_key``: every form of the session carries it. It ends at ``until`` (seconds since 1970 UTC) at the latest."""

    name: str
    role: str
    form_key: str
    seen_at: float
    until: float


def begin(conn: Connection, key: str, session: Session, idle_s: float) -> None:
    """Note a session; those that are over are forgotten."""
    now = session.seen_at
    conn.execute(delete(web_sessions).where(or_(web_sessions.c.until <= now, web_sessions.c.seen_at <= now - idle_s)))
    values = {"name": session.name, "role": session.role, "form_key": session.form_key}
    conn.execute(insert(web_sessions).values(key_digest=_digest(key), seen_at=now, until=session.until, **values))


def find(conn: Connection, key: str, idle_s: float, now: float) -> Session | None:
    """The session, unless it is over or was idle for too long."""
    row = conn.execute(select(web_sessions).where(web_sessions.c.key_digest == _digest(key))).one_or_none()
    if row is None or row.until <= now or row.seen_at <= now - idle_s:
        return None
    return Session(row.name, row.role, row.form_key, row.seen_at, row.until)


def seen(conn: Connection, key: str, now: float) -> None:
    conn.execute(update(web_sessions).where(web_sessions.c.key_digest == _digest(key)).values(seen_at=now))


def end(conn: Connection, key: str) -> None:
    conn.execute(delete(web_sessions).where(web_sessions.c.key_digest == _digest(key)))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
