"""The catalogue file's form: YAML, checked key by key, with each fault told in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.errors import CatalogueError
from inference.reading import Urgency

# Check digit of a SNOMED CT identifier: Verhoeff's dihedral code (SNOMED CT Release File Specification, 5.1)
_TIMES: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_TURN: Final = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")


def valid_sctid(value: str) -> bool:
    """Whether ``value`` is a SNOMED CT concept identifier by length, partition and check digit."""
    if not (value.isascii() and value.isdigit() and 6 <= len(value) <= 18 and value[-3:-1] in ("00", "10")):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = int(_TIMES[check][int(_TURN[place % 8][int(digit)])])
    return check == 0


def _one_hole(template: str) -> str:
    if template.count("{}") != 1 or "{" in template.replace("{}", "") or "}" in template.replace("{}", ""):
        raise ValueError("a template holds {} exactly once and no other brace")
    return template


def _no_brace(prompt: str) -> str:
    if "{" in prompt or "}" in prompt:
        raise ValueError("a prompt holds no brace: it is put into the templates")
    return prompt


Term = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]  # a DICOM code string
Text = Annotated[str, Field(min_length=1, max_length=300, pattern=r"\S")]
Prompts = Annotated[tuple[Annotated[Text, AfterValidator(_no_brace)], ...], Field(min_length=1)]
Terms = Annotated[tuple[Term, ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeFile(_Part):
    value: Annotated[str, Field(pattern=r"^\S{1,16}$")]  # PS3.5 6.2: SH, 16 characters
    scheme: Literal["SCT", "RADLEX", "DCM"]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]  # PS3.5 6.2: LO, 64 characters

    @model_validator(mode="after")
    def _check_digit(self) -> CodeFile:
        if self.scheme == "SCT" and not valid_sctid(self.value):
            raise ValueError(f"{self.value} is no SNOMED CT identifier (its check digit is wrong)")
        return self


class EntryFile(_Part):
    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    display: Annotated[str, Field(min_length=1, max_length=64)]
    code: CodeFile
    site: CodeFile | None = None
    urgency: Urgency
    threshold: Annotated[float, Field(gt=0, lt=1)]
    positive: Prompts
    negative: Prompts

    @model_validator(mode="after")
    def _distinct(self) -> EntryFile:
        if both := sorted(set(self.positive) & set(self.negative)):
            raise ValueError(f"the prompt {both[0]!r} is both positive and negative")
        return self


class ScopeFile(_Part):
    modalities: Terms
    body_parts: Terms
    views: Terms
    accept_unstated: bool = True


class CatalogueFile(_Part):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    scope: ScopeFile
    templates: Annotated[tuple[Annotated[Text, AfterValidator(_one_hole)], ...], Field(min_length=1)] = ("{}",)
    findings: Annotated[tuple[EntryFile, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> CatalogueFile:
        for key, count in Counter(entry.key for entry in self.findings).items():
            if count > 1:
                raise ValueError(f"the finding {key!r} is listed {count} times; a key is used once")
        return self


def read_catalogue_file(path: Path) -> CatalogueFile:
    """Parse and check. Raises CatalogueError."""
    try:
        data = yaml.load(path.read_text("utf-8"), _Unique)
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise CatalogueError(f"{path}: a catalogue is a mapping with the keys {_keys(CatalogueFile)}")
    try:
        return CatalogueFile.model_validate(data)
    except ValidationError as error:
        faults = [_fault(data, dict(fault)) for fault in error.errors(include_url=False)]
        raise CatalogueError(f"{path}: {'; '.join(faults)}") from error


class _Unique(yaml.SafeLoader):
    """Safe YAML in which a key written twice is a fault, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        written = Counter(str(key.value) for key, _ in node.value)
        if twice := [key for key, count in written.items() if count > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _fault(data: dict[str, Any], fault: dict[str, Any]) -> str:
    """One fault as: where it is, what is wrong, what is allowed."""
    where = _where(data, fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; allowed: {_keys(_model_at(fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{where}: this key is missing"
    words = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    given = fault["input"]
    return f"{where}: {words}" + (f" (it is {given!r})" if isinstance(given, str | int | float) else "")


def _where(data: dict[str, Any], loc: Iterable[str | int]) -> str:
    parts = list(loc)
    if len(parts) < 2 or parts[0] != "findings" or not isinstance(parts[1], int):
        return ".".join(str(part) for part in parts) or "the catalogue"
    entry = data["findings"][parts[1]]
    key = entry.get("key", "") if isinstance(entry, dict) else ""
    named = f"finding {parts[1] + 1}" + (f" ({key})" if key else "")
    return ": ".join([named, ".".join(str(part) for part in parts[2:])]).removesuffix(": ")


def _model_at(loc: tuple[str | int, ...]) -> type[_Part]:
    named = [part for part in loc if isinstance(part, str)]
    last = named[-1] if named else ""
    models: dict[str, type[_Part]] = {"code": CodeFile, "site": CodeFile, "findings": EntryFile, "scope": ScopeFile}
    return models.get(last, CatalogueFile)


def _keys(model: type[_Part]) -> str:
    return ", ".join(model.model_fields)
