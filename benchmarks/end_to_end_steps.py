"""The figures of ``end_to_end.py``: from a node's own database and from the steps that its worker measured."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from pydicom import dcmread

from dicom_node.flow import ReadRequest, read_study
from dicom_node.storage.database import Database
from dicom_node.storage.job_counts import count_jobs
from dicom_node.storage.jobs import JobKind, JobState, list_jobs
from dicom_node.storage.studies import get_study
from inference.reading import UseMode
from reporting.context import DocumentKind
from reporting.options import DocumentOptions
from tests.support import GreyReader

ORDER = ("completeness wait", "queue", "decode", "triage", "draft", "documents", "commit", "delivery", "last image → SR")
_NAMES = {"wait": "queue"}  # as the node names it


@dataclass(frozen=True)
class Step:
    """Seconds."""

    name: str
    p50: float
    p95: float
    count: int


@dataclass(frozen=True)
class Story:
    """Of each study: when its last image came, its job was made, its findings were delivered. Seconds since 1970."""

    last_image: tuple[float, ...]
    queued: tuple[float, ...]
    sent: tuple[float, ...]
    delivered: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Studies a second from the first that was ready to be read to the last report delivered, filling and draining too."""
        return len(self.delivered) / (max(self.delivered) - min(self.queued))


def wait_for_all(database: Database, studies: int, seconds: float, most: int = 0) -> None:
    """Until so many studies are read, and no more than ``most`` jobs of any kind are left. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while True:
        counts = count_jobs(database)
        left = sum(one.count for one in counts if one.state is not JobState.DONE)
        read = sum(one.count for one in counts if one.kind is JobKind.READ and one.state is JobState.DONE)
        if left <= most and read + most >= studies:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{read} of {studies} studies are read and {left} jobs left after {seconds:.0f} s")
        time.sleep(0.2)


def story(database: Database, studies: Sequence[str]) -> Story:
    last, queued, sent, delivered = [], [], [], []
    for uid in studies:
        with database.read() as connection:
            row = get_study(connection, uid)
        jobs = list_jobs(database, study_uid=uid)
        assert row is not None
        last.append(row.last_instance_at)
        queued.append(min(job.created_at for job in jobs if job.kind is JobKind.READ))
        first = min((job for job in jobs if job.kind is JobKind.DELIVER), key=lambda job: job.done_at or 0.0)
        sent.append(first.created_at)
        delivered.append(first.done_at or 0.0)
    return Story(tuple(last), tuple(queued), tuple(sent), tuple(delivered))


def steps(found: Story, file: Path, since: float) -> list[Step]:
    """By what passes first. ``since``: seconds since 1970; what was measured before is left out."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    times: dict[str, list[float]] = {}
    for line in lines:
        if line["at"] >= since and line["step"] in ("wait", "decode", "triage", "draft", "documents", "commit"):
            times.setdefault(_NAMES.get(line["step"], line["step"]), []).append(line["seconds"])
    times["completeness wait"] = _between(found.last_image, found.queued)
    times["delivery"] = _between(found.sent, found.delivered)
    times["last image → SR"] = _between(found.last_image, found.delivered)
    return [step(name, times[name]) for name in ORDER if times.get(name)]


def step(name: str, seconds: Sequence[float]) -> Step:
    return Step(name, statistics.median(seconds), float(np.quantile(seconds, 0.95)), len(seconds))


def _between(first: Sequence[float], then: Sequence[float]) -> list[float]:
    return [b - a for a, b in zip(first, then, strict=True)]


def alone(what: Callable[[], int], seconds: float) -> float:
    """Studies a second of one step with nothing beside it; ``what`` does some and says how many."""
    what()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += what()
    return done / (time.perf_counter() - began)


def documents_alone(film: Path, seconds: float) -> float:
    """Decoding a film and building and checking its two reports, one after the other."""
    uid = str(dcmread(film, stop_before_pixels=True).StudyInstanceUID)
    kinds = frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR})
    options = DocumentOptions(software_version="benchmark", kinds=kinds)
    request = ReadRequest(uid, (film,), 1, datetime.now(UTC).astimezone(), "2.25.1")

    def one() -> int:
        read_study(GreyReader(UseMode.ASSIST), request, options)
        return 1

    return alone(one, seconds)


def slope(samples: Sequence[tuple[float, float]], studies_per_s: float) -> float:
    """MB for each 10,000 studies, by least squares over the later two thirds: before, pools and caches fill."""
    later = samples[len(samples) // 3 :]
    if len(later) < 3 or studies_per_s <= 0:
        return 0.0
    seconds, memory = np.array(later).T
    return float(np.polyfit(seconds * studies_per_s, memory, 1)[0]) * 10_000
