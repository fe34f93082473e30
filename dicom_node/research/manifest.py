"""`manifest.json`: what went into a run, what made it, and what came out; written last, so it stands for a whole run."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.research.files import RunFolder, write_whole
from dicom_node.research.identity import Started
from dicom_node.research.parts import Part, sha256_of
from dicom_node.research.search import Archive
from dicom_node.research.tables import Failure
from dicom_node.version import library_versions

FORM: Final = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """``gone``: studies that an earlier pass finished and that the source no longer holds; the tables leave them out."""

    files: int
    files_of_no_study: int
    studies: int
    assessed: int
    not_assessable: int
    failed: int
    gone: int
    positive: dict[str, int]  # finding to the number of studies, for every finding of the catalogue


def count(folder: RunFolder, archive: Archive, parts: Iterable[Part], failures: Sequence[Failure]) -> Counts:
    assessed = finished = 0
    positive: dict[str, int] = {}
    for part in parts:
        finished += 1
        assessed += part.reading.assessed
        positive |= {finding.key: positive.get(finding.key, 0) for finding in part.reading.findings}
        for finding in part.reading.positives:
            positive[finding.key] += 1
    stored = sum(1 for _ in folder.parts.glob("*.json"))
    return Counts(
        files=archive.file_count,
        files_of_no_study=len(archive.rejected),
        studies=len(archive.studies),
        assessed=assessed,
        not_assessable=finished - assessed,
        failed=len(failures),
        gone=max(0, stored - finished - len(failures)),
        positive=positive,
    )


def write(folder: RunFolder, started: Started, finished: str, parts: Iterable[Part], counts: Counts) -> None:
    """Raises StorageError, StorageFull."""
    tree: dict[str, Any] = {
        "form": FORM,
        "started": started.started,
        "finished": finished,
        **started.identity,
        "mode": "research",
        "python": platform.python_version(),
        "libraries": library_versions(),
        "counts": asdict(counts),
        "outputs": {path.name: sha256_of(path) for path in _outputs(folder)},
        "inputs": [entry for part in parts for entry in _inputs(part)],
    }
    write_whole(folder.manifest, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def _outputs(folder: RunFolder) -> tuple[Path, ...]:
    return folder.results, folder.drafts, folder.errors


def _inputs(part: Part) -> list[dict[str, Any]]:
    study = part.study_instance_uid
    return [{"path": f.path, "size": f.size, "sha256": f.sha256, "study_instance_uid": study} for f in part.files]
