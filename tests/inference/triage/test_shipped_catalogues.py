"""The catalogues that ship: usable, rightly coded, and described by the schema that ships beside them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import open_clip
import pytest
import yaml
from pydicom.sr._concepts_dict import concepts

from inference.reading import Code, Urgency
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.catalogue_file import catalogue_faults
from inference.triage.catalogue_form import json_schema
from inference.triage.scope import asked_kinds
from inference.triage.sctid import valid_sctid
from inference.triage.trained import Trained

FOLDER = Path(__file__).resolve().parents[3] / "config" / "findings"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
NAMES = ["chest_xray", "ct_chest", "ct_head", "general", "mammography", "musculoskeletal_xray"]

every_catalogue = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def test_all_of_them_ship() -> None:
    assert [path.stem for path in SHIPPED] == NAMES


@every_catalogue
def test_it_can_be_used(path: Path) -> None:
    assert not catalogue_faults(path)
    catalogue = load_catalogue(path)
    assert catalogue.name == path.stem
    assert len(catalogue.findings) >= 6
    assert len({(entry.code, entry.site) for entry in catalogue.findings}) == len(catalogue.findings)
    assert min(len(prompts) for entry in catalogue.findings for prompts in (entry.positive, entry.negative)) >= 2
    assert {entry.urgency for entry in catalogue.findings} & {Urgency.STAT, Urgency.URGENT}


@every_catalogue
def test_a_zero_shot_model_is_asked_for_kinds(path: Path) -> None:
    kinds = asked_kinds(load_catalogue(path).scope.kinds, Trained(None, None))
    assert {"photograph", "text"} <= {kind.key for kind in kinds if not kind.accept}
    assert any(kind.accept for kind in kinds)


@every_catalogue
def test_codes_agree_with_ps3_16_where_it_has_them(path: Path) -> None:
    """Oracle: pydicom's tables of PS3.16; SNOMED CT codes that it lacks at least pass their own check digit."""
    for code in codes(load_catalogue(path)):
        assert code.scheme != "SCT" or valid_sctid(code.value), code
        assert code.scheme != "DCM" or KNOWN["DCM"].get(code.value), code
        assert code.scheme != "RADLEX" or re.fullmatch(r"RID\d+", code.value), code
        meanings = KNOWN[code.scheme].get(code.value)
        assert meanings is None or code.meaning.lower() in meanings, (code, meanings)


def test_most_codes_are_those_of_ps3_16() -> None:
    """So that the test above cannot pass by knowing none."""
    snomed = {code.value for path in SHIPPED for code in codes(load_catalogue(path)) if code.scheme == "SCT"}
    assert len(snomed & set(KNOWN["SCT"])) >= 35


def test_one_code_has_one_meaning_everywhere() -> None:
    meanings: dict[tuple[str, str], set[str]] = defaultdict(set)
    for code in (code for path in SHIPPED for code in codes(load_catalogue(path))):
        meanings[code.scheme, code.value].add(code.meaning)
    assert not {code: said for code, said in meanings.items() if len(said) > 1}


def test_the_schema_is_the_one_the_checks_are_made_of() -> None:
    """Made by `wetread findings schema > config/findings/catalogue.schema.json`."""
    assert json.loads((FOLDER / "catalogue.schema.json").read_text("utf-8")) == json_schema()


@every_catalogue
def test_editors_are_led_to_the_schema(path: Path) -> None:
    assert path.read_text("utf-8").splitlines()[0] == "# yaml-language-server: $schema=catalogue.schema.json"


@every_catalogue
def test_the_schema_knows_every_key(path: Path) -> None:
    """Walked by hand through `$ref`: each key written in a catalogue is a property where it stands."""
    schema = json_schema()
    walk(yaml.safe_load(path.read_text("utf-8")), schema, schema)


def test_every_key_is_explained() -> None:
    """Each property says what it is, here or in what it refers to."""
    schema = json_schema()
    mute = [
        (name, key)
        for name, form in {"CatalogueFile": schema, **schema["$defs"]}.items()
        for key, value in form.get("properties", {}).items()
        if not (value.get("description") or resolved(value, schema).get("description"))
    ]
    assert not mute


@every_catalogue
def test_clip_cuts_no_prompt(path: Path) -> None:
    """CLIP reads 77 tokens, BiomedCLIP 256. Oracle: open_clip's own tokenizer, which ends what it cuts with its last token."""
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    assert max(len(tokenizer.encode(text)) for text in load_catalogue(path).all_texts) + 2 <= 77


def codes(catalogue: FindingsCatalogue) -> list[Code]:
    return [code for entry in catalogue.findings for code in (entry.code, *entry.also, entry.site) if code]


def known() -> dict[str, dict[str, set[str]]]:
    tables: dict[str, dict[str, set[str]]] = {}
    for scheme in ("SCT", "DCM", "RADLEX"):
        table: dict[str, set[str]] = defaultdict(set)
        for value, (meaning, _) in (item for meanings in concepts[scheme].values() for item in meanings.items()):
            table[value].add(meaning.lower().removesuffix(" (disorder)"))
        tables[scheme] = dict(table)
    return tables


KNOWN = known()


def resolved(form: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in form:
        return resolved(schema["$defs"][form["$ref"].rsplit("/", 1)[1]], schema)
    for choice in form.get("anyOf", ()):
        if choice.get("type") != "null" and ("$ref" in choice or "items" in choice):
            return resolved(choice, schema)
    return form


def walk(data: Any, form: dict[str, Any], schema: dict[str, Any]) -> None:
    form = resolved(form, schema)
    if isinstance(data, dict):
        assert set(data) <= set(form["properties"]), form.get("title")
        for key, value in data.items():
            walk(value, form["properties"][key], schema)
    elif isinstance(data, list) and "items" in form:
        for item in data:
            walk(item, form["items"], schema)
