"""Idempotency keys of jobs that retention has removed: the same work is never queued again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.tables import spent_keys


def _digest(key: str) -> str:
    """128 bits of SHA-256 tell any two keys apart, in a tenth of their room."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def spend(conn: Connection, keys: Iterable[str]) -> None:
    """Remember keys whose jobs are removed in the same transaction."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    rows = [{"digest": _digest(key)} for key in keys]
    if rows:
        conn.execute(make(spent_keys).on_conflict_do_nothing(index_elements=["digest"]), rows)


def is_spent(conn: Connection, key: str) -> bool:
    """Whether a job of this key was there, was done, and was removed. Asked after the key was taken, or it says too little."""
    return conn.execute(select(spent_keys.c.digest).where(spent_keys.c.digest == _digest(key))).first() is not None
