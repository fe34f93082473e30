"""The five tasks on a tiny model: batches, limits, bad input. That they compute what the reference does: test_golden."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundles import Bundle, BundleCard
from inference.drafting import tasks
from inference.drafting.config import Classification, Nli, Vqa
from inference.drafting.drafter import Drafter
from inference.drafting.generation import GenerationSettings
from inference.drafting.model import BOS, EOS, Ofa
from inference.drafting.results import DecoderPrompt, Task
from inference.drafting.runtime import UNIFORM, Runtime
from inference.drafting.sentences import NO_TEXT
from inference.drafting.texts import SUMMARY_CLOSING, SUMMARY_OPENING
from inference.errors import BundleError, InputError
from inference.reading import Frame, FrameSource, UseMode

CPU = torch.device("cpu")
LABELS = ["normal", "effusion", "left effusion", "no"]


def frame(pixels: Any, uid: str = "1.2.3", view: str = "") -> Frame:
    return Frame(np.asarray(pixels, np.uint8), FrameSource(uid, "1.2", "1.2.4"), "DX", view=view)


def noise(seed: int, *shape: int) -> Frame:
    return frame(np.random.default_rng(seed).integers(0, 256, shape or (50, 40), np.uint8), f"1.2.{seed}")


BLACK = frame(np.zeros((30, 20)), "1.2.99")
DOT = frame(np.zeros((1, 1)), "1.2.98")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    card = BundleCard("tiny", "biomedgpt", "1", "here", "none", "tests", tuple(UseMode))
    return Bundle(Path("bundle"), card, ())


@pytest.fixture
def drafter(run: Runtime, bundle: Bundle) -> Drafter:
    return Drafter(bundle, run.model, run.tokenizer, run.config, CPU)


FRAMES: list[Frame | None] = [noise(0), BLACK, noise(1, 30, 80, 3), None, noise(2), DOT]
QUESTIONS = ["Is there an effusion?", "which side", "clear?", "What is normal?", "Is the left side clear?", "why?"]


def test_answers_are_the_same_alone_and_in_a_batch(drafter: Drafter) -> None:
    together = drafter.ask(FRAMES, QUESTIONS)
    for found, one, question in zip(together, FRAMES, QUESTIONS, strict=True):
        (alone,) = drafter.ask([one], [question])
        assert (alone.text, alone.reason, alone.source, alone.notes) == (found.text, found.reason, found.source, found.notes)
        assert alone.confidence == pytest.approx(found.confidence, rel=1e-4)
        assert found.source == (one.source if one else None)
        assert bool(found.text) != bool(found.reason)
    assert [found.reason for found in together if found.source in (BLACK.source, DOT.source)] == [f"no answer: {UNIFORM}"] * 2


def test_choices_are_the_same_alone_and_in_a_batch(drafter: Drafter) -> None:
    together = drafter.choose(FRAMES, QUESTIONS, LABELS)
    for found, one, question in zip(together, FRAMES, QUESTIONS, strict=True):
        (alone,) = drafter.choose([one], [question], LABELS)
        if one in (BLACK, DOT):
            assert (found.scores, found.best, found.reason) == ((), None, f"no answer: {UNIFORM}")
            continue
        assert [score.text for score in found.scores] == LABELS
        assert sum(score.probability for score in found.scores) == pytest.approx(1)
        assert [s.log_probability for s in alone.scores] == pytest.approx([s.log_probability for s in found.scores], abs=1e-4)
        assert found.best == max(found.scores, key=lambda score: score.probability)


def test_labels_are_the_same_alone_and_in_a_batch(drafter: Drafter) -> None:
    frames = [noise(0), BLACK, noise(1)]
    together = drafter.classify(frames, LABELS)
    assert [choice.source for choice in together] == [f.source for f in frames]
    for found, one in zip(together, frames, strict=True):
        (alone,) = drafter.classify([one], LABELS)
        logs = [[score.log_probability for score in choice.scores] for choice in (found, alone)]
        assert logs[0] == pytest.approx(logs[1], abs=1e-4)
    assert together[1].reason == f"no answer: {UNIFORM}"


PAIRS = [("No effusion.", "There is an effusion."), ("clear", "normal lungs"), ("a", "b")]


@pytest.mark.parametrize("kind", [DecoderPrompt.SRC, DecoderPrompt.NONE])
def test_inferences_are_the_same_alone_and_in_a_batch(run: Runtime, kind: DecoderPrompt) -> None:
    run.config = replace(run.config, nli=Nli(kind))
    together = tasks.infer(run, PAIRS)
    for found, pair in zip(together, PAIRS, strict=True):
        (alone,) = tasks.infer(run, [pair])
        scores = [[i.entailment, i.contradiction, i.neutral] for i in (found, alone)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        assert sum(scores[0]) == pytest.approx(1)
        assert found.relation.value in ("entailment", "contradiction", "neutral")


def test_summaries_are_the_same_alone_and_in_a_batch(drafter: Drafter) -> None:
    texts = ["Clear lungs. No effusion.", "left", "clear lungs " * 120]
    together = drafter.summarise(texts)
    for found, text in zip(together, texts, strict=True):
        (alone,) = drafter.summarise([text])
        assert (alone.text, alone.cut, alone.reason) == (found.text, found.cut, found.reason)
    assert [found.cut for found in together] == [False, False, True]


def test_constrained_decoding_gives_one_of_the_list(run: Runtime, drafter: Drafter) -> None:
    frames, questions = [noise(i) for i in range(5)], ["which?"] * 5
    assert all(answer.text in LABELS for answer in drafter.ask(frames, questions, among=LABELS))
    # A beam as wide as the list ends every candidate before it stops: its best is the best of all.
    run.config = replace(run.config, vqa=Vqa(search=GenerationSettings(beam=4, max_length=120, normalise=False)))
    answers, choices = tasks.ask(run, frames, questions, LABELS), tasks.choose(run, frames, questions, LABELS)
    assert [answer.text for answer in answers] == [choice.best and choice.best.text for choice in choices]
    assert len({answer.text for answer in answers} | set(LABELS)) == len(LABELS)


def test_temperature_flattens_and_keeps_order(drafter: Drafter) -> None:
    frames, questions = [noise(0)], ["which?"]
    (sharp,), (flat,) = (drafter.choose(frames, questions, LABELS, temperature=t) for t in (0.5, 5.0))
    assert [s.log_probability for s in sharp.scores] == [s.log_probability for s in flat.scores]
    order = [sorted(range(4), key=lambda i, c=c: c.scores[i].probability) for c in (sharp, flat)]
    assert order[0] == order[1]
    assert max(s.probability for s in sharp.scores) > max(s.probability for s in flat.scores)
    for choice, temperature in ((sharp, 0.5), (flat, 5.0)):
        weights = [math.exp(score.log_probability / temperature) for score in choice.scores]
        wanted = [weight / sum(weights) for weight in weights]
        assert [score.probability for score in choice.scores] == pytest.approx(wanted, rel=1e-5)


def test_the_bundle_s_temperature_counts_where_none_is_given(run: Runtime) -> None:
    frames = [noise(0)]
    run.config = replace(
        run.config, vqa=replace(run.config.vqa, temperature=4.0), classification=Classification(temperature=4.0)
    )
    assert tasks.choose(run, frames, ["a?"], LABELS) == tasks.choose(run, frames, ["a?"], LABELS, 4.0)
    assert tasks.classify(run, frames, LABELS) == tasks.classify(run, frames, LABELS, 4.0)
    assert tasks.classify(run, frames, LABELS) != tasks.classify(run, frames, LABELS, 1.0)


def test_candidates_that_begin_alike_are_all_scored(drafter: Drafter) -> None:
    (choice,) = drafter.classify([noise(0)], ["left", "left effusion", "left effusion left"])
    assert all(0 < score.probability < 1 for score in choice.scores)


Call = Callable[[Drafter], object]
REFUSED: dict[str, tuple[Call, str]] = {
    "an empty question": (lambda d: d.ask([noise(0)], [" ?"]), "question is empty"),
    "a long question": (lambda d: d.ask([noise(0)], ["zyx " * 79]), r"tokens long with its prompt; this model reads 240"),
    "no candidates": (lambda d: d.choose([noise(0)], ["a?"], []), "no candidates"),
    "no labels": (lambda d: d.classify([noise(0)], []), "no candidates"),
    "an empty label": (lambda d: d.classify([noise(0)], ["a", " "]), "empty"),
    "a candidate twice": (lambda d: d.choose([noise(0)], ["a?"], ["yes", "no", " yes "]), "twice"),
    "no room for the answer": (lambda d: d.choose([noise(0)], ["zyx " * 40], ["zyx " * 30]), "no room for an answer"),
    "a frozen scale": (lambda d: d.choose([noise(0)], ["a?"], LABELS, temperature=0), "above 0"),
    "no premise": (lambda d: d.infer([("", "a")]), "premise is empty"),
    "nothing to summarise": (lambda d: d.summarise([" "]), "no text to summarise"),
    "an empty text to label": (lambda d: d.label_texts([" "], LABELS), "empty text"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_refused_with_the_limit(drafter: Drafter, call: Call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(drafter)


def test_a_question_too_long_for_its_search_is_refused(run: Runtime) -> None:
    run.config = replace(run.config, vqa=Vqa(search=GenerationSettings(beam=1, max_length=5)))
    with pytest.raises(InputError, match="within 5 tokens"):
        tasks.ask(run, [noise(0)], ["is there an effusion?"])


def test_messages_do_not_hold_the_text(drafter: Drafter) -> None:
    with pytest.raises(InputError) as error:
        drafter.ask([noise(0)], ["smith " * 81])
    assert "smith" not in str(error.value)


UNFIT: dict[str, Call] = {
    "caption": lambda d: d.draft([noise(0)]),
    "vqa": lambda d: d.ask([noise(0)], ["a?"]),
    "vqa by list": lambda d: d.choose([noise(0)], ["a?"], LABELS),
    "classification": lambda d: d.classify([noise(0)], LABELS),
    "nli": lambda d: d.infer(PAIRS),
    "summary": lambda d: d.summarise(["a"]),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_task_the_model_was_not_trained_for_is_refused(run: Runtime, bundle: Bundle, name: str) -> None:
    others = tuple(task for task in Task if not name.startswith(task.value))
    unfit = Drafter(bundle, run.model, run.tokenizer, replace(run.config, tasks=others), CPU)
    with pytest.raises(BundleError, match=f"not trained for {name.split()[0]}"):
        UNFIT[name](unfit)


def test_characters_no_model_has_seen_are_read(drafter: Drafter) -> None:
    odd = "漢字 \x00 \ud800 🫁 ﬁ?"
    assert len(drafter.ask([noise(0)], [odd])) == 1
    assert len(drafter.infer([(odd, odd)])) == 1
    assert drafter.classify([noise(0)], ["漢字", "🫁"])[0].best is not None


def test_frames_and_questions_must_match(drafter: Drafter) -> None:
    with pytest.raises(ValueError, match="2 frames but 1 questions"):
        drafter.ask([noise(0), noise(1)], ["a?"])


@pytest.mark.parametrize("none", [[], ()])
def test_nothing_asked_nothing_answered(drafter: Drafter, none: Sequence[Any]) -> None:
    assert drafter.draft(none) == drafter.ask(none, none) == drafter.choose(none, none, LABELS) == []
    assert drafter.classify(none, LABELS) == drafter.infer(none) == drafter.summarise(none) == []


def test_a_cut_text_keeps_the_end_of_its_prompt(run: Runtime) -> None:
    run.config = replace(run.config, summary=replace(run.config.summary, tokens=90))
    ids, cut = tasks.summary_ids(run, "clear lungs. " * 40)
    closing = run.tokenizer.encode(SUMMARY_CLOSING)
    assert cut
    assert len(ids) == 92
    assert ids[-len(closing) - 1 :] == [*closing, EOS]
    whole = run.tokenizer.encode(f"{SUMMARY_OPENING}{('clear lungs. ' * 40).strip()}")
    assert ids[: 92 - len(closing) - 1] == [BOS, *whole[: 90 - len(closing)]]


def test_a_prompt_without_room_for_a_text_is_refused(run: Runtime) -> None:
    run.config = replace(run.config, summary=replace(run.config.summary, tokens=20))
    with pytest.raises(InputError, match="fills the 20 tokens"):
        tasks.summary_ids(run, "clear lungs. " * 40)


def constant_model(run: Runtime, *liked: int) -> Ofa:
    """Gives the same logits at every step: those tokens, the first the highest, before all others."""
    torch.manual_seed(5)
    model = Ofa(run.config.model).eval().requires_grad_(False)
    model.decoder.layer_norm.weight.zero_()
    model.decoder.layer_norm.bias.zero_()[0] = 1
    model.embed_tokens.weight[:, 0] = -9
    for place, token in enumerate(liked):
        model.embed_tokens.weight[token, 0] = 90 - 20 * place
    return model


def test_a_model_that_says_nothing_gets_a_reason(run: Runtime, bundle: Bundle) -> None:
    quiet = GenerationSettings(beam=1, max_length=60, min_length=0)
    config = replace(run.config, vqa=Vqa(search=quiet), summary=replace(run.config.summary, search=quiet))
    drafter = Drafter(bundle, constant_model(run, EOS), run.tokenizer, config, CPU)
    (answer,) = drafter.ask([noise(0)], ["a?"])
    assert (answer.text, answer.confidence, answer.reason) == ("", 0.0, f"no answer: {NO_TEXT}")
    (summary,) = drafter.summarise(["clear"])
    assert (summary.text, summary.reason) == ("", f"no summary: {NO_TEXT}")


def test_no_image_codes_are_written(run: Runtime, bundle: Bundle) -> None:
    """A model that likes an image code best, and a word next best, writes the word."""
    (clear,) = run.tokenizer.encode(" clear")
    model = constant_model(run, run.tokenizer.encode_symbols("<code_1>")[0], clear)
    one = replace(run.config.caption, search=GenerationSettings(beam=1, max_length=1))
    drafter = Drafter(bundle, model, run.tokenizer, replace(run.config, caption=one), CPU)
    assert drafter.draft([noise(0)])[0].text == "clear …"


def test_texts_are_labelled(drafter: Drafter) -> None:
    choices = drafter.label_texts(["is this urgent?", "no"], ["yes", "no"])
    assert [len(choice.scores) for choice in choices] == [2, 2]
    (alone,) = drafter.label_texts(["no"], ["yes", "no"])
    assert [s.probability for s in alone.scores] == pytest.approx([s.probability for s in choices[1].scores], abs=1e-4)
