"""Studies that we asked another archive for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from dicom_node.storage.tables import instances, pulled_studies

_COUNTS_FOR_S: Final = 7 * 86400  # a study that comes later is no longer ours to rank


class PullReason(StrEnum):
    """Why a study was asked for."""

    PULL = "pull"  # by an operator; read and delivered as its route says
    PRIOR = "prior"  # for comparison with a newer study; its results stay on the node


@dataclass(frozen=True, slots=True)
class Pulled:
    """``priority``: of its reading, see ``jobs.Priority``."""

    reason: PullReason
    priority: int


def note_pulled(conn: Connection, study_uid: str, pulled: Pulled, now: float) -> None:
    """Before it is asked for, so that the first instance already finds it."""
    conn.execute(delete(pulled_studies).where(pulled_studies.c.study_uid == study_uid))
    values = {"study_uid": study_uid, "reason": pulled.reason.value, "priority": pulled.priority, "at": now}
    conn.execute(insert(pulled_studies).values(**values))


def pulled(conn: Connection, study_uid: str, now: float) -> Pulled | None:
    """None for a study that came by itself."""
    wanted = (pulled_studies.c.study_uid == study_uid, pulled_studies.c.at > now - _COUNTS_FOR_S)
    row = conn.execute(select(pulled_studies.c.reason, pulled_studies.c.priority).where(*wanted)).first()
    return None if row is None else Pulled(PullReason(row.reason), row.priority)


def count_held(conn: Connection, study_uid: str) -> int:
    """How many instances of a study are here and may be read."""
    mine = (instances.c.study_uid == study_uid, instances.c.set_aside.is_(False))
    return int(conn.execute(select(func.count()).select_from(instances).where(*mine)).scalar_one())
