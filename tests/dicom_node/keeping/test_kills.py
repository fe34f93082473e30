"""kill -9 at any instant of a purge: never a row without its file, and the next purge leaves no file without a row."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from dicom_node.keeping.purge import Purger
from dicom_node.storage.jobs import JobState
from tests.dicom_node.keeping.purging import purge
from tests.dicom_node.keeping.store import DAY, Made, Store, open_store

NOW = 2000 * DAY
KILLS = 12


def _make(store: Store, round_: int) -> None:
    for number in range(3):
        at = NOW - (60 - number) * DAY
        store.make(Made(f"1.{round_}.{number}", at, images=6, document_at=at, delivery=JobState.DONE))


def _killed(folder: Path, after_s: float) -> None:
    """The purge in a process of its own, killed after so long, or at its end."""
    child = os.fork()
    if not child:
        try:
            purge(folder, NOW)
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_purge_that_is_killed_leaves_nothing_dangling(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "node.sqlite")
    kept = Made("9.9", NOW - 60 * DAY, delivery=JobState.DEAD, document_at=NOW - 60 * DAY)
    store = open_store(tmp_path)
    store.make(kept)
    untouched = store.paths()
    left, unfinished = 0, 0
    for round_ in range(KILLS):
        _make(store, round_)
        store.db.close()
        _killed(tmp_path, random.Random(round_).uniform(0.005, 0.12))
        store = open_store(tmp_path)
        assert store.rows() <= store.paths(), "a row without its file"
        unfinished += store.rows() < store.paths()
        left += len(store.studies_with_images()) - 1
    Purger(store.db, store.files).finish()
    assert store.paths() == store.rows()
    store.db.close()
    purge(tmp_path, NOW)
    assert open_store(tmp_path).paths() == untouched, "all that was old is gone, what was not delivered is there"
    assert left, "no kill came in the middle; the test shows nothing"
