"""The tables of each language: nothing missing, nothing of another form, nothing that no document says any more."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from string import Formatter

import numpy as np
import pytest

from dicom_node.worker import requests
from inference.reading import Code, Frame, FrameSource, Urgency
from inference.triage import aggregation, judge
from inference.triage.catalogue import Band, FindingsCatalogue, load_catalogue
from reporting import codes, wording
from reporting.wording import PHRASES, Phrases, fill
from reporting.wording.tables import read_tables

ROOT = Path(__file__).parents[2]
CATALOGUES = [load_catalogue(path) for path in sorted((ROOT / "config" / "findings").glob("*.yaml"))]
OTHERS = [language for language in wording.LANGUAGES if language != "en"]
NAMES = [one.name for one in fields(Phrases)]
# What is the same in every language: numbers and forms, without a word of their own
SAME = {"decimal", "catalogue", "head", "marked_finding", "named_finding", "aggregation", "draft_language", "note", "routine"}
SAME |= {"label_revision", "label_patient", "label_study"}
SERIES = ("findings_series", "draft_series", "heat_map_series", "outlines_series", "signed_series")


def placeholders(phrase: str) -> set[str]:
    """``{Reason}`` is ``{reason}`` with a capital."""
    return {name.lower() for _, name, _, _ in Formatter().parse(phrase) if name}


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_phrase_has_its_own_words_and_the_placeholders_of_the_english(name: str, language: str) -> None:
    english, other = getattr(PHRASES["en"], name), getattr(PHRASES[language], name)
    assert other
    assert placeholders(other) == placeholders(english)
    assert other != english or name in SAME
    other.encode("iso-8859-1")  # what HL7 destinations without UTF-8 take
    assert other == other.strip() or name == "either"


@pytest.mark.parametrize("language", wording.LANGUAGES)
def test_series_descriptions_fit_their_attribute(language: str) -> None:
    said = PHRASES[language]
    titles = [getattr(said, name) for name in SERIES]
    assert len(set(titles)) == len(SERIES)
    assert len(said.burned_in) <= 64  # Content Description, LO
    marked = [fill(said.phantom_series, title=title) for title in titles if title != said.signed_series]
    assert max(map(len, (*titles, *marked))) <= 64  # LO


def key(code: Code) -> str:
    return f"{code.scheme} {code.value} {code.meaning}".lower()


def known_codes() -> dict[str, Code]:
    found = list(codes.all_codes())
    for catalogue in CATALOGUES:
        for entry in catalogue.findings:
            found += [entry.code, *entry.also, *([entry.site] if entry.site else [])]
    return {key(code): code for code in found}


@pytest.mark.parametrize("language", OTHERS)
def test_every_concept_has_a_name(language: str) -> None:
    """Those of the table of codes, and the findings and sites of the shipped catalogues."""
    names = read_tables(language).names
    missing = [name for name in known_codes() if name not in names]
    assert missing == [], f"add them to reporting/wording/{language}.toml"


@pytest.mark.parametrize("language", OTHERS)
def test_no_name_is_stale_or_too_long(language: str) -> None:
    names = read_tables(language).names
    assert set(names) - set(known_codes()) <= {"dcm 110180 study instance uid", "sct 39607008 lung structure"}
    assert all(0 < len(name) <= 64 for name in names.values())  # Code Meaning is LO
    assert set(names) == set(read_tables("de").names)


@pytest.mark.parametrize("language", OTHERS)
def test_reasons_have_equal_patterns_and_placeholders(language: str) -> None:
    reasons = read_tables(language).reasons
    assert set(reasons) == set(read_tables("de").reasons)
    assert [english for english, other in reasons.items() if placeholders(other) != placeholders(english)] == []


@pytest.mark.parametrize("language", OTHERS)
def test_the_tables_fit_into_latin_1(language: str) -> None:
    """For HL7 destinations without UTF-8."""
    tables = read_tables(language)
    assert "".join((*tables.names.values(), *tables.reasons.values())).encode("iso-8859-1")


def test_a_site_keeps_its_own_wording() -> None:
    words = wording.of("de")
    assert words.name(Code("36118008", "SCT", "Pneumothorax")) == "Pneumothorax"
    assert words.name(Code("60046008", "SCT", "pleural EFFUSION")) == "Pleuraerguss"
    assert words.name(Code("60046008", "SCT", "Erguss im Pleuraspalt")) == "Erguss im Pleuraspalt"
    assert words.code(Code("60046008", "SCT", "Pleural effusion")) == Code("60046008", "SCT", "Pleuraerguss")


def constants(file: str) -> dict[str, str]:
    """The sentences that a module of the models gives names to, read without loading torch."""
    found = ast.parse((ROOT / "inference" / file).read_text("utf-8")).body
    named = [node for node in found if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)]
    return {ast.unparse(node.target): str(ast.literal_eval(node.value)) for node in named if node.value}


def sentences_of(source: Path) -> list[str]:
    """What a module of the node says of an instance ("it has …", "its …") or raises of one, a 7 in the place of each value."""
    tree = ast.parse(source.read_text("utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = [_text(node) for node in ast.walk(tree) if id(node) not in inner]
    raised = [_text(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) == "PixelError"]
    return [*(text for text in texts if re.match(r"its? \w+ ", text)), *(text for text in raised if text)]


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) and call.args else ""


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)


PIXELS = [text for path in sorted((ROOT / "dicom_node" / "pixels").glob("*.py")) for text in sentences_of(path)]
SENTENCES, STUDIES = constants("drafting/sentences.py"), constants("drafting/studies.py")
REPEATED, NO_TEXT = SENTENCES["REPEATED"], SENTENCES["NO_TEXT"]
UNIFORM, BY_RULES = constants("drafting/runtime.py")["UNIFORM"], constants("consistency.py")["BY_RULES"]
METHOD = constants("triage/heatmaps.py")["METHOD"]


def frame(modality: str, body_part: str = "", view: str = "") -> Frame:
    return Frame(np.zeros((8, 8), np.uint8), FrameSource("1.2", "1.3", "1.4"), modality, body_part, view)


def scope_refusals() -> list[str]:
    frames = (frame("OT"), frame("CR", "SKULL"), frame("CR", "CHEST", "LL"), frame(""))
    return [said for catalogue in CATALOGUES for one in frames if (said := catalogue.scope.refuse(one))]


def entry_refusals(catalogue: FindingsCatalogue) -> list[str]:
    frames = (frame("OT"), frame("CR", "SKULL"), frame("CR", "CHEST", "QQ"))
    return [said for entry in catalogue.findings for one in frames if (said := entry.scope.refuse(one))]


def how_aggregated() -> list[str]:
    cases = ((1, 1, 1), (1, 3, 1), (2, 5, 1), (5, 5, 1), (2, 5, 3))
    return [aggregation._words(*case, rule) for case in cases for rule in aggregation.Rule]


KINDS = [kind.display for catalogue in CATALOGUES if catalogue.scope.kinds for kind in catalogue.scope.kinds.kinds]
SAID = {
    "pixels": PIXELS,
    "scope": scope_refusals(),
    "scope of a finding": [said for catalogue in CATALOGUES for said in entry_refusals(catalogue)],
    "kinds": KINDS,
    "looks": [f"the picture looks like {one} (probability 0.91), not like {two} or {one}" for one, two in pairwise(KINDS)],
    "tags": ["its tags say CR CHEST and name no view", "its tags say CR and name no body part and no view", "its tags say CR"],
    "judged": [judge.NOT_TRAINED, judge._too_near(0.52, Band(0.4, 0.6)), "the triage model gave no number for this finding"],
    "aggregation": how_aggregated(),
    "drafts": [
        *(SENTENCES[name] for name in ("REPEATED", "SAID_TWICE", "UNFINISHED", "CUT_OFF", "NO_TEXT")),
        *(STUDIES["NO_IMAGE"], STUDIES["CUT"], f"no draft: {UNIFORM}", BY_RULES),
        "the draft was written from 2 of 3 images",
        f"natural-language inference by BiomedGPT (from 0.60) and {BY_RULES}",
        "no drafting model is configured for this reading",
    ],
    "heat maps and heads": [METHOD, "calibration", "probe"],
    "removed by retention": [requests._removed(count, 0.0)[0].reason for count in (1, 2)],
    "put together": ["it has no pixel data; it holds raw data, not an image (and 4 other reasons)"],
}  # fmt: skip


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_every_reason_of_the_node_is_translated(said: list[str], language: str) -> None:
    assert said
    words = wording.of(language)
    same = [part for text in said for part in _parts(text) if words.translate(part) == part]
    assert same == [], f"add them to the reasons of reporting/wording/{language}.toml"


def _parts(text: str) -> list[str]:
    """The reasons that were put together; some have a semicolon of their own."""
    return [text] if text in (REPEATED, *PIXELS) else text.split("; ")


TRANSLATED = {
    "whole": ("it has no pixel data", "sie hat keine Pixeldaten"),
    "with a full stop": ("it has no pixel data.", "sie hat keine Pixeldaten"),
    "values": ("it has 3 frames, so frame 5 does not exist", "sie hat 3 Bilder, Bild 5 gibt es nicht"),
    "joined": ("it has no pixel data; it is a plan, not an image", "sie hat keine Pixeldaten; sie ist ein Plan, kein Bild"),
    "with a joint of its own": (
        REPEATED,
        "das Modell hat sich wiederholt; sein Text wurde vor der Wiederholung abgeschnitten",
    ),
    "the most particular first": ("its tags say CR and name no view", "seine Metadaten sagen CR und nennen keine Projektion"),
    "a decimal": (
        judge._too_near(0.525, Band(0.4, 0.6)),
        "die Wahrscheinlichkeit 0,525 liegt zwischen 0,400 und 0,600, für eine Aussage zu nahe an der Schwelle",
    ),
    "kinds inside": (
        "the picture looks like a CT slice (probability 0.93), not like a mammogram or a photograph",
        "das Bild sieht aus wie ein CT-Schnittbild (Wahrscheinlichkeit 0,93), nicht wie eine Mammographie oder eine Fotografie",
    ),
    "unknown": ("a reason of tomorrow: 3.5", "a reason of tomorrow: 3.5"),
    "partly unknown": ("it has no pixel data; a reason of tomorrow", "sie hat keine Pixeldaten; a reason of tomorrow"),
    "empty": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize(("english", "german"), TRANSLATED.values(), ids=TRANSLATED)
def test_reasons_by_pattern(english: str, german: str) -> None:
    assert wording.of("de").translate(english) == german
    assert wording.of("en").translate(english) == english


def test_urgencies_and_codes_agree() -> None:
    """What a line says of urgency is what the code beside it is called."""
    for language in wording.LANGUAGES:
        words = wording.of(language)
        said = [(words.urgency(urgency).lower(), words.name(codes.URGENCY_OF[urgency]).lower()) for urgency in Urgency]
        assert all(line == name for line, name in said)
