"""A node is backed up in the middle of its work, lost, and restored elsewhere, where it finishes everything.

From SQLite to PostgreSQL and back: a backup has one form for both, so it is also the way from one machine to several.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.storage.jobs import JobKind, JobState, list_jobs

from .harness import dcmtk, films
from .harness.machines import Machine, Share, faults, wait_finished
from .harness.node import wetread
from .harness.peers import Orthanc
from .harness.postgres import running
from .harness.processes import free_port, wait_for

SLOW_S = 120.0


@contextmanager
def _share(kind: str, folder: Path) -> Iterator[Share]:
    folder.mkdir(parents=True)
    if kind == "sqlite":
        url = f"sqlite:///{folder / 'node.sqlite'}"
        yield Share(folder / "data", {"database": url}, url)
        return
    with running() as server:
        database = server.new_database()
        yield Share(folder / "data", database.settings, database.url)


@pytest.mark.parametrize(("before", "after"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_backed_up_at_work_and_restored_elsewhere_it_finishes_everything(before: str, after: str, tmp_path: Path) -> None:
    pacs, archive, out = Orthanc(tmp_path / "orthanc"), tmp_path / "archive", tmp_path / "backups"
    where = {
        "archive": {"kind": "folder", "path": str(archive)},
        "pacs": {"kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom_port, "ae_title": "ORTHANC", "timeout_s": 5},
    }
    made = [films.film(tmp_path / "films", number) for number in range(6)]
    studies = [uid for uid, _ in made]
    with _share(before, tmp_path / "old") as old, _share(after, tmp_path / "new") as new:
        lost = Machine(tmp_path / "lost", old, where, "seconds=1.5", free_port())
        found = Machine(tmp_path / "found", new, where, "seconds=0", free_port())
        try:
            lost.start()
            sent = dcmtk.dcmsend(lost.port, [path for _, path in made])  # the PACS is away: results wait for it
            assert dcmtk.accepted(sent) == len(made)
            wait_for("a reading", lambda: _count(lost, JobKind.READ, JobState.LEASED), seconds=SLOW_S, every=0.05)
            wait_for("a delivered result", lambda: _count(lost, JobKind.DELIVER, JobState.DONE), seconds=SLOW_S, every=0.05)
            saved = wetread("backup", "--out", out, "--config", lost.config)
            assert saved.returncode == 0, saved.stderr
            lost.running.kill_session()
            assert wetread("restore", "--from", out, "--check").returncode == 0
            restored = wetread("restore", "--from", out, "--config", found.config)
            assert restored.returncode == 0, restored.stderr
            at_backup = {job.idempotency_key: job.state for job in list_jobs(found.database, limit=1000)}
            assert JobState.LEASED not in at_backup.values()
            assert JobState.DONE in at_backup.values()
            pacs.start()
            found.start()
            wait_finished(found.database, studies, SLOW_S)
            assert faults(found.database, studies, archive, pacs) == {}
            delivered = [json.loads(line) for line in found.logs.splitlines() if '"delivered"' in line]
            again = {
                job.id for job in list_jobs(found.database, limit=1000) if at_backup.get(job.idempotency_key) == JobState.DONE
            }
            assert not again & {line["job"] for line in delivered}
        finally:
            lost.end()
            found.end()
            pacs.stop()


def _count(machine: Machine, kind: JobKind, state: JobState) -> int:
    return len(list_jobs(machine.database, kind=kind, state=state))
