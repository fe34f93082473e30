"""Whether the database answers, and is of the shape that this version expects."""

from __future__ import annotations

from sqlalchemy import Connection, text

from dicom_node.storage.migrations import HEAD


def at_head(conn: Connection) -> bool:
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
