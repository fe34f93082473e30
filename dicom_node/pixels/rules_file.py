"""The rules of which frames are read, from a file such as config/frames.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dicom_node.errors import SettingsError
from dicom_node.pixels.rules import FrameRules, NamedWindow, Rule, Take

_Modality = Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Window(_Frozen):
    name: str = Field(min_length=1, max_length=32)
    center: float
    width: float = Field(ge=1)


class _Rule(_Frozen):
    modality: tuple[_Modality, ...] = ()
    take: Take
    most: int = Field(1, ge=1, le=1024)
    windows: tuple[Literal["file"] | _Window, ...] = Field(("file",), min_length=1)
    only_regions: bool = False

    @field_validator("modality", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def rule(self) -> Rule:
        windows = tuple(None if one == "file" else NamedWindow(one.name, one.center, one.width) for one in self.windows)
        return Rule(self.take, self.most, windows, self.only_regions)


class _File(_Frozen):
    most_frames: int = Field(64, ge=1, le=4096)
    rules: tuple[_Rule, ...] = Field(min_length=1)


def load_rules(file: Path) -> FrameRules:
    """Raises SettingsError naming the file, the rule and what is allowed."""
    try:
        content = _File.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        faults = (f"{file}: key '{'.'.join(str(part) for part in fault['loc'])}': {fault['msg']}" for fault in error.errors())
        raise SettingsError("\n".join(faults)) from error
    return _rules(file, content)


def _rules(file: Path, content: _File) -> FrameRules:
    *named, last = content.rules
    if last.modality:
        raise SettingsError(f"{file}: the last rule must have no `modality`: it takes every other image")
    by_modality: dict[str, Rule] = {}
    for number, one in enumerate(named, start=1):
        if not one.modality:
            raise SettingsError(f"{file}: rule {number} lacks `modality`; only the last rule takes every other image")
        for modality in one.modality:
            if modality in by_modality:
                raise SettingsError(f"{file}: rule {number}: modality {modality} has a rule already")
            by_modality[modality] = one.rule()
    return FrameRules(by_modality, last.rule(), content.most_frames)
