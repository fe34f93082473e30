"""What came back of a study: taken from where it was delivered, never from inside the node, and laid out for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Final

from PIL import Image
from pydicom import dcmread

from dicom_node.demo.studies import DemoStudy
from dicom_node.errors import StorageError
from dicom_node.reading_json import from_json
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import JobKind, list_jobs
from dicom_node.storage.results import DocumentRow, documents_of, results_of
from dicom_node.storage.studies import get_study
from inference.reading import Reading
from reporting.context import DocumentKind
from reporting.text import sr_text
from reporting.uids import is_preliminary

# Heat maps come only where something was found
ALWAYS: Final = (DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.PDF, DocumentKind.FHIR_BUNDLE)
WANTED: Final = (*ALWAYS, DocumentKind.HEAT_MAP)


@dataclass(frozen=True, slots=True)
class CameBack:
    """``latency_s``: from the study's last image on the disk to its last document delivered, the quiet time included."""

    study: DemoStudy
    reading: Reading
    files: tuple[Path, ...]
    latency_s: float
    faults: tuple[str, ...]


def collect(db: Database, delivered: Path, out: Path, study: DemoStudy) -> CameBack:
    """Copy a study's delivered documents to ``out``, SRs also as text, the Bundle indented. Raises StorageError."""
    with db.read() as connection:
        row = get_study(connection, study.study_uid)
        results = results_of(connection, study.study_uid)
        documents = tuple(d for d in documents_of(connection, study.study_uid) if not is_preliminary(d.uid))
    if row is None or not results:
        raise StorageError(f"{study.title}: the node has no result for it")
    sends = list_jobs(db, kind=JobKind.DELIVER, study_uid=study.study_uid, limit=1000)
    latency = max((job.done_at or 0.0 for job in sends), default=row.last_instance_at) - row.last_instance_at
    files, faults = _lay_out(delivered, out, study, documents)
    if len(results) > 1:
        faults.append(f"was read {len(results)} times")
    return CameBack(study, from_json(results[0].reading_json), tuple(files), latency, tuple(faults))


def _lay_out(delivered: Path, out: Path, study: DemoStudy, documents: tuple[DocumentRow, ...]) -> tuple[list[Path], list[str]]:
    files: list[Path] = []
    faults = [f"has no {kind.value}" for kind in ALWAYS if kind.value not in {d.kind for d in documents}]
    numbers = count(1)
    for document in documents:
        found = [path for path in delivered.glob(f"*{document.uid}*") if not path.name.startswith(".")]
        if len(found) != 1 or found[0].stat().st_size != document.size:
            faults.append(f"its {document.kind} was not delivered whole, once")
            continue
        number = f"-{next(numbers)}" if document.kind == DocumentKind.HEAT_MAP else ""
        files += _write(found[0].read_bytes(), out / f"{study.slug}.{document.kind}{number}", DocumentKind(document.kind))
    return files, faults


def _write(content: bytes, name: Path, kind: DocumentKind) -> list[Path]:
    """The document as it was delivered, and beside it what a person can open."""
    files = {suffix: data for suffix, data in _forms(content, kind).items() if data}
    for suffix, data in files.items():
        name.with_name(name.name + suffix).write_bytes(data)
    return [name.with_name(name.name + suffix) for suffix in files]


def _forms(content: bytes, kind: DocumentKind) -> dict[str, bytes]:
    if kind is DocumentKind.FHIR_BUNDLE:
        return {".json": (json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n").encode()}
    ds = dcmread(BytesIO(content))
    if kind is DocumentKind.PDF:
        return {".dcm": content, ".pdf": ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]}
    if kind is DocumentKind.HEAT_MAP:
        picture = BytesIO()
        Image.fromarray(ds.pixel_array).save(picture, "PNG")
        return {".dcm": content, ".png": picture.getvalue()}
    return {".dcm": content, ".txt": sr_text(content).encode()}
