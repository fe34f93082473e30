"""Small real stand-ins that several tests share: a reader without models, drawn films on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom import Dataset

from inference.reading import (
    Catalogue,
    Code,
    Decision,
    DraftReport,
    Finding,
    Frame,
    ModelVersion,
    Reading,
    Sentence,
    Skipped,
    Urgency,
    UseMode,
)
from inference.stages import Study, Triaged

MODEL: Final = ModelVersion(
    name="mean grey (phantom – not for patients)",
    kind="biomedclip",
    version="1",
    digest="ab" * 32,
    source="drawn",
    licence="Apache-2.0",
    intended_use="tests",
    phantom=True,
)
CATALOGUE: Final = Catalogue("two findings", "1", "cd" * 32)
_KEYS: Final = {
    "pneumothorax": Code("36118008", "SCT", "Pneumothorax"),
    "pleural_effusion": Code("60046008", "SCT", "Pleural effusion"),
}


class GreyReader:
    """Probabilities are made of the mean grey, so that other pixels give another reading. All of it is done in ``triage``."""

    def __init__(self, mode: UseMode = UseMode.RESEARCH) -> None:
        self._mode = mode

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        films = [frame for frame in frames if frame.modality in ("DX", "CR")]
        if not films:
            return self.refuse("the study holds no radiograph", skipped)
        grey = float(films[0].pixels.mean()) / 255
        findings = tuple(
            _finding(key, code, p, films[0]) for (key, code), p in zip(_KEYS.items(), (grey, 1 - grey), strict=True)
        )
        draft = DraftReport((Sentence(f"Mean grey {grey:.3f}.", 0.5),), source=films[0].source)
        return self._reading(findings, draft, films, skipped)

    def triage(self, studies: Sequence[Study]) -> list[Triaged]:
        return [Triaged(self.read(study.frames, study.skipped), study.frames) for study in studies]

    def finish(self, triaged: Sequence[Triaged]) -> list[Reading]:
        return [one.reading for one in triaged]

    def resume(self, reading: Reading, frames: Sequence[Frame]) -> Triaged:
        return Triaged(reading, tuple(frames))

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading:
        findings = tuple(
            Finding(key, code, None, Urgency.STAT, 0.5, Decision.NOT_ASSESSABLE, reason=reason) for key, code in _KEYS.items()
        )
        return self._reading(findings, DraftReport((), reason), (), skipped, reason)

    def _reading(
        self,
        findings: tuple[Finding, ...],
        draft: DraftReport,
        frames: Sequence[Frame],
        skipped: Sequence[Skipped],
        reason: str = "",
    ) -> Reading:
        sources = tuple(frame.source for frame in frames)
        return Reading(findings, draft, (MODEL,), CATALOGUE, self._mode, sources, tuple(skipped), reason)


def _finding(key: str, code: Code, probability: float, frame: Frame) -> Finding:
    decision = Decision.POSITIVE if probability >= 0.5 else Decision.NEGATIVE
    return Finding(key, code, None, Urgency.STAT, 0.5, decision, probability, source=frame.source)


def save(dataset: Dataset, path: Path) -> Path:
    """Write a dataset as a Part 10 file; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def peer_path() -> str:
    """PATH without this environment's own programs: pynetdicom installs an echoscu of its own, which is no DCMTK."""
    own = Path(sys.prefix) / "bin"
    return os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if Path(part) != own)
