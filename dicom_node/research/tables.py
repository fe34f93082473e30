"""What a run leaves: a row per study and finding, the drafts, and everything that was not read with its reason.

No patient's name, number or date is in a table; UIDs and the source's own file paths are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from dicom_node.research.files import whole
from dicom_node.research.parts import Part
from dicom_node.research.search import Rejected
from inference.reading import Finding, ModelVersion, Reading

_STUDIES_PER_ROW_GROUP: Final = 1000
_MODEL: Final = ("name", "kind", "version", "digest")
SCHEMA: Final = pa.schema(
    [
        ("study_instance_uid", pa.string()),
        ("revision", pa.int32()),
        ("finding", pa.string()),
        ("code_scheme", pa.string()),
        ("code_value", pa.string()),
        ("code_meaning", pa.string()),
        ("urgency", pa.string()),
        ("decision", pa.string()),
        ("probability", pa.float64()),  # 0..1; null where not assessable
        ("threshold", pa.float64()),
        ("reason", pa.string()),  # null where assessed
        ("series_instance_uid", pa.string()),  # of the image that decided; null where none did
        ("sop_instance_uid", pa.string()),
        ("frame_number", pa.int32()),
        ("images_read", pa.int32()),
        ("images_left_out", pa.int32()),
        *((f"triage_{name}", pa.string()) for name in _MODEL),
        *((f"drafting_{name}", pa.string()) for name in _MODEL),
        ("catalogue_name", pa.string()),
        ("catalogue_version", pa.string()),
        ("catalogue_digest", pa.string()),
        ("phantom_models", pa.bool_()),
        ("mode", pa.string()),
        ("device", pa.string()),
        ("precision", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A study that failed outright; the same command tries it again."""

    study_instance_uid: str
    reason: str


def write_results(path: Path, parts: Iterable[Part]) -> None:
    """A row per study and finding, in the order of ``parts`` and of the catalogue. Raises StorageError."""
    rows = (row for part in parts for row in result_rows(part))
    with whole(path) as partial, closing(pq.ParquetWriter(partial, SCHEMA, compression="zstd")) as writer:
        for table in _tables(rows):
            writer.write_table(table)


def write_drafts(path: Path, parts: Iterable[Part]) -> None:
    """A JSON object per study: its sentences with confidence (0..1), or the reason why there are none. Raises StorageError."""
    _write_lines(path, map(draft_entry, parts))


def write_errors(path: Path, rejected: Sequence[Rejected], parts: Iterable[Part], failures: Sequence[Failure]) -> None:
    """A JSON object for each file, image or study that was not read, with its reason. Raises StorageError."""
    _write_lines(path, error_entries(rejected, parts, failures))


def result_rows(part: Part) -> Iterator[dict[str, Any]]:
    """The rows of one study, one for each finding of its catalogue, by column name."""
    shared = _study_columns(part)
    for finding in part.reading.findings:
        yield {**shared, **_finding_columns(finding)}


def draft_entry(part: Part) -> dict[str, Any]:
    draft = part.reading.draft
    return {
        "study_instance_uid": part.study_instance_uid,
        "revision": part.revision,
        "sop_instance_uid": draft.source.sop_instance_uid if draft.source else None,
        "sentences": [{"text": sentence.text, "confidence": sentence.confidence} for sentence in draft.sentences],
        "reason": draft.reason or None,
        "model": next((_named(model) for model in part.reading.models if model.kind == "biomedgpt"), None),
    }


def error_entries(rejected: Sequence[Rejected], parts: Iterable[Part], failures: Sequence[Failure]) -> Iterator[dict[str, Any]]:
    """``what``: file (belongs to no study), image (not read), study (not assessable, or failed)."""
    for file in rejected:
        yield _error("file", file.reason, path=file.path)
    for part in parts:
        yield from _study_errors(part)
    for failure in failures:
        yield _error("study", failure.reason, study=failure.study_instance_uid, failed=True)


def _study_errors(part: Part) -> Iterator[dict[str, Any]]:
    paths = {file.sop_instance_uid: file.path for file in reversed(part.files)} | {
        Path(file.path).stem: file.path for file in part.files
    }
    for file in part.files:
        if file.left_out:
            yield _error("file", file.left_out, study=part.study_instance_uid, path=file.path, sop=file.sop_instance_uid)
    for skipped in part.reading.skipped:
        sop = skipped.sop_instance_uid
        yield _error("image", skipped.reason, study=part.study_instance_uid, path=paths.get(sop, ""), sop=sop)
    if not part.reading.assessed:
        yield _error("study", part.reading.reason, study=part.study_instance_uid)


def _error(what: str, reason: str, *, study: str = "", path: str = "", sop: str = "", failed: bool = False) -> dict[str, Any]:
    places = {"study_instance_uid": study or None, "sop_instance_uid": sop or None, "path": path or None}
    return {"what": what, **places, "failed": failed, "reason": reason}


def _study_columns(part: Part) -> dict[str, Any]:
    reading = part.reading
    return {
        "study_instance_uid": part.study_instance_uid,
        "revision": part.revision,
        "images_read": len({source.sop_instance_uid for source in reading.sources}),
        "images_left_out": len({skipped.sop_instance_uid for skipped in reading.skipped}),
        **_models(reading),
        "catalogue_name": reading.catalogue.name,
        "catalogue_version": reading.catalogue.version,
        "catalogue_digest": reading.catalogue.digest,
        "phantom_models": reading.phantom,
        "mode": reading.mode.value,
        "device": reading.device,
        "precision": reading.precision,
    }


def _finding_columns(finding: Finding) -> dict[str, Any]:
    source = finding.source
    return {
        "finding": finding.key,
        "code_scheme": finding.code.scheme,
        "code_value": finding.code.value,
        "code_meaning": finding.code.meaning,
        "urgency": finding.urgency.value,
        "decision": finding.decision.value,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "reason": finding.reason or None,
        "series_instance_uid": source.series_instance_uid if source else None,
        "sop_instance_uid": source.sop_instance_uid if source else None,
        "frame_number": source.frame_number if source else None,
    }


def _models(reading: Reading) -> dict[str, str]:
    roles = {"drafting" if model.kind == "biomedgpt" else "triage": model for model in reading.models}
    return {f"{role}_{name}": str(getattr(model, name)) for role, model in roles.items() for name in _MODEL}


def _named(model: ModelVersion) -> dict[str, str]:
    return {name: str(getattr(model, name)) for name in _MODEL}


def _tables(rows: Iterator[dict[str, Any]]) -> Iterator[pa.Table]:
    while batch := list(islice(rows, _STUDIES_PER_ROW_GROUP * 16)):
        yield pa.Table.from_pylist(batch, schema=SCHEMA)


def _write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
