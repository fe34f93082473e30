"""The catalogue of findings: what triage asks of a film, in which words, and of which films at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from inference.reading import Catalogue, Code, Frame, Urgency
from inference.triage.catalogue_file import CatalogueFile, read_catalogue_file


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One finding to look for. ``threshold`` is a probability, 0..1; the prompts are not yet in their templates."""

    key: str
    display: str
    code: Code
    site: Code | None
    urgency: Urgency
    threshold: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which frames a catalogue may be asked of; terms are DICOM defined terms in upper case.

    ``accept_unstated``: a frame of a listed modality that names no body part or view is judged all the same.
    """

    catalogue: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    views: tuple[str, ...]
    accept_unstated: bool

    def refuse(self, frame: Frame) -> str:
        """The plain reason why ``frame`` is not covered, or nothing where it is."""
        if frame.modality not in self.modalities:
            return self._reason("modality", frame.modality, self.modalities)
        if not self._covers(frame.body_part, (*self.body_parts, *self.views)):  # "CHEST PA" is seen in the wild
            return self._reason("body part", frame.body_part, self.body_parts)
        if not self._covers(frame.view, self.views):
            return self._reason("view", frame.view, self.views)
        return ""

    def _covers(self, value: str, terms: tuple[str, ...]) -> bool:
        words = value.split()
        return all(word in terms for word in words) if words else self.accept_unstated

    def _reason(self, name: str, value: str, covered: tuple[str, ...]) -> str:
        stated = f"{name} {value}" if value else f"an image that states no {name}"
        return f"{stated} is not covered by the catalogue '{self.catalogue}' (covers {', '.join(covered)})"


@dataclass(frozen=True, slots=True)
class FindingsCatalogue:
    """A catalogue as triage uses it. ``templates`` each hold one ``{}`` for a prompt."""

    name: str
    version: str
    scope: Scope
    templates: tuple[str, ...]
    findings: tuple[CatalogueEntry, ...]

    @property
    def digest(self) -> str:
        """sha256 over the meaning of the file: comments and layout do not change it, anything a result rests on does."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @property
    def identity(self) -> Catalogue:
        return Catalogue(self.name, self.version, self.digest)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(entry.key for entry in self.findings)

    def texts(self, prompts: tuple[str, ...]) -> tuple[str, ...]:
        """Every prompt in every template."""
        return tuple(template.format(prompt) for template in self.templates for prompt in prompts)


def load_catalogue(path: Path) -> FindingsCatalogue:
    """Read and check a catalogue. Raises CatalogueError naming the file, the entry, the key and what is allowed."""
    file = read_catalogue_file(path)
    return FindingsCatalogue(file.name, file.version, _scope(file), file.templates, tuple(_entries(file)))


def _scope(file: CatalogueFile) -> Scope:
    scope = file.scope
    return Scope(file.name, scope.modalities, scope.body_parts, scope.views, scope.accept_unstated)


def _entries(file: CatalogueFile) -> list[CatalogueEntry]:
    return [
        CatalogueEntry(
            key=entry.key,
            display=entry.display,
            code=Code(entry.code.value, entry.code.scheme, entry.code.meaning),
            site=Code(entry.site.value, entry.site.scheme, entry.site.meaning) if entry.site else None,
            urgency=entry.urgency,
            threshold=entry.threshold,
            positive=entry.positive,
            negative=entry.negative,
        )
        for entry in file.findings
    ]
