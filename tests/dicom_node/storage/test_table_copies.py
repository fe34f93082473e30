"""All rows as lines of JSON and back, on each database and from each to the other form of itself."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from dicom_node.errors import StorageError
from dicom_node.storage.database import Database
from dicom_node.storage.instances import NewInstance, record_instance
from dicom_node.storage.jobs import JobKind, JobState, NewJob, claim, enqueue, list_jobs
from dicom_node.storage.table_copies import is_empty, load_tables, save_tables, still_named
from dicom_node.storage.tables import drift_observations, metadata

ODD = "ä Ω 'quoted\" \\ line\nend � 😀"


def _fill(db: Database) -> None:
    with db.write() as conn:
        for number in range(1200):  # more than one statement takes
            enqueue(conn, NewJob(JobKind.READ, "read", f"k{number}", "1.2", {"text": ODD}), 1.5)
        for path in ("instances/b", "instances/a-1", "instances/a"):
            new = NewInstance(path[-3:], "1.2", "1.3", "1.2", "1.2.840.10008.1.2", path, 1, "", "p" * 64, calling_ae=ODD[:6])
            record_instance(conn, new, 2.0)
        columns = {column.name: 1 for column in drift_observations.columns if column.name != "id"}
        texts = {c.name: "x" for c in drift_observations.columns if c.type.python_type is str}
        conn.execute(insert(drift_observations).values({**columns, **texts, "content": bytes(range(256))}))
    assert claim(db, JobKind.READ, "read", "gone", 3, 60.0, 3.0)


def _rows(db: Database) -> dict[str, list[Any]]:
    with db.read() as conn:
        return {table.name: sorted(map(tuple, conn.execute(select(table))), key=str) for table in metadata.sorted_tables}


def test_every_row_comes_back_as_it_was(new_url: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with closing(Database.open(new_url())) as db:
        _fill(db)
        counts = save_tables(db, tmp_path / "tables", tmp_path / "paths")
        before = _rows(db)
        assert not is_empty(db)
        assert still_named(db, "instances/a-1")
        assert not still_named(db, "instances/x")
    assert (counts["jobs"], counts["instances"], counts["drift_observations"]) == (1200, 3, 1)
    assert (tmp_path / "paths").read_text().splitlines() == ["instances/a", "instances/a-1", "instances/b"]
    with closing(Database.open(new_url())) as db:
        assert is_empty(db)
        assert load_tables(db, tmp_path / "tables", 9.0) == counts
        after = _rows(db)
        assert {name for name in before if before[name] != after[name]} == {"jobs"}
        assert list_jobs(db, state=JobState.LEASED) == ()
        assert all(job.payload == {"text": ODD} for job in list_jobs(db, limit=2000))
        with db.write() as conn:
            assert enqueue(conn, NewJob(JobKind.READ, "read", "next", "1.2", {}), 9.0)
        assert list_jobs(db, limit=1)[0].id > max(row[0] for row in before["jobs"])


def test_studies_that_came_while_files_were_copied_are_not_deleted(new_url: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with closing(Database.open(new_url())) as db:
        save_tables(db, tmp_path / "tables", tmp_path / "paths")
        _fill(db)
        before = _rows(db)
        with pytest.raises(StorageError, match="has received studies meanwhile"):
            load_tables(db, tmp_path / "tables", 9.0)
        assert _rows(db) == before


def test_a_table_that_breaks_off_leaves_the_database_empty(new_url: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with closing(Database.open(new_url())) as db:
        _fill(db)
        save_tables(db, tmp_path / "tables", tmp_path / "paths")
    file = tmp_path / "tables" / "jobs.jsonl.gz"
    whole = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(whole[:-10]))
    with closing(Database.open(new_url())) as db:
        with pytest.raises(StorageError, match="damaged"):
            load_tables(db, tmp_path / "tables", 9.0)
        assert is_empty(db)
