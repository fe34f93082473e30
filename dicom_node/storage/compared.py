"""What was known of a study's priors when a reading began: written once, so that its documents are the same at every try."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.tables import compared_priors


def keep_priors(conn: Connection, study_uid: str, revision: int, reading_name: str, priors_json: str, now: float) -> str:
    """Keep it, and return what stands: the first word counts, whoever wrote it."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    values = {"study_uid": study_uid, "revision": revision, "reading_name": reading_name, "priors_json": priors_json, "at": now}
    conn.execute(make(compared_priors).values(**values).on_conflict_do_nothing())
    kept = kept_priors(conn, study_uid, revision, reading_name)
    return priors_json if kept is None else kept


def kept_priors(conn: Connection, study_uid: str, revision: int, reading_name: str) -> str | None:
    """None where nothing was kept."""
    table = compared_priors
    mine = (table.c.study_uid == study_uid, table.c.revision == revision, table.c.reading_name == reading_name)
    return conn.execute(select(table.c.priors_json).where(*mine)).scalar_one_or_none()
