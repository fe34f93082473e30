"""By what a PACS knows a study: read from one of its images when somebody who may asks, and kept nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.storage.database import Database
from dicom_node.storage.instances import instances_of
from dicom_node.study_facts import attribute_of

_LONGEST: Final = 64  # characters (LO)


@dataclass(frozen=True, slots=True)
class Identity:
    """Never to be logged or put into an address."""

    accession_number: str
    study_date: str
    description: str


def identity_of(db: Database, path: Callable[[str], Path], study_uid: str) -> Identity | None:
    """None where no image of the study is there. ``path``: where the file of a row's path lies. Raises StorageError."""
    with db.read() as conn:
        rows = [row for row in instances_of(conn, study_uid) if not row.set_aside]
    if not rows:
        return None
    value = attribute_of([path(rows[0].path)])

    def first(keyword: str) -> str:
        return next(iter(sorted(value(keyword))), "")[:_LONGEST]

    return Identity(first("AccessionNumber"), first("StudyDate"), first("StudyDescription"))
