"""The catalogue file: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import CatalogueError
from inference.phantoms import KEYS
from inference.reading import Frame, FrameSource, Urgency
from inference.triage.aggregation import Aggregation, Rule
from inference.triage.catalogue import Band, EntryScope, FindingsCatalogue, load_catalogue
from inference.triage.catalogue_file import catalogue_faults
from inference.triage.sctid import valid_sctid

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "findings" / "chest_xray.yaml"


@pytest.fixture(scope="module")
def catalogue() -> FindingsCatalogue:
    return load_catalogue(SHIPPED)


@pytest.fixture
def written() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(SHIPPED.read_text("utf-8"))
    return data


def frame(modality: str, body_part: str = "", view: str = "") -> Frame:
    pixels = np.zeros((8, 8), np.uint8)
    return Frame(pixels, FrameSource("1.2.3", "1.2.840.10008.5.1.4.1.1.1.1", "1.2"), modality, body_part, view)


def test_shipped_catalogue_covers_the_phantom_findings_and_more(catalogue: FindingsCatalogue) -> None:
    assert set(KEYS) < set(catalogue.keys)
    assert len(catalogue.findings) >= 10
    assert {entry.key: entry.urgency for entry in catalogue.findings}["pneumothorax"] is Urgency.STAT
    assert len({entry.code for entry in catalogue.findings}) == len(catalogue.findings)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        pytest.param("36118008", True, id="pneumothorax"),
        pytest.param("900000000000207008", True, id="core module, 18 digits"),
        pytest.param("36118009", False, id="wrong check digit"),
        pytest.param("36181008", False, id="two digits swapped"),
        pytest.param("2469514013", False, id="a description's identifier"),
        pytest.param("3611800", False, id="too short"),
        pytest.param("٣٦١١٨٠٠٨", False, id="digits of another script"),
        pytest.param("", False, id="empty"),
    ],
)
def test_sctid(value: str, valid: bool) -> None:
    assert valid_sctid(value) is valid


def test_digest_follows_meaning_not_layout(tmp_path: Path, catalogue: FindingsCatalogue, written: dict[str, Any]) -> None:
    path = tmp_path / "same.yaml"
    path.write_text("# other comment\n" + yaml.safe_dump(written, allow_unicode=True, sort_keys=True), "utf-8")
    assert load_catalogue(path).digest == catalogue.digest
    written["findings"][0]["threshold"] = 0.51
    path.write_text(yaml.safe_dump(written), "utf-8")
    assert load_catalogue(path).digest != catalogue.digest
    assert catalogue.identity.digest == catalogue.digest


def test_texts_put_every_prompt_into_every_template(catalogue: FindingsCatalogue) -> None:
    texts = catalogue.texts(("a", "b"))
    assert texts[:2] == ("this is a chest radiograph showing a", "this is a chest radiograph showing b")
    assert len(texts) == 2 * len(catalogue.templates)


_FAULTS = [
    pytest.param(
        ("findings", 2, "urgency"), "soon", ["finding 3 (pleural_effusion): urgency", "'STAT', 'urgent'", "soon"], id="urgency"
    ),
    pytest.param(
        ("findings", 0, "threshold"), 1.5, ["finding 1 (pneumothorax): threshold", "less than 1", "1.5"], id="threshold"
    ),
    pytest.param(("findings", 0, "threshold"), True, ["finding 1 (pneumothorax): threshold"], id="threshold no number"),
    pytest.param(
        ("findings", 0, "positive"), [], ["finding 1 (pneumothorax): positive", "at least 1"], id="no positive prompt"
    ),
    pytest.param(
        ("findings", 0, "negative"), ["pneumothorax"], ["'pneumothorax' is both positive and negative"], id="same prompt"
    ),
    pytest.param(("findings", 0, "negative"), ["no {x}"], ["negative.0", "no brace"], id="brace in a prompt"),
    pytest.param(("findings", 0, "negativ"), ["no"], ["unknown key", "allowed: key, display, code"], id="misspelt key"),
    pytest.param(("findings", 0, "code"), None, ["finding 1 (pneumothorax): code"], id="no code"),
    pytest.param(("findings", 0, "code", "value"), "36118009", ["36118009 is no SNOMED CT identifier"], id="check digit"),
    pytest.param(("findings", 0, "code", "scheme"), "ICD10", ["code.scheme", "'SCT', 'RADLEX' or 'DCM'"], id="scheme"),
    pytest.param(("findings", 0, "code", "meaning"), "x" * 65, ["code.meaning", "at most 64"], id="meaning too long for LO"),
    pytest.param(("findings", 1, "key"), "pneumothorax", ["'pneumothorax' is listed 2 times"], id="key twice"),
    pytest.param(("findings", 1, "key"), "Air Leak", ["finding 2 (Air Leak): key"], id="key form"),
    pytest.param(("findings",), [], ["findings", "at least 1"], id="no findings"),
    pytest.param(("findings",), ["pneumothorax"], ["finding 1"], id="finding no mapping"),
    pytest.param(("templates",), ["no hole"], ["templates.0", "{} exactly once"], id="template without hole"),
    pytest.param(("templates",), ["{} {0.__class__}"], ["templates.0", "{} exactly once"], id="template with a second field"),
    pytest.param(("scope", "modalities"), [], ["scope.modalities", "at least 1"], id="no modality"),
    pytest.param(("scope", "modalities"), ["dx"], ["scope.modalities.0", "dx"], id="modality in lower case"),
    pytest.param(("scope", "view"), ["PA"], ["scope.view", "unknown key", "views"], id="scope key"),
    pytest.param(
        ("scope", "views"), "any of them", ["scope.views", "should be a list", "any of them"], id="views neither a list nor any"
    ),
    pytest.param(("scope", "views"), ["any", "PA"], ["scope.views", "any stands alone"], id="any and a view"),
    pytest.param(("scope", "views"), ["PA", "PA"], ["scope.views", "'PA' is listed twice"], id="view twice"),
    pytest.param(("scope", "measured"), "hand", ["scope.measured", "'nothing' or 'chest'"], id="measured"),
    pytest.param(("scope", "model", "per"), "study", ["scope.model.per", "'image' or 'series'"], id="per"),
    pytest.param(("scope", "model", "refuse_at"), 1, ["unknown key", "per, refuse_stated, refuse_unstated"], id="model key"),
    pytest.param(
        ("scope", "model", "kinds", 2, "prompts"),
        [],
        ["scope.model: kind 3 (hand): prompts: the list should have at least 1 item"],
        id="kind",
    ),
    pytest.param(("scope", "model", "kinds", 0, "accept"), False, ["at least one with accept: true"], id="nothing accepted"),
    pytest.param(("scope", "model", "kinds", 1, "key"), "hand", ["the kind 'hand' is listed twice"], id="kind twice"),
    pytest.param(
        ("scope", "model", "kinds", 1, "prompts"),
        ["a CT slice"],
        ["'a CT slice' belongs to two kinds"],
        id="prompt of two kinds",
    ),
    pytest.param(("scope", "model", "kinds", 1, "colour"), 1, ["unknown key", "display, accept, zero_shot"], id="kind's key"),
    pytest.param(("aggregation", "rule"), "mean", ["aggregation.rule", "'top-k mean' or 'per series'"], id="rule"),
    pytest.param(("aggregation",), {"rule": "max", "k": 3}, ["aggregation", "k belongs to"], id="k with max"),
    pytest.param(("findings", 0, "aggregation"), {"rule": "per series", "k": 0}, ["aggregation.k", "0"], id="k of zero"),
    pytest.param(("findings", 0, "abstain"), [0.6, 0.7], ["abstain [0.6, 0.7] must hold the threshold 0.5"], id="band apart"),
    pytest.param(("findings", 0, "abstain"), [0.6, 0.4], ["must hold the threshold"], id="band turned round"),
    pytest.param(("findings", 0, "abstain"), [0.4], ["finding 1 (pneumothorax): abstain"], id="half a band"),
    pytest.param(("findings", 0, "scope"), {"view": ["PA"]}, ["unknown key", "modalities, body_parts, views"], id="own scope"),
    pytest.param(
        ("findings", 0, "also"),
        [{"value": "36118008", "scheme": "SCT", "meaning": "again"}],
        ["in other schemes", "SCT is there twice"],
        id="scheme twice",
    ),
    pytest.param(("version",), 1, ["version", "string", "1"], id="version no string"),
    pytest.param(("colour",), "red", ["colour", "unknown key", "aggregation, findings"], id="unknown key at the top"),
]


@pytest.mark.parametrize(("place", "value", "says"), _FAULTS)
def test_fault_is_told(tmp_path: Path, written: dict[str, Any], place: tuple[Any, ...], value: Any, says: list[str]) -> None:
    data = copy.deepcopy(written)
    node = data
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(path)
    for words in (str(path), *says):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot be read", id="absent"),
        pytest.param(b"\xff\xfe\x00", "cannot be read", id="not UTF-8"),
        pytest.param(b"name: [", "not valid YAML", id="not YAML"),
        pytest.param(b"", "a catalogue is a mapping with the keys name, version", id="empty"),
        pytest.param(b"- a\n", "a catalogue is a mapping", id="a list"),
        pytest.param(b"name: a\nname: b\n", "'name' is written twice", id="key twice"),
        pytest.param(b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML", id="code"),
    ],
)
def test_unusable_file_is_told(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CatalogueError, match=says):
        load_catalogue(path)


@pytest.mark.parametrize(
    ("modality", "body_part", "view", "reason"),
    [
        pytest.param("DX", "CHEST", "PA", "", id="DX chest PA"),
        pytest.param("CR", "THORAX", "AP", "", id="CR thorax AP"),
        pytest.param("CR", "", "", "", id="CR that says nothing"),
        pytest.param("DX", "CHEST PA", "", "", id="view in the body part"),
        pytest.param("CT", "CHEST", "", "modality CT is not covered by the catalogue 'chest_xray' (covers CR, DX)", id="CT"),
        pytest.param("MR", "", "", "modality MR is not covered by the catalogue 'chest_xray' (covers CR, DX)", id="MR"),
        pytest.param("OT", "CHEST", "PA", "modality OT is not covered", id="secondary capture"),
        pytest.param("", "CHEST", "PA", "an image that states no modality is not covered", id="no modality"),
        pytest.param(
            "DX", "CHEST", "LL", "view LL is not covered by the catalogue 'chest_xray' (covers PA, AP)", id="left lateral"
        ),
        pytest.param("CR", "CHEST", "RL", "view RL is not covered", id="right lateral"),
        pytest.param("CR", "CHEST", "LATERAL", "view LATERAL is not covered", id="lateral in words"),
        pytest.param("DX", "ABDOMEN", "AP", "body part ABDOMEN is not covered", id="abdomen"),
        pytest.param("DX", "HAND", "PA", "body part HAND is not covered", id="hand"),
        pytest.param("CR", "CHEST ABDOMEN", "AP", "body part CHEST ABDOMEN is not covered", id="more than chest"),
        pytest.param("CR", "CHEST LAT", "", "body part CHEST LAT is not covered", id="lateral in the body part"),
        pytest.param("CR", "CHESTABDPELVIS", "", "body part CHESTABDPELVIS is not covered", id="longer than chest"),
    ],
)
def test_scope(catalogue: FindingsCatalogue, modality: str, body_part: str, view: str, reason: str) -> None:
    said = catalogue.scope.refuse(frame(modality, body_part, view))
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


def test_scope_may_insist_on_what_is_stated(tmp_path: Path, written: dict[str, Any]) -> None:
    written["scope"]["accept_unstated"] = False
    path = tmp_path / "strict.yaml"
    path.write_text(yaml.safe_dump(written), "utf-8")
    scope = load_catalogue(path).scope
    assert scope.refuse(frame("DX", "", "PA")).startswith("an image that states no body part is not covered")
    assert scope.refuse(frame("DX", "CHEST", "")).startswith("an image that states no view is not covered")
    assert not scope.refuse(frame("DX", "CHEST", "PA"))


def test_every_fault_is_told_by_its_line(tmp_path: Path) -> None:
    """Oracle: the lines on which the faults were written."""
    text = SHIPPED.read_text("utf-8").replace("urgency: STAT", "urgency: soon", 1).replace("threshold: 0.5", "threshold: 2", 1)
    text = text.replace("views: [PA, AP]", "views: PA", 1)
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    written = text.splitlines()
    wanted = [
        next(number for number, line in enumerate(written, 1) if words in line)
        for words in ("views: PA", "urgency: soon", "threshold: 2")
    ]
    assert [fault.line for fault in catalogue_faults(path)] == wanted
    with pytest.raises(CatalogueError, match=f"line {wanted[0]}: scope.views"):
        load_catalogue(path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("name: a\nversion: 1\nname: b\n", 3, id="key twice"),
        pytest.param("name: a\nscope: [\n", 3, id="not YAML"),
        pytest.param("name: a\nversion: x\n", 1, id="keys missing"),
        pytest.param("name: a\nfindings:\n  - key: x\n    key: y\n", 4, id="key of a finding twice"),
    ],
)
def test_a_file_that_is_no_catalogue_is_told_by_its_line(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content, "utf-8")
    assert catalogue_faults(path)[0].line == line


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_catalogue_or_told(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_bytes(content)
        assert catalogue_faults(path)


def test_what_is_written_arrives(tmp_path: Path, written: dict[str, Any]) -> None:
    """Keys of a finding that no shipped finding uses."""
    written["scope"] |= {"views": "any", "body_parts": "any", "measured": "nothing"}
    written["aggregation"] = {"rule": "per series"}
    first = written["findings"][0]
    first |= {"abstain": [0.4, 0.6], "aggregation": {"rule": "top-k mean", "k": 5}, "scope": {"views": ["PA"]}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(written), "utf-8")
    loaded = load_catalogue(path)
    entry, other = loaded.findings[:2]
    assert (entry.band, entry.aggregation) == (Band(0.4, 0.6), Aggregation(Rule.TOP_K_MEAN, 5))
    assert (entry.scope, other.scope) == (EntryScope(views=("PA",)), EntryScope())
    assert (other.band, other.aggregation) == (None, Aggregation(Rule.PER_SERIES, 3))
    assert not loaded.scope.refuse(frame("DX", "HAND", "LL"))
    assert loaded.scope.stated(frame("DX"))
    assert loaded.scope.refuse(frame("CT"))
