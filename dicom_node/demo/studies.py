"""The three studies of the demo, and what must come back of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydicom import Dataset

from dicom_node.phantom_dicom import phantom_ct, phantom_dx
from inference.reading import Decision, Reading, Urgency

PNEUMOTHORAX = "pneumothorax"


class Expected(Enum):
    """What a right reading says."""

    PNEUMOTHORAX = "pneumothorax marked"
    NOTHING_URGENT = "no STAT finding marked"
    NOT_ASSESSABLE = "not assessable"


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """A study to be sent. ``slug`` begins the names of its results."""

    title: str
    slug: str
    study_uid: str
    files: tuple[Path, ...]
    expected: Expected


def write_studies(folder: Path) -> tuple[DemoStudy, ...]:
    """Draw the studies and write them as DICOM files under ``folder``."""
    plans = (
        ("Chest film marked STAT", "1-stat-film", [phantom_dx(7, [PNEUMOTHORAX], priority="STAT")], Expected.PNEUMOTHORAX),
        ("Chest film, routine", "2-normal-film", [phantom_dx(11, [])], Expected.NOTHING_URGENT),
        ("CT chest series", "3-ct-series", phantom_ct(3, slices=5), Expected.NOT_ASSESSABLE),
    )
    return tuple(_write(folder, *plan) for plan in plans)


def fault(expected: Expected, reading: Reading) -> str:
    """Why this reading is not the expected one; empty where it is."""
    if expected is Expected.NOT_ASSESSABLE:
        judged = [f.code.meaning for f in reading.findings if f.decision is not Decision.NOT_ASSESSABLE]
        return f"must not be assessable, but was judged for {', '.join(judged)}" if judged or reading.assessed else ""
    if not reading.assessed:
        return f"could not be read: {reading.reason}"
    if expected is Expected.PNEUMOTHORAX:
        found = PNEUMOTHORAX in {finding.key for finding in reading.positives}
        return "" if found else "the drawn pneumothorax was not marked"
    urgent = [finding.code.meaning for finding in reading.positives if finding.urgency is Urgency.STAT]
    return f"is a normal film, but was marked for {', '.join(urgent)}" if urgent else ""


def _write(folder: Path, title: str, slug: str, datasets: list[Dataset], expected: Expected) -> DemoStudy:
    place = folder / slug
    place.mkdir(parents=True)
    files = tuple(place / f"{number:02d}.dcm" for number in range(1, len(datasets) + 1))
    for path, dataset in zip(files, datasets, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return DemoStudy(title, slug, str(datasets[0].StudyInstanceUID), files, expected)
