"""The file of frame rules: what ships is what the code takes, and a mistake is answered with file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.pixels.rules import DEFAULT_RULES, NamedWindow, Rule, Take
from dicom_node.pixels.rules_file import load_rules
from dicom_node.settings import defaults_folder


def test_the_documented_file_is_the_defaults() -> None:
    assert load_rules(defaults_folder() / "frames.yaml") == DEFAULT_RULES


def test_the_example_in_the_comments_is_valid(tmp_path: Path) -> None:
    lines = (defaults_folder() / "frames.yaml").read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("#   - {modality"))
    example = "\n".join(line.removeprefix("# ") for line in lines[start : start + 2])
    rules = load_rules(write(tmp_path, f"rules:\n{example}\n  - {{take: images}}"))
    assert rules.of("CT").windows[0] == NamedWindow("lung", -600, 1500)
    assert len(rules.of("CT").windows) == 3


def test_windows_may_be_mixed_with_the_files_own(tmp_path: Path) -> None:
    text = (
        "rules: [{modality: CT, take: slices, most: 4, windows: [file, {name: bone, center: 400, width: 1800}]}, {take: clips}]"
    )
    rules = load_rules(write(tmp_path, text))
    assert rules.of("CT") == Rule(Take.SLICES, 4, (None, NamedWindow("bone", 400, 1800)))
    assert rules.of("anything else") == Rule(Take.CLIPS)
    assert rules.most_frames == 64


def write(folder: Path, text: str) -> Path:
    file = folder / "frames.yaml"
    file.write_text(text, encoding="utf-8")
    return file


MISTAKES = {
    "no file": (None, "cannot be read"),
    "no yaml": ("rules: [", "not valid YAML"),
    "no rules": ("{}", "key 'rules': Field required"),
    "an unknown way": ("rules: [{take: all}]", "'images', 'views', 'slices' or 'clips'"),
    "an unknown key": ("rules: [{take: images, frames: 3}]", "key 'rules.0.frames'"),
    "a modality in lower case": ("rules: [{modality: ct, take: images}, {take: images}]", "key 'rules.0.modality.0'"),
    "no rule for the others": ("rules: [{modality: CT, take: slices}]", "the last rule must have no `modality`"),
    "two for the others": ("rules: [{take: images}, {take: clips}]", "rule 1 lacks `modality`"),
    "two of one modality": (
        "rules: [{modality: CT, take: images}, {modality: CT, take: clips}, {take: clips}]",
        "CT has a rule",
    ),
    "a window without width": (
        "rules: [{take: images, windows: [{name: x, center: 1, width: 0}]}]",
        "greater than or equal to 1",
    ),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_answered(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "frames.yaml" if text is None else write(tmp_path, text)
    with pytest.raises(SettingsError) as answered:
        load_rules(file)
    assert str(file) in str(answered.value)
    assert said in str(answered.value)
