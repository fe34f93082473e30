"""How far the audit trail was gone through, on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from dicom_node.storage.audit import hold_mark
from dicom_node.storage.database import Database


def test_two_machines_may_be_the_first_at_once(db: Database) -> None:
    def mark() -> int:
        with db.write() as conn:
            return hold_mark(conn, "instances")

    with ThreadPoolExecutor(1) as other:
        with db.write() as conn:
            assert hold_mark(conn, "instances") == 0
            second = other.submit(mark)
            assert not second.done()
        assert second.result(30) == 0
