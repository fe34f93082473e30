"""A head on disk: a folder with ``head.json``, for a probe ``probe.npz``, and the report it was judged by.

``head.json`` names the model it was fitted for by digest and, for a calibration, the prompts by theirs; it holds the sha256 of
each other file and of itself. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from inference.errors import HeadError
from inference.reading import HeadVersion
from inference.triage.catalogue import CatalogueEntry, FindingsCatalogue
from inference.triage.heads.transform import Transform

MANIFEST: Final = "head.json"
WEIGHTS: Final = "probe.npz"
FORM: Final = 1
Kind = Literal["calibration", "probe"]


@dataclass(frozen=True, slots=True)
class Tie:
    """What a head belongs to. ``prompts``: by finding key, the digest of the texts it was asked with."""

    model: str
    model_digest: str
    catalogue: str
    catalogue_digest: str
    prompts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HeadFinding:
    """How the node judges one finding with this head.

    ``unusable``: where not empty, why it gives no answer (a calibration that showed no better than chance). Else ``transform``
    and ``threshold`` are there. ``band``: probabilities from the first up to but without the second are not decided.
    """

    key: str
    transform: Transform | None = None
    threshold: float = 0.5
    band: tuple[float, float] | None = None
    unusable: str = ""
    films: int = 0
    positives: int = 0


@dataclass(frozen=True, slots=True)
class HeadCard:
    """All that ``head.json`` says. ``made``: an ISO date. ``wish``: in words. ``files``: name to sha256."""

    kind: Kind
    name: str
    version: str
    made: str
    tie: Tie
    wish: str
    films: int
    patients: int
    findings: tuple[HeadFinding, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    form: int = FORM

    @property
    def digest(self) -> str:
        """sha256 over everything above."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def head_version(self) -> HeadVersion:
        return HeadVersion(self.kind, self.name, self.version, self.digest)

    @property
    def judged(self) -> tuple[str, ...]:
        return tuple(finding.key for finding in self.findings if not finding.unusable)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A probe's directions: ``weights`` float32 (findings, width), ``biases`` float32 (findings,), in the order of the card."""

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]


def prompts_digest(catalogue: FindingsCatalogue, entry: CatalogueEntry) -> str:
    """sha256 over the texts one finding is asked with; thresholds, codes and urgency do not count."""
    texts = [catalogue.texts(entry.positive), catalogue.texts(entry.negative)]
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()


def write_head(folder: Path, card: HeadCard, weights: Weights | None = None) -> HeadCard:
    """Write the weights and the manifest over all files now in ``folder``; returns the card with their digests."""
    if weights is not None:
        np.savez(folder / WEIGHTS, weights=weights.weights, biases=weights.biases)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    done = replace(card, files={name: _sha256(folder / name) for name in names})
    text = json.dumps({"head": asdict(done), "sha256": done.digest}, indent=2, ensure_ascii=False)
    part = folder / (MANIFEST + ".part")
    part.write_text(text + "\n", "utf-8")
    part.replace(folder / MANIFEST)
    return done


def read_head(folder: Path, kind: Kind) -> HeadCard:
    """Read and verify a head. Raises HeadError where it is missing, damaged, altered, or of the other kind."""
    path = folder / MANIFEST
    if not path.is_file():
        raise HeadError(f"{folder}: no {kind} here (no {MANIFEST}); {_COMMANDS[kind]} makes one")
    try:
        data = json.loads(path.read_text("utf-8"))
        card = TypeAdapter(HeadCard).validate_python(data["head"])
        stated = data["sha256"]
    except (OSError, ValueError, KeyError, TypeError, ValidationError, HeadError) as error:
        raise HeadError(f"{path}: damaged or incomplete ({_words(error)}); fit it again or copy it again") from error
    if card.form != FORM:
        raise HeadError(f"{path}: form {card.form} is not understood; this version reads form {FORM}")
    if card.digest != stated:
        raise HeadError(f"{path}: was changed by hand after it was fitted; fit it again, with another wish where you want one")
    if card.kind != kind:
        raise HeadError(f"{folder}: this is a {card.kind}; set it as `{card.kind}` of the reading, not as `{kind}`")
    _verify(folder, card)
    return card


def read_weights(folder: Path, card: HeadCard) -> Weights:
    """A probe's directions. Raises HeadError where they are damaged or do not fit the card."""
    try:
        with (folder / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            found = Weights(kept["weights"].astype(np.float32), kept["biases"].astype(np.float32))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise HeadError(
            f"{folder / WEIGHTS}: damaged ({type(error).__name__}); fit the probe again or copy it again"
        ) from error
    if found.weights.ndim != 2 or found.weights.shape[:1] != found.biases.shape or len(found.biases) != len(card.findings):
        raise HeadError(f"{folder / WEIGHTS}: holds {found.weights.shape} for {len(card.findings)} findings; fit it again")
    return found


_COMMANDS: Final[Mapping[str, str]] = {"calibration": "`wetread calibrate`", "probe": "`wetread probe fit`"}


def _verify(folder: Path, card: HeadCard) -> None:
    for name, wanted in card.files.items():
        if Path(name).name != name:
            raise HeadError(f"{folder / MANIFEST}: file name {name!r} leaves the folder")
        if not (folder / name).is_file():
            raise HeadError(f"{folder}: {name} is missing; copy the folder whole")
        if _sha256(folder / name) != wanted:
            raise HeadError(f"{folder}: {name} differs from its sha256; fit it again or copy it again")


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error) if isinstance(error, HeadError) else type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
