"""A real process whose model hangs: it ends, says why, and gives its studies to the next."""

from __future__ import annotations

import os
import subprocess
import sys

from dicom_node.storage.events import EventKind, Severity, list_events
from dicom_node.storage.jobs import JobState
from dicom_node.worker.watchdog import STATUS
from tests.dicom_node.worker.site import DraftingReader, Site


def test_a_model_that_hangs_ends_its_process_and_the_next_reads_each_study_alone(site: Site) -> None:
    studies = [site.add(seed) for seed in range(2)]
    command = [sys.executable, "-m", "tests.dicom_node.worker.hanging", str(site.files.root), "1"]
    ended = subprocess.run(command, timeout=120, check=False, capture_output=True, text=True, env=dict(os.environ))
    assert ended.returncode == STATUS, ended.stderr[-2000:]
    assert "a step hangs" in ended.stdout + ended.stderr
    with site.db.read() as connection:
        (event,) = list_events(connection, kind=EventKind.FAILURE)
    assert event.severity is Severity.ALERT
    assert "took longer than 1 s: it is replaced" in event.text
    assert {site.job(study).state for study in studies} == {JobState.QUEUED}
    fresh = DraftingReader()
    site.read_all(fresh)
    assert {site.job(study).state for study in studies} == {JobState.DONE}
    assert {count for _, count in fresh.batches} == {1}
