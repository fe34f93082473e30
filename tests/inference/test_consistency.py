"""Marks on a draft: what the findings contradict and what it omits, by inference and by rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from inference.bundles import Bundle, open_bundle
from inference.consistency import BY_RULES, check, marks, statement
from inference.drafting.results import Inference, Task
from inference.engine import Engine
from inference.errors import InputError
from inference.mentions import Says
from inference.options import EngineOptions
from inference.phantoms import bundle_folder, draw_phantom
from inference.reading import Code, Decision, DraftReport, Finding, Frame, FrameSource, Sentence, Urgency, UseMode
from inference.triage.catalogue import load_catalogue

CATALOGUE_FILE = Path(__file__).parents[2] / "config" / "findings" / "chest_xray.yaml"
CATALOGUE = load_catalogue(CATALOGUE_FILE)
POSITIVE, NEGATIVE, OPEN = Decision.POSITIVE, Decision.NEGATIVE, Decision.NOT_ASSESSABLE
BUNDLE = open_bundle(bundle_folder("biomedgpt"))


@dataclass
class Reader:
    """Infers what it was told to of a (sentence, word of the hypothesis); all else is neutral."""

    said: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)  # entailment, contradiction
    tasks: frozenset[Task] = frozenset({Task.NLI})
    bundle: Bundle = BUNDLE
    longest: int = 1000
    asked: list[tuple[str, str]] = field(default_factory=list)

    def infer(self, pairs: Sequence[tuple[str, str]]) -> list[Inference]:
        if any(len(premise) > self.longest for premise, _ in pairs):
            raise InputError("too long")
        self.asked += pairs
        return [self._one(premise, hypothesis) for premise, hypothesis in pairs]

    def _one(self, premise: str, hypothesis: str) -> Inference:
        found = [scores for (text, word), scores in self.said.items() if text == premise and word in hypothesis]
        entailment, contradiction = found[0] if found else (0.1, 0.1)
        return Inference(entailment, contradiction, 1 - entailment - contradiction)


def findings(**decisions: Decision) -> tuple[Finding, ...]:
    def finding(key: str, decision: Decision) -> Finding:
        probability = None if decision is OPEN else 0.9 if decision is POSITIVE else 0.1
        return Finding(key, Code("1", "SCT", key), None, Urgency.ROUTINE, 0.5, decision, probability)

    return tuple(finding(key, decision) for key, decision in decisions.items())


def report(*texts: str) -> DraftReport:
    return DraftReport(tuple(Sentence(text, 0.9) for text in texts))


def contradicted(draft: DraftReport) -> dict[str, tuple[str, ...]]:
    return {sentence.text: sentence.contradicts for sentence in draft.sentences if sentence.contradicts}


ROWS = {
    "agree": (["small left pneumothorax."], {"pneumothorax": POSITIVE}, {}, ()),
    "denied but found": (["no pneumothorax."], {"pneumothorax": POSITIVE}, {"no pneumothorax.": ("pneumothorax",)}, ()),
    "affirmed but not found": (
        ["pleural effusion."],
        {"pleural_effusion": NEGATIVE},
        {"pleural effusion.": ("pleural_effusion",)},
        (),
    ),
    "denied and not found": (["no pneumothorax."], {"pneumothorax": NEGATIVE}, {}, ()),
    "omitted": (["clear lungs."], {"pneumothorax": POSITIVE}, {}, ("pneumothorax",)),
    "not assessable": (["no pneumothorax."], {"pneumothorax": OPEN, "nodule": OPEN}, {}, ()),
    "one side only": (["no left pneumothorax."], {"pneumothorax": POSITIVE}, {}, ()),
    "in doubt": (["possible nodule."], {"nodule": NEGATIVE}, {}, ()),
    "each sentence for itself": (
        ["no pneumothorax.", "large right pneumothorax."],
        {"pneumothorax": POSITIVE},
        {"no pneumothorax.": ("pneumothorax",)},
        (),
    ),
    "two in one sentence": (
        ["no pneumothorax or pleural effusion."],
        {"pneumothorax": POSITIVE, "pleural_effusion": POSITIVE},
        {"no pneumothorax or pleural effusion.": ("pneumothorax", "pleural_effusion")},
        (),
    ),
}


@pytest.mark.parametrize(("texts", "decisions", "wanted", "omits"), ROWS.values(), ids=ROWS)
def test_rules_alone(texts: list[str], decisions: dict[str, Decision], wanted: dict, omits: tuple[str, ...]) -> None:
    checked = check(report(*texts), findings(**decisions), CATALOGUE, None)
    assert contradicted(checked) == wanted
    assert checked.omits == omits
    assert checked.checked == BY_RULES


def test_text_and_confidence_stay_as_they_were() -> None:
    draft = report("no pneumothorax.", "Clear lungs.", "no pneumothorax.")
    checked = check(draft, findings(pneumothorax=POSITIVE), CATALOGUE, None)
    assert [(s.text, s.confidence) for s in checked.sentences] == [(s.text, s.confidence) for s in draft.sentences]
    assert [s.contradicts for s in checked.sentences] == [("pneumothorax",), (), ("pneumothorax",)]


def test_the_impression_is_held_against_the_findings_too() -> None:
    draft = replace(report("clear lungs."), impression=(Sentence("no pneumothorax.", 0.5),))
    checked = check(draft, findings(pneumothorax=POSITIVE), CATALOGUE, None)
    assert checked.impression[0].contradicts == ("pneumothorax",)
    assert checked.omits == ()


def test_without_text_there_is_nothing_to_check() -> None:
    empty = DraftReport((), "no draft: the image is uniform")
    assert check(empty, findings(pneumothorax=POSITIVE), CATALOGUE, Reader()) == empty


def test_a_sure_inference_marks_what_no_word_says() -> None:
    sentence = "the pleural space holds nothing but lung."
    reader = Reader({(sentence, "pneumothorax"): (0.02, 0.95)})
    checked = check(report(sentence), findings(pneumothorax=POSITIVE, nodule=POSITIVE), CATALOGUE, reader)
    assert checked.sentences[0].contradicts == ("pneumothorax",)
    assert checked.omits == ("nodule",)
    assert BUNDLE.card.name in checked.checked
    assert "0.80" in checked.checked


def test_an_unsure_inference_marks_nothing() -> None:
    reader = Reader({("clear.", "pneumothorax"): (0.05, 0.79)})
    checked = check(report("clear."), findings(pneumothorax=POSITIVE), CATALOGUE, reader)
    assert contradicted(checked) == {}
    assert checked.omits == ("pneumothorax",)


def test_an_affirmation_by_inference_is_no_omission() -> None:
    reader = Reader({("air beside the lung.", "pneumothorax"): (0.9, 0.05)})
    checked = check(report("air beside the lung."), findings(pneumothorax=POSITIVE, nodule=NEGATIVE), CATALOGUE, reader)
    assert checked.omits == ()


def test_a_model_that_is_not_fit_for_inference_is_not_asked() -> None:
    reader = Reader(tasks=frozenset({Task.CAPTION}))
    checked = check(report("no pneumothorax."), findings(pneumothorax=POSITIVE), CATALOGUE, reader)
    assert reader.asked == []
    assert checked.checked == BY_RULES


def test_only_judged_findings_are_asked_about_and_each_text_once() -> None:
    reader = Reader()
    check(report("a.", "a.", "b."), findings(pneumothorax=POSITIVE, nodule=OPEN), CATALOGUE, reader)
    assert reader.asked == [("a.", "there is pneumothorax."), ("b.", "there is pneumothorax.")]


def test_a_sentence_too_long_for_the_model_leaves_the_others_their_inference() -> None:
    long = "no pneumothorax " + "and so on " * 50
    reader = Reader({("short.", "nodule"): (0.9, 0.0)}, longest=100)
    checked = check(report(long, "short."), findings(pneumothorax=POSITIVE, nodule=NEGATIVE), CATALOGUE, reader)
    assert [sentence.contradicts for sentence in checked.sentences] == [("pneumothorax",), ("nodule",)]


def test_statements_are_english() -> None:
    said = {entry.key: statement(entry) for entry in CATALOGUE.findings}
    assert said["nodule"] == "there is a lung nodule."
    assert said["rib_fracture"] == "there is a rib fracture."
    assert said["cardiomegaly"] == "there is cardiomegaly."


def test_marks_say_how_they_are_known() -> None:
    reader = Reader({("no pneumothorax.", "pneumothorax"): (0.0, 0.97)})
    found = marks([Sentence("no pneumothorax.", 1.0)], findings(pneumothorax=POSITIVE), CATALOGUE, reader)
    assert [(mark.says, mark.score, mark.by) for mark in found] == [
        (Says.DENIES, 1.0, BY_RULES),
        (Says.DENIES, 0.97, BUNDLE.card.name),
    ]


@pytest.fixture(scope="module")
def film() -> Frame:
    pixels = draw_phantom(7, frozenset({"pneumothorax"})).pixels
    return Frame(pixels, FrameSource("1.2.7", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"), "DX", "CHEST", "PA")


def engine_of(catalogue: Path) -> Engine:
    return Engine.load(
        EngineOptions(bundle_folder("biomedclip"), bundle_folder("biomedgpt"), catalogue, UseMode.RESEARCH, device="cpu")
    )


def test_the_engine_marks_a_draft_that_its_findings_contradict(film: Frame, tmp_path: Path) -> None:
    """A threshold that everything reaches makes triage affirm what the draft denies."""
    eager = tmp_path / "eager.yaml"
    before, key, after = CATALOGUE_FILE.read_text("utf-8").partition("key: pleural_effusion")
    eager.write_text(before + key + after.replace("threshold: 0.5", "threshold: 1.0e-30", 1), "utf-8")
    draft = engine_of(eager).read([film]).draft
    marked = [sentence for sentence in draft.sentences if sentence.contradicts]
    assert [(sentence.text, sentence.contradicts) for sentence in marked] == [("no pleural effusion.", ("pleural_effusion",))]
    assert draft.omits == ()


def test_a_draft_that_agrees_has_no_mark(film: Frame) -> None:
    draft = engine_of(CATALOGUE_FILE).read([film]).draft
    assert not any(sentence.contradicts for sentence in (*draft.sentences, *draft.impression))
    assert draft.omits == ()
    assert re.fullmatch(r"natural-language inference by .*phantom.* and rules over words", draft.checked)
