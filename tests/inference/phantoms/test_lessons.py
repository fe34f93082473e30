"""What the phantom BiomedGPT is taught: facts of captions, questions about them, what follows from what, and impressions."""

from __future__ import annotations

import numpy as np
import pytest

from inference.phantoms.draw import draw_phantom
from inference.phantoms.facts import Fact, facts_of
from inference.phantoms.lessons import SLICE, film_lesson, inference_lesson, summary_lesson
from inference.phantoms.questions import KINDS, LABELS, Question, ask, label_of
from inference.phantoms.statements import NORMAL, Relation, Statement, any_absent, any_present, impression, relation

CAPTIONS = {
    "two": (
        "there is a large left pleural effusion. right mid zone nodule. no pneumothorax.",
        (Fact("pleural_effusion", "left", "large"), Fact("nodule", "right", zone="mid")),
    ),
    "heart": ("the heart is enlarged, cardiomegaly. no pleural effusion.", (Fact("cardiomegaly"),)),
    "tube": ("tracheal tube device in place. no pleural effusion.", (Fact("device", kind="tracheal tube"),)),
    "line": ("there is a left central line device. no pleural effusion.", (Fact("device", "left", kind="central line"),)),
    "normal": ("the lungs are clear. the heart size is normal. no pleural effusion. no pneumothorax.", ()),
}


@pytest.mark.parametrize(("caption", "facts"), CAPTIONS.values(), ids=CAPTIONS)
def test_facts_of_a_caption(caption: str, facts: tuple[Fact, ...]) -> None:
    assert facts_of(caption) == facts


def test_facts_are_all_that_was_drawn() -> None:
    for seed in range(60):
        film = draw_phantom(seed, size=32)
        assert {fact.key for fact in facts_of(film.caption)} == film.findings


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_has_its_answer_among_its_choices(kind: str) -> None:
    rng = np.random.default_rng(1)
    for seed in range(40):
        question = ask(facts_of(draw_phantom(seed, size=32).caption), rng, kind)
        assert question.kind == kind
        assert question.text.endswith("?")
        assert not question.choices or question.answer in question.choices


def answers(caption: str, kind: str) -> set[tuple[str, str]]:
    rng = np.random.default_rng(2)
    asked = (ask(facts_of(caption), rng, kind) for _ in range(400))
    return {(question.text, question.answer) for question in asked}


def test_answers_are_those_of_the_film() -> None:
    caption = CAPTIONS["two"][0]
    closed = dict(answers(caption, "closed"))
    assert closed["is there a pleural effusion?"] == "yes"
    assert closed["is there a pneumothorax?"] == "no"
    assert closed["is there a right pleural effusion?"] == "no"
    assert closed["are the lungs clear?"] == "no"
    assert dict(answers(caption, "side"))["on which side is the nodule?"] == "right"
    assert dict(answers(caption, "size"))["how large is the pneumothorax?"] == "none"
    assert {answer for _, answer in answers(caption, "list")} == {"pleural effusion and nodule"}
    assert {answer for _, answer in answers(caption, "count")} == {"two"}
    assert {answer for _, answer in answers(CAPTIONS["tube"][0], "device")} == {"tracheal tube"}


def test_a_label_is_one_of_the_findings() -> None:
    rng = np.random.default_rng(3)
    facts = facts_of(CAPTIONS["two"][0])
    assert {label_of(facts, rng) for _ in range(20)} == {"pleural effusion", "nodule"} < set(LABELS)
    assert label_of((), rng) == "normal"


def said(text: str, thing: str, present: bool = True, **attributes: str) -> Statement:
    return Statement(text, thing, present, frozenset(attributes.items()))


LEFT = said("small left pneumothorax.", "pneumothorax", side="left", size="small")
PLAIN = said("there is a pneumothorax.", "pneumothorax")
NONE = said("no pneumothorax.", "pneumothorax", present=False)
AGAINST = Relation.CONTRADICTION
RELATIONS = {
    "narrower implies wider": ([LEFT], PLAIN, Relation.ENTAILMENT),
    "wider may be narrower": ([PLAIN], LEFT, Relation.NEUTRAL),
    "denial of what is there": ([LEFT], NONE, Relation.CONTRADICTION),
    "there is what was denied": ([NONE], LEFT, Relation.CONTRADICTION),
    "the same denial": ([NONE], NONE, Relation.ENTAILMENT),
    "another size": (
        [LEFT],
        said("large left pneumothorax.", "pneumothorax", side="left", size="large"),
        Relation.CONTRADICTION,
    ),
    "another side may be a second one": (
        [LEFT],
        said("small right pneumothorax.", "pneumothorax", side="right", size="small"),
        Relation.NEUTRAL,
    ),
    "another thing": ([LEFT], said("there is a nodule.", "nodule"), Relation.NEUTRAL),
    "one of several": ([said("there is a nodule.", "nodule"), NONE], PLAIN, Relation.CONTRADICTION),
    "no pacemaker is not no device": (
        [said("no pacemaker.", "device", present=False, kind="pacemaker")],
        said("there is a medical device.", "device"),
        Relation.NEUTRAL,
    ),
}


@pytest.mark.parametrize(("premise", "hypothesis", "wanted"), RELATIONS.values(), ids=RELATIONS)
def test_what_follows(premise: list[Statement], hypothesis: Statement, wanted: Relation) -> None:
    assert relation(premise, hypothesis) is wanted


def test_an_impression_holds_what_is_there_in_its_shortest_form() -> None:
    device = said("there is a left pacemaker device.", "device", side="left", kind="pacemaker")
    nodule = said("there is a nodule in the right mid zone.", "nodule", side="right", zone="mid")
    assert impression([NONE, nodule, device, LEFT]) == "right mid zone nodule. left pacemaker. small left pneumothorax."
    assert impression([NONE]) == NORMAL


def test_statements_say_what_they_mean() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        present, absent = any_present(rng), any_absent(rng)
        assert all(value in present.text for _, value in present.attributes)
        assert not {"no", "without"} & set(present.text.rstrip(".").split())
        assert {"no", "without", "clear", "normal"} & set(absent.text.rstrip(".").split())


def test_lessons_are_short_enough_and_begin_with_a_space() -> None:
    rng = np.random.default_rng(5)
    lessons = [make(rng) for make in (inference_lesson, summary_lesson) for _ in range(100)]
    lessons += [film_lesson(caption, rng) for caption in (CAPTIONS["two"][0], SLICE) for _ in range(50)]
    assert all(lesson.source.startswith(" ") and lesson.answer for lesson in lessons)
    assert max(len(lesson.source.split()) for lesson in lessons) < 120


def test_a_slice_is_asked_only_what_kind_of_image_it_is() -> None:
    rng = np.random.default_rng(6)
    answers = {film_lesson(SLICE, rng).answer for _ in range(60)}
    assert answers == {"ct", "chest", "yes", "no"}
    assert isinstance(ask((), rng), Question)
