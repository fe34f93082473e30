"""Which associations carry a study, and how each ended: when the last one is released, its sender has no more of it.

One row for each association and study, gone when the study's next revision is opened. An association that was aborted, or whose
process died, says nothing of completeness.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select, update

from dicom_node.storage.tables import study_senders

_RELEASED_FOR_S = 24 * 3600.0  # rows of associations that never ended, by a crash, are forgotten


def note_sender(conn: Connection, association: str, study_uid: str, now: float) -> None:
    """``association`` has brought something new of a study."""
    there = (study_senders.c.association == association) & (study_senders.c.study_uid == study_uid)
    if conn.execute(select(study_senders.c.since).where(there)).first() is None:
        values = {"association": association, "study_uid": study_uid, "since": now, "ended_at": 0.0, "released": False}
        conn.execute(insert(study_senders).values(**values))


def end_senders(conn: Connection, associations: Collection[tuple[str, bool]], now: float) -> None:
    """These associations have ended; true: by a release."""
    for association, released in associations:
        mine = study_senders.c.association == association
        conn.execute(update(study_senders).where(mine).values(ended_at=now, released=released))


def all_released_at(conn: Connection, study_uid: str, now: float) -> float | None:
    """When the last association that carried a study ended; None where one is open, or the last was not released."""
    query = select(study_senders.c.ended_at, study_senders.c.released, study_senders.c.since).where(
        study_senders.c.study_uid == study_uid
    )
    rows = [row for row in conn.execute(query) if row.ended_at or row.since > now - _RELEASED_FOR_S]
    if not rows or any(not row.ended_at for row in rows):
        return None
    last = max(rows, key=lambda row: float(row.ended_at))
    return float(last.ended_at) if last.released else None


def forget_senders(conn: Connection, study_uid: str) -> None:
    """Of associations that have ended; those that are open may yet bring more."""
    conn.execute(delete(study_senders).where(study_senders.c.study_uid == study_uid, study_senders.c.ended_at > 0))
