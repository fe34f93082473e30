"""A small archive with everything a folder may hold, and a plan to read it without models."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from dicom_node.phantom_dicom import phantom_ct, phantom_dx
from dicom_node.research.identity import RunIdentity
from dicom_node.research.passes import Plan, read_archive
from inference.reading import Frame, Reading, Skipped
from reporting.options import DocumentOptions
from tests.support import CATALOGUE, MODEL, GreyReader, save

IDENTITY = RunIdentity("/archive", "chest_xray", (MODEL,), CATALOGUE, "0.1.0 0123456789abcdef")
PATIENT_ID = "SECRET-4711"
GARBAGE = {  # file → part of its reason
    "README.txt": "not a DICOM file",
    "empty.dcm": "empty",
    "cut.dcm": "",
    "dangling": "not a regular file",
    "loop": "link to a folder",
    "no_study.dcm": "without Study Instance UID",
}


def make_archive(root: Path, films: int = 6) -> list[str]:
    """Films with names that say nothing, one CT study, a duplicate, and files that are no studies; returns the study UIDs."""
    uids = []
    for seed in range(films):
        film = phantom_dx(seed, [], size=96, patient_id=f"{PATIENT_ID}-{seed}")
        save(film, root / f"disk{seed % 2}" / f"{seed:04d}")  # no extension: content decides
        uids.append(str(film.StudyInstanceUID))
    save(phantom_dx(0, [], size=96, patient_id=f"{PATIENT_ID}-0"), root / "zz_copy" / "again.dcm")
    for number, slice_ in enumerate(phantom_ct(1, 3, size=32)):
        save(slice_, root / "ct" / f"slice{number}.IMA")
    uids.append(str(slice_.StudyInstanceUID))
    make_garbage(root)
    return sorted(uids)


def make_garbage(root: Path) -> None:
    (root / "README.txt").write_text("films of 2026\n")
    (root / "empty.dcm").touch()
    whole = save(phantom_dx(99, [], size=96), root / "cut.dcm").read_bytes()
    (root / "cut.dcm").write_bytes(whole[:200])
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root)
    nameless = phantom_dx(98, [], size=96)
    del nameless.StudyInstanceUID
    save(nameless, root / "no_study.dcm")


class SlowReader(GreyReader):
    """Takes its time, so that a test can kill it in the middle."""

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        time.sleep(0.2)
        return super().read(frames, skipped)


def make_plan(source: Path, out: Path, reader: type[GreyReader] = GreyReader) -> Plan:
    identity = replace(IDENTITY, source=str(source.resolve()))
    return Plan(source.resolve(), out.resolve(), identity, DocumentOptions(software_version="0.1.0"), reader)


def go(plan: Plan) -> int:
    return read_archive(plan, Console(stderr=True, quiet=True))


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / "results.parquet").to_pylist()
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
