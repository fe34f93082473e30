"""Model bundles: a folder with ``bundle.json``, safetensors weights, tokenizer and configuration.

``bundle.json`` states what the model is, where it came from, what it may be used for and the sha256 of each other file.
Nothing in a bundle is ever unpickled; foreign checkpoints are converted once, by ``models import``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from inference.errors import BundleError, LicenceError
from inference.reading import ModelVersion, UseMode

MANIFEST: Final = "bundle.json"
FORM: Final = 1
KINDS: Final = ("biomedclip", "clip", "biomedgpt")
PHANTOM_MARK: Final = "phantom – not for patients"


@dataclass(frozen=True, slots=True)
class BundleCard:
    """What a bundle says of itself.

    ``allowed_modes``: the use modes its licence and card allow without a recorded permission.
    """

    name: str
    kind: str
    version: str
    source: str  # repository and revision
    licence: str
    intended_use: str
    allowed_modes: tuple[UseMode, ...]
    phantom: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BundleError(f"kind {self.kind!r} is unknown; allowed: {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose manifest was read. ``files``: relative path to sha256."""

    folder: Path
    card: BundleCard
    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """sha256 over the sorted (path, sha256) pairs: changes when any file of the model changes."""
        return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in sorted(self.files)).encode()).hexdigest()

    def path(self, name: str) -> Path:
        """The path of one of its files. Raises BundleError where the manifest does not list it."""
        if name not in dict(self.files):
            raise BundleError(
                f"{self.folder}: {MANIFEST} lists no file {name!r}; it has: {', '.join(n for n, _ in self.files)}"
            )
        return self.folder / name

    def model_version(self, acknowledgement: str = "") -> ModelVersion:
        card = self.card
        return ModelVersion(
            name=f"{card.name} ({PHANTOM_MARK})" if card.phantom else card.name,
            kind=card.kind,
            version=card.version,
            digest=self.digest,
            source=card.source,
            licence=card.licence,
            intended_use=card.intended_use,
            phantom=card.phantom,
            acknowledgement=acknowledgement,
        )


def open_bundle(folder: Path, *, kinds: Iterable[str] = KINDS) -> Bundle:
    """Read a bundle's manifest without checking file contents (``verify_bundle`` does).

    Raises BundleError where the folder or manifest is missing, damaged, or of another kind.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BundleError(
            f"{folder}: no model bundle here (no {MANIFEST}). Make one with `wetread models import KIND PATH --out {folder}`, "
            "copy one from another machine, or name `phantom` to use the phantom bundle that ships with WetRead."
        )
    try:
        data: dict[str, Any] = json.loads(manifest.read_text("utf-8"))
        if data["form"] != FORM:
            raise BundleError(f"{manifest}: form {data['form']!r} is not understood; this version reads form {FORM}")
        files = tuple(sorted((str(name), str(digest)) for name, digest in data["files"].items()))
        card = dict(data["card"])
        card["allowed_modes"] = tuple(UseMode(mode) for mode in card["allowed_modes"])
        bundle = Bundle(folder, BundleCard(**card), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{manifest}: damaged or incomplete ({error!r}); import or copy the bundle again") from error
    if bundle.card.kind not in set(kinds):
        raise BundleError(f"{folder}: this is a {bundle.card.kind} bundle; wanted: {', '.join(kinds)}")
    for name, _ in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"{manifest}: file name {name!r} leaves the bundle's folder")
    return bundle


def verify_bundle(bundle: Bundle) -> None:
    """Compare every file with its sha256. Raises BundleError naming each file that is missing or differs."""
    faults = []
    for name, wanted in bundle.files:
        path = bundle.folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif _sha256(path) != wanted:
            faults.append(f"{name} differs from its sha256")
    if faults:
        raise BundleError(f"{bundle.folder}: {'; '.join(faults)}; import or copy the bundle again")


def write_manifest(folder: Path, card: BundleCard) -> Bundle:
    """Write ``bundle.json`` over all files now in ``folder`` and return the bundle."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {name: _sha256(folder / name) for name in names}
    text = json.dumps({"form": FORM, "card": asdict(card), "files": files}, indent=2, ensure_ascii=False)
    part = folder / (MANIFEST + ".part")
    part.write_text(text + "\n", "utf-8")
    part.replace(folder / MANIFEST)
    return Bundle(folder, replace(card), tuple(sorted(files.items())))


def check_mode(bundle: Bundle, mode: UseMode, acknowledgement: str) -> None:
    """Raise LicenceError where the bundle's card does not allow ``mode`` and no permission is recorded."""
    if mode in bundle.card.allowed_modes or acknowledgement.strip():
        return
    allowed = ", ".join(bundle.card.allowed_modes) or "none"
    raise LicenceError(
        f"{bundle.card.name}: licence {bundle.card.licence!r} allows the use modes {allowed}, not {mode.value}. "
        f'If you hold a permission, record it under `acknowledgements: {{{bundle.card.name}: "who, when, what"}}`; '
        "it is written into every result."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
