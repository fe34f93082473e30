"""Every form of image of the corpus, read by the node's own flow with a reader that has no model, and all of its documents."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.flow import ReadRequest, read_study
from inference.reading import (
    Catalogue,
    Code,
    Decision,
    DraftReport,
    Finding,
    Frame,
    HeadVersion,
    HeatMap,
    Method,
    ModelVersion,
    Reading,
    Sentence,
    Skipped,
    Urgency,
    UseMode,
)
from reporting.context import Document, DocumentKind
from reporting.errors import ContextError
from reporting.options import DocumentOptions
from reporting.sr_signed import Signature, signed_report

READ_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
OPTIONS = DocumentOptions("0.1.0", kinds=frozenset(DocumentKind))
SIGNATURE = Signature("Lesemann^Li", "Example Hospital", READ_AT, ("Left pneumothorax.",), ("Chest drain advised.",))
FILES_OF_A_SERIES = 3
_TRIAGE = ModelVersion("Triage", "biomedclip", "1.0", "a" * 64, "example/triage@1", "MIT", "research", phantom=False)
_DRAFTING = ModelVersion("Drafting", "biomedgpt", "2.0", "b" * 64, "example/drafting@2", "MIT", "research", phantom=False)
_LUNG = Code("39607008", "SCT", "Lung structure")
_PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax")
_EFFUSION = Code("60046008", "SCT", "Pleural effusion")
_NODULE = Code("RID50149", "RADLEX", "Pulmonary nodule")


class Reader:
    """A ``flow.Reader`` with all that a reading can hold: each decision, a heat map, a draft that the findings contradict."""

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        if not frames:
            return self.refuse("the study holds no image that is read", skipped)
        source = frames[0].source
        judged = (
            Finding("pneumothorax", _PNEUMOTHORAX, _LUNG, Urgency.STAT, 0.5, Decision.POSITIVE, 0.9314, "", source),
            Finding(
                "pleural_effusion", _EFFUSION, None, Urgency.URGENT, 0.4, Decision.NEGATIVE, 0.021, "", source, Method.PROBE
            ),
            Finding("nodule", _NODULE, _LUNG, Urgency.ROUTINE, 0.6, Decision.NOT_ASSESSABLE, reason="The film is lateral"),
        )
        draft = DraftReport(
            (Sentence("No pneumothorax.", 0.9, source, ("pneumothorax",)), Sentence("Heart size < 0.5 & normal.", 0.6, source)),
            source=source,
            impression=(Sentence("No acute abnormality.", 0.7, source, ("pneumothorax",)),),
            notes=("one of the images gave no text",),
            checked="rules over words",
        )
        sources = tuple(frame.source for frame in frames)
        return _reading(judged, draft, (_TRIAGE, _DRAFTING), sources, skipped, heat_maps=(_heat_map(frames[0]),))

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading:
        judged = tuple(
            Finding(key, code, None, Urgency.STAT, 0.5, Decision.NOT_ASSESSABLE, reason=reason)
            for key, code in (("pneumothorax", _PNEUMOTHORAX), ("pleural_effusion", _EFFUSION))
        )
        return _reading(judged, DraftReport((), reason), (_TRIAGE,), (), skipped, reason=reason)


def _reading(
    findings: tuple[Finding, ...],
    draft: DraftReport,
    models: tuple[ModelVersion, ...],
    sources: tuple[object, ...],
    skipped: Sequence[Skipped],
    **more: object,
) -> Reading:
    heads = (HeadVersion("probe", "site", "1", "e" * 64),)
    catalogue = Catalogue("matrix", "3", "c" * 64)
    return Reading(findings, draft, models, catalogue, UseMode.ASSIST, sources, tuple(skipped), heads=heads, **more)  # type: ignore[arg-type]


def _heat_map(frame: Frame) -> HeatMap:
    """Hottest right of and above the middle."""
    y, x = np.mgrid[0:7, 0:7]
    values = np.exp(-((y - 2) ** 2 + (x - 4) ** 2) / 4)
    rows, columns = frame.pixels.shape[:2]
    return HeatMap("pneumothorax", frame.source, tuple(map(tuple, values.tolist())), (0, 0, rows, columns), "made up")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """One form of image: where it comes from, what was read of it, and each document as a file."""

    name: str
    images: tuple[Path, ...]
    study_uid: str
    reading: Reading
    documents: tuple[Document, ...]
    paths: tuple[Path, ...]  # of ``documents``, in their order

    @property
    def objects(self) -> list[Path]:
        """The DICOM objects among the documents."""
        return [path for path in self.paths if path.suffix == ".dcm"]

    def of(self, kind: DocumentKind) -> list[tuple[Document, Path]]:
        pairs = zip(self.documents, self.paths, strict=True)
        return [(one, path) for one, path in pairs if one.kind is kind and "signed" not in path.name]


@dataclass(frozen=True, slots=True)
class Form:
    """What tells one form of image from another, and files of the corpus that have it: of one series."""

    modality: str
    sop_class: str
    photometric: str
    charset: str
    files: tuple[Path, ...]


def forms(corpus: Path) -> list[Form]:
    """Each form of the corpus once, by what MANIFEST.csv says, with files of the series of its first."""
    found: dict[tuple[str, str, str, str], list[Path]] = {}
    with (corpus / "MANIFEST.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            key = row["modality"], row["sop_class"], row["photometric"], row["charset"]
            found.setdefault(key, []).append(corpus / row["file"])
    return [Form(*key, files=tuple(_of_one_series(paths))) for key, paths in found.items()]


def _of_one_series(paths: Sequence[Path]) -> list[Path]:
    """At most ``FILES_OF_A_SERIES`` files, of different instances."""
    series = uids(paths[0])
    beside = [path for path in paths if path.parent == paths[0].parent and all(series) and uids(path) == series]
    different = {value(path, "SOPInstanceUID"): path for path in (*reversed(beside), paths[0])}
    return list(reversed(different.values()))[:FILES_OF_A_SERIES]


@cache
def header(path: Path) -> Dataset:
    """A file's data set without its pixels, whatever its beginning looks like."""
    return dcmread(path, stop_before_pixels=True, force=True)


def value(path: Path, keyword: str) -> str:
    """An element of a file as text; empty where it is absent. Foreign values warn, and are what they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(header(path).get(keyword, "") or "").strip()


def uids(path: Path) -> tuple[str, str]:
    """Study and Series Instance UID of a file."""
    return value(path, "StudyInstanceUID"), value(path, "SeriesInstanceUID")


def make(number: int, form: Form, folder: Path) -> Made | str:
    """All documents of one form, with the signed report; or why its study can have none."""
    study = uids(form.files[0])[0]
    request = ReadRequest(study, form.files, 1, READ_AT, "1.2.826.0.1.99", institution="Example Hospital")
    try:
        outcome = read_study(Reader(), request, OPTIONS)
    except ContextError as error:
        return str(error)
    name = f"{number:02}-{form.modality or 'none'}-{form.photometric or 'none'}"
    documents = list(outcome.documents)
    paths = [folder / f"{name}-{n}-{one.kind.value}{one.suffix}" for n, one in enumerate(documents)]
    draft = next(one for one in documents if one.kind is DocumentKind.DRAFT_SR)
    documents.append(signed_report(draft.content, SIGNATURE))
    paths.append(folder / f"{name}-signed-sr.dcm")
    for path, document in zip(paths, documents, strict=True):
        path.write_bytes(document.content)
    return Made(name, form.files, study, outcome.reading, tuple(documents), tuple(paths))
