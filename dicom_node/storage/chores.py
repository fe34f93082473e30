"""Work that one process of all the machines does at a time."""

from __future__ import annotations

from sqlalchemy import or_, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.database import Database
from dicom_node.storage.tables import chores


def hold_chore(db: Database, name: str, owner: str, seconds: float, now: float) -> bool:
    """Whether ``owner`` does this work for the next ``seconds``; who does it already holds on to it."""
    with db.write() as conn:
        make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        first = make(chores).values(name=name, owner=owner, until=now + seconds)
        if conn.execute(first.on_conflict_do_nothing(index_elements=["name"])).rowcount == 1:
            return True
        free = or_(chores.c.owner == owner, chores.c.until < now)
        taken = update(chores).where(chores.c.name == name, free).values(owner=owner, until=now + seconds)
        return conn.execute(taken).rowcount == 1


def drop_chore(db: Database, name: str, owner: str) -> None:
    """An orderly stop: another may take the work at once."""
    with db.write() as conn:
        conn.execute(update(chores).where(chores.c.name == name, chores.c.owner == owner).values(until=0.0))
