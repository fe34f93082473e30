"""Reads a Containerfile into stages and steps. Only the forms that ours uses; another form raises ValueError."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"


@dataclass(frozen=True, slots=True)
class Step:
    """``word``: RUN, COPY, ENV, … ``text``: what follows it, with its continuation lines, as a shell reads them."""

    word: str
    text: str

    @property
    def exec_form(self) -> list[str]:
        """Of HEALTHCHECK what stands after CMD. Raises ValueError where the step is not in the exec form."""
        found = json.loads(self.text.partition("CMD")[2] if self.word == "HEALTHCHECK" else self.text)
        if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
            raise ValueError(f"{self.word} is not in the exec form: {self.text}")
        return found

    @property
    def pairs(self) -> dict[str, str]:
        """Of ENV and ARG: names and values; an ARG without a value has an empty one."""
        return {name: value for name, _, value in (part.partition("=") for part in shlex.split(self.text)) if name.strip()}


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def of(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]


def read(file: Path = CONTAINERFILE) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first FROM, and the stages."""
    before: dict[str, str] = {}
    stages: list[Stage] = []
    for step in _steps(file.read_text("utf-8")):
        if step.word == "FROM":
            found = re.fullmatch(r"(\S+) AS (\S+)", step.text)
            if found is None:
                raise ValueError(f"FROM without a name: {step.text}")
            stages.append(Stage(found[1], found[2]))
        elif stages:
            stages[-1].steps.append(step)
        else:
            before |= step.pairs
    return before, stages


def _steps(text: str) -> list[Step]:
    logical: list[str] = []
    continued = False
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if continued:
            logical[-1] += "\n" + line
        else:
            logical.append(line)
        continued = line.endswith("\\")
    return [Step(*line.split(maxsplit=1)) for line in logical]
