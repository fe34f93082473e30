"""The documents are about this program: links, commands, settings, metrics, events and revisions that they name exist."""

from __future__ import annotations

import json
import re
import shlex
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from dicom_node import measures
from dicom_node.ingest import receive
from dicom_node.remote.fhir import CONTENT_FAULTS
from dicom_node.settings import Settings
from dicom_node.storage.events import EventKind
from dicom_node.storage.migrations import HEAD
from reporting.context import DocumentKind
from tests.deploy.tools import must_parse
from tests.reporting import samples

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy" / "README.md"])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in PAGES}
VALUES = yaml.safe_load((ROOT / "deploy" / "helm" / "wetread" / "values.yaml").read_text("utf-8"))
_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_PROGRAM = re.compile(r"(?:^|\s)(?:\S*/bin/)?wetread ((?:[a-z].*)?)$|docker compose run --rm web (.*)$")
_PLACES = {"STUDY…": "STUDY", "FILE…": "FILE", "N": "1", "FOLDER": "FOLDER", "…": "X"}


def names(pages: dict[str, str]) -> list[str]:
    return list(pages)


def inline(text: str) -> Iterator[str]:
    yield from _INLINE.findall(_FENCED.sub("", text))


def commands(text: str) -> Iterator[str]:
    """What is said to the program in shell blocks and in code within sentences, without `wetread` itself."""
    lines = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    for line in [*lines, *inline(text)]:
        plain = line.partition(" #")[0].partition(" >")[0].strip()
        found = _PROGRAM.search(plain)
        if found and "|" not in plain and "…" not in plain.replace("STUDY…", "").replace("FILE…", ""):
            said = (found[1] or found[2] or "").strip()
            if said and (found[2] or plain.startswith("wetread ") or "bin/wetread " in plain):
                yield said


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]) if "://" not in target]
    assert [target for target in targets if not (folder / target.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", TEXTS)
def test_commands_are_commands_of_the_program(page: str) -> None:
    for said in commands(TEXTS[page]):
        words = [_PLACES.get(word, word) for word in shlex.split(re.sub(r"\[[^]]*\]", "", said))]
        if words[-1] != "--help":
            parse(words)


def parse(words: list[str]) -> None:
    """A name of a command may stand alone in a sentence, without the arguments that it needs."""
    try:
        must_parse(words)
    except Exception as error:
        missing = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError") or "Missing" in str(error)
        if not missing or any(word.startswith("-") for word in words):
            raise AssertionError(f"wetread {' '.join(words)}: {error}") from error


def test_commands_are_found_in_the_pages() -> None:
    assert len(list(commands(TEXTS["docs/operating.md"]))) > 15
    assert "jobs retry 17 --config node.yaml" in set(commands(TEXTS["docs/operating.md"]))


def test_a_command_that_is_none_would_be_found() -> None:
    with pytest.raises(AssertionError):
        parse(["jobs", "resend"])


@pytest.mark.parametrize("page", TEXTS)
def test_settings_are_settings(page: str) -> None:
    named = {token.partition(":")[0] for token in inline(TEXTS[page]) if re.fullmatch(r"[a-z_]+(\.[a-z_*]+)+(:.*)?", token)}
    ours = {one for one in named if one.split(".")[0] in Settings.model_fields and not one.endswith((".py", ".yaml", ".md"))}
    strange = {one for one in ours if not exists(Settings, one.split("."))}
    assert sorted(one for one in strange if page != "deploy/README.md" or not stands(VALUES, one.split("."))) == []


def stands(tree: Any, keys: list[str]) -> bool:
    return not keys or (isinstance(tree, dict) and keys[0] in tree and stands(tree[keys[0]], keys[1:]))


def test_a_setting_that_is_none_would_be_found() -> None:
    assert exists(Settings, ["listener", "port"])
    assert exists(Settings, ["destinations", "*", "timeout_s"])
    assert not exists(Settings, ["listener", "prot"])


def exists(model: Any, keys: list[str]) -> bool:
    if not keys:
        return True
    return any(exists(below, keys[1:]) for below in steps(model, keys[0]))


def steps(model: Any, key: str) -> Iterator[Any]:
    """The types that a key of ``model`` may have."""
    for one in models(model):
        if key in one.model_fields:
            yield one.model_fields[key].annotation
    if not isinstance(model, type):
        arguments = [part for part in get_args(model) if part is not types.NoneType and part is not Ellipsis]
        if key == "*" and len(arguments) == 2:
            yield arguments[1]


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        yield from models(part)


def test_metrics_are_metrics() -> None:
    known = {one.name for one in measures.declared()}
    known |= set(re.findall(r'"(wetread_[a-z_]+)"', (ROOT / "dicom_node" / "web" / "metrics.py").read_text("utf-8")))
    for page, text in TEXTS.items():
        found = {token.partition("{")[0] for token in inline(text) if token.startswith("wetread_")}
        assert found <= known, page
    assert {"wetread_processes_ready", "wetread_jobs_oldest_seconds"} <= known


def test_every_kind_of_event_has_its_advice() -> None:
    section = TEXTS["docs/operating.md"].partition("each kind of event")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z ]+)` \|", section, re.MULTILINE)) == {kind.value for kind in EventKind}


def test_every_alarm_has_its_advice() -> None:
    section = TEXTS["docs/operating.md"].partition("What to do for each alarm")[2].partition("\n### ")[0]
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))
    alarms = [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert re.findall(r"^\| `(WetRead\w+)` \|", section, re.MULTILINE) == alarms


def test_the_resources_that_a_study_becomes_are_those_of_its_bundle() -> None:
    wished = replace(samples.OPTIONS, kinds=frozenset({DocumentKind.FHIR_BUNDLE}), dicomweb_url="https://pacs.example.org/web")
    document = samples.by_kind(samples.reading(), samples.context(), wished)[DocumentKind.FHIR_BUNDLE]
    made = {entry["resource"]["resourceType"] for entry in json.loads(document.content)["entry"]}
    section = TEXTS["docs/fhir.md"].partition("## What one study becomes")[2].partition("\n## ")[0]
    told = {name for cell in re.findall(r"^\| ([A-Z][A-Za-z, ]+) \|", section, re.MULTILINE) for name in cell.split(", ")}
    assert told - {"Resource"} == made


def test_every_revision_of_the_database_is_told() -> None:
    told = re.findall(r"^\| (\d{4}) \|", TEXTS["docs/upgrading.md"], re.MULTILINE)
    files = (ROOT / "dicom_node" / "storage" / "migrations" / "versions").glob("r*.py")
    assert told == sorted(file.name[1:5] for file in files)
    assert told[-1] == HEAD


def test_what_a_fhir_server_refuses_for_good_is_told() -> None:
    (line,) = re.findall(r"^\| ([\d, ]+) \| dead letter", TEXTS["docs/fhir.md"], re.MULTILINE)
    assert {int(status) for status in line.split(",")} == CONTENT_FAULTS


@pytest.mark.parametrize("page", TEXTS)
def test_variables_are_variables(page: str) -> None:
    sources = [*(ROOT / "dicom_node").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    for name in set(re.findall(r"\bWETREAD_[A-Z_]+\b", TEXTS[page])):
        keys = name.removeprefix("WETREAD_").lower().split("__")
        assert exists(Settings, keys) or any(name in source.read_text("utf-8") for source in sources), name


def test_no_page_names_an_address_to_download_from() -> None:
    """The node's users have mirrors of their own; images and packages are named without hosts."""
    pattern = re.compile(r"\b(docker\.io|ghcr\.io|quay\.io|pypi\.org|pythonhosted|registry\.[a-z]+|download\.pytorch)\b")
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and "secrets" not in path.parts]
    texts = {**TEXTS, **{str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files}}
    assert {name: found for name, text in texts.items() if (found := pattern.findall(text))} == {}


def test_every_status_of_a_store_is_told() -> None:
    section = TEXTS["docs/operating.md"].partition("## What a sender is told")[2].partition("\n## ")[0]
    told = {int(code, 16) for code in re.findall(r"0x([0-9A-F]{4})", section)}
    known = {value for name, value in vars(receive).items() if name.isupper() and name[0] != "_" and isinstance(value, int)}
    assert {0x0000, 0xA700, 0xC001} <= known
    assert known | set(receive.CONFLICTS.values()) <= told
