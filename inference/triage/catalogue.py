"""The catalogue of findings: what triage asks of a study, in which words, and of which images at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from inference.reading import Catalogue, Code, Frame, Urgency
from inference.triage.aggregation import Aggregation
from inference.triage.catalogue_file import read_catalogue_file
from inference.triage.catalogue_form import (
    ANY,
    AggregationFile,
    CatalogueFile,
    CodeFile,
    EntryFile,
    EntryScopeFile,
    ModelScopeFile,
)


@dataclass(frozen=True, slots=True)
class Band:
    """Probabilities in [``low``, ``high``) are not assessable: too near the threshold to say either."""

    low: float
    high: float

    def holds(self, probability: float) -> bool:
        return self.low <= probability < self.high


@dataclass(frozen=True, slots=True)
class EntryScope:
    """Of which images one finding is asked; an empty tuple leaves that term to the catalogue's scope."""

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()

    def refuse(self, frame: Frame) -> str:
        """The plain reason why the finding is not asked of ``frame``, or nothing where it is."""
        stated = (
            ("modality", frame.modality, self.modalities),
            ("body part", frame.body_part, self.body_parts),
            ("view", frame.view, self.views),
        )
        for name, value, covered in stated:
            if covered and value and not any(word in covered for word in value.split()):
                return f"{name} {value} is not one of which this finding is asked ({', '.join(covered)})"
        return ""


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
    also: tuple[Code, ...] = ()
    band: Band | None = None
    aggregation: Aggregation = field(default_factory=Aggregation)
    scope: EntryScope = field(default_factory=EntryScope)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of image that may arrive. ``display`` with its article; ``prompts`` are not yet in their templates."""

    key: str
    display: str
    accept: bool
    zero_shot: bool
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KindsScope:
    """How the model judges whether a picture is what its tags say; the shares are probabilities, 0..1.

    ``by_series``: all slices of a series are judged together.
    """

    by_series: bool
    refuse_stated: float
    refuse_unstated: float
    templates: tuple[str, ...]
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which frames a catalogue may be asked of; terms are DICOM defined terms in upper case, an empty tuple is any.

    ``accept_unstated``: a frame of a listed modality that names no body part or view is judged all the same.
    ``measured_chest``: frontal chest films shown as a negative or upside down are measured and refused.
    """

    catalogue: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    views: tuple[str, ...]
    accept_unstated: bool
    measured_chest: bool = False
    kinds: KindsScope | None = None

    def refuse(self, frame: Frame) -> str:
        """The plain reason why the tags of ``frame`` are not covered, or nothing where they are."""
        if frame.modality not in self.modalities:
            return self._reason("modality", frame.modality, self.modalities)
        either = (*self.body_parts, *self.views)  # "CHEST PA" is seen in the wild
        if not self._covers(frame.body_part, self.body_parts, either):
            return self._reason("body part", frame.body_part, self.body_parts)
        if not self._covers(frame.view, self.views, self.views):
            return self._reason("view", frame.view, self.views)
        return ""

    def stated(self, frame: Frame) -> bool:
        """Whether the tags say of ``frame`` all that this scope asks for."""
        return bool((frame.body_part or not self.body_parts) and (frame.view or not self.views))

    def _covers(self, value: str, covered: tuple[str, ...], terms: tuple[str, ...]) -> bool:
        if not covered:
            return True
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

    @property
    def all_texts(self) -> tuple[str, ...]:
        """Every text that a model is asked of with this catalogue: of the findings and of the kinds of image."""
        kinds = self.scope.kinds
        of_kinds = [in_templates(kinds.templates, kind.prompts) for kind in kinds.kinds] if kinds else []
        of_findings = [self.texts(entry.positive + entry.negative) for entry in self.findings]
        return tuple(dict.fromkeys(text for texts in (*of_findings, *of_kinds) for text in texts))

    def texts(self, prompts: tuple[str, ...]) -> tuple[str, ...]:
        """Every prompt in every template."""
        return in_templates(self.templates, prompts)


def in_templates(templates: tuple[str, ...], prompts: tuple[str, ...]) -> tuple[str, ...]:
    """Every prompt in every template."""
    return tuple(template.format(prompt) for template in templates for prompt in prompts)


def load_catalogue(path: Path) -> FindingsCatalogue:
    """Read and check a catalogue. Raises CatalogueError naming the file, the line, the entry, the key and what is allowed."""
    file = read_catalogue_file(path)
    entries = tuple(_entry(entry, file.aggregation) for entry in file.findings)
    return FindingsCatalogue(file.name, file.version, _scope(file), file.templates, entries)


def _scope(file: CatalogueFile) -> Scope:
    scope = file.scope
    return Scope(
        catalogue=file.name,
        modalities=scope.modalities,
        body_parts=_terms(scope.body_parts),
        views=_terms(scope.views),
        accept_unstated=scope.accept_unstated,
        measured_chest=scope.measured == "chest",
        kinds=_kinds(scope.model) if scope.model else None,
    )


def _terms(terms: tuple[str, ...]) -> tuple[str, ...]:
    return () if ANY in terms else terms


def _kinds(model: ModelScopeFile) -> KindsScope:
    kinds = tuple(Kind(kind.key, kind.display, kind.accept, kind.zero_shot, kind.prompts) for kind in model.kinds)
    return KindsScope(model.per == "series", model.refuse_stated, model.refuse_unstated, model.templates, kinds)


def _entry(entry: EntryFile, aggregation: AggregationFile) -> CatalogueEntry:
    how = entry.aggregation or aggregation
    return CatalogueEntry(
        key=entry.key,
        display=entry.display,
        code=_code(entry.code),
        site=_code(entry.site) if entry.site else None,
        urgency=entry.urgency,
        threshold=entry.threshold,
        positive=entry.positive,
        negative=entry.negative,
        also=tuple(_code(code) for code in entry.also),
        band=Band(*entry.abstain) if entry.abstain else None,
        aggregation=Aggregation(how.rule, how.k),
        scope=_entry_scope(entry.scope) if entry.scope else EntryScope(),
    )


def _entry_scope(scope: EntryScopeFile) -> EntryScope:
    return EntryScope(scope.modalities or (), scope.body_parts or (), scope.views or ())


def _code(code: CodeFile) -> Code:
    return Code(code.value, code.scheme, code.meaning)
