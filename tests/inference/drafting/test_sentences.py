"""Sentences of a hypothesis, and what is not shown of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.drafting.generation import Hypothesis
from inference.drafting.model import EOS
from inference.drafting.sentences import (
    CUT_OFF,
    NO_TEXT,
    REPEATED,
    SAID_TWICE,
    UNFINISHED,
    Guarded,
    guarded_sentences,
    loops,
    split_sentences,
    split_text,
)
from inference.drafting.tokenizer import Tokenizer

SENTENCES = {
    "two": (" clear lungs. no effusion.", ["clear lungs.", "no effusion."]),
    "a decimal point ends nothing": (" nodule of 3.5 cm. no effusion.", ["nodule of 3.5 cm.", "no effusion."]),
    "nor one with a space": (" nodule of 3. 5 cm. no effusion.", ["nodule of 3. 5 cm.", "no effusion."]),
    "nor an abbreviation": (" seen by Dr. Who, approx. 3 cm. end", ["seen by Dr. Who, approx. 3 cm.", "end"]),
    "in brackets": (" opacity (cf. prior). clear.", ["opacity (cf. prior).", "clear."]),
    "nor a number of a list": ("1. clear lungs. 2. no effusion.", ["1. clear lungs.", "2. no effusion."]),
    "a number ends a sentence before a word": (" seen since 2015. no effusion.", ["seen since 2015.", "no effusion."]),
    "no is a word": (" effusion? no. clear.", ["effusion?", "no.", "clear."]),
    "three dots": (" unclear... maybe.", ["unclear...", "maybe."]),
    "a closing quote": (' "clear." next.', ['"clear."', "next."]),
    "no end": (" clear lungs", ["clear lungs"]),
    "question and cry": (" effusion? yes! end", ["effusion?", "yes!", "end"]),
    "space only": ("   ", []),
    "accents": (" épanchement à gauche. ça va.", ["épanchement à gauche.", "ça va."]),
    "line breaks": ("clear lungs.\nno effusion.", ["clear lungs.", "no effusion."]),
}


def written(tokenizer: Tokenizer, text: str, log: float = -0.1) -> Hypothesis:
    tokens = (*tokenizer.encode(text), EOS)
    return Hypothesis(tokens, 0.0, tuple(log for _ in tokens))


@pytest.mark.parametrize(("text", "wanted"), SENTENCES.values(), ids=SENTENCES)
def test_sentences(tokenizer: Tokenizer, text: str, wanted: list[str]) -> None:
    found = list(split_sentences(written(tokenizer, text), tokenizer))
    assert [s.text for s in found] == wanted == split_text(text)
    assert all(s.confidence == pytest.approx(math.exp(-0.1)) for s in found)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_splitting_loses_nothing_but_space(tokenizer: Tokenizer, text: str) -> None:
    found = list(split_sentences(written(tokenizer, text), tokenizer))
    assert "".join("".join(s.text.split()) for s in found) == "".join(text.split())
    assert all(0 < s.confidence <= 1 for s in found)


def test_confidence_is_that_of_the_sentence(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.encode(" clear lungs."), tokenizer.encode(" no effusion.")
    logs = (*[-0.2] * len(first), *[-1.0 - 0.1 * i for i in range(len(second))], -9.0)
    found = list(split_sentences(Hypothesis((*first, *second, EOS), 0.0, logs), tokenizer))
    assert found[0].confidence == pytest.approx(math.exp(-0.2))
    assert found[1].confidence == pytest.approx(math.exp(-1.0 - 0.1 * (len(second) - 1) / 2))


def test_tokens_that_are_no_text_are_left_out(tokenizer: Tokenizer) -> None:
    code = tokenizer.encode_symbols("<code_1>")
    tokens = (*code, *tokenizer.encode(" clear"), *code, *tokenizer.encode(" lungs."), EOS)
    (sentence,) = split_sentences(Hypothesis(tokens, 0.0, tuple(-0.5 for _ in tokens)), tokenizer)
    assert sentence.text == "clear lungs."


GUARDED = {
    "fine": (" clear lungs. no effusion.", ["clear lungs.", "no effusion."], (), ""),
    "nothing": ("  ", [], (), NO_TEXT),
    "no no no": (" no no no no no no", [], (), REPEATED),
    "no no no after a sentence": (" clear lungs. no no no no", ["clear lungs."], (REPEATED,), ""),
    "what follows a loop is not trusted": (" clear lungs. the the the heart. no effusion.", ["clear lungs."], (REPEATED,), ""),
    "two words in turn": (" normal heart. left right left right left right.", ["normal heart."], (REPEATED,), ""),
    "a stutter": (" normal heart. lunglunglung opacity.", ["normal heart."], (REPEATED,), ""),
    "one sentence for ever": (" no effusion. no effusion. no effusion. no eff", ["no effusion."], (REPEATED,), ""),
    "one word for ever": (" no. no. no. no.", [], (), REPEATED),
    "one sentence twice": (" no effusion. clear lungs. No effusion.", ["no effusion.", "clear lungs."], (SAID_TWICE,), ""),
    "a loop that n-gram blocking hid": (" no a no no b no no c no no d no", [], (), REPEATED),
    "lengths are no loop": (" mass of 2 x 2 x 2 cm.", ["mass of 2 x 2 x 2 cm."], (), ""),
    "a denial of three is no loop": (
        " no effusion, no pneumothorax, no nodule.",
        ["no effusion, no pneumothorax, no nodule."],
        (),
        "",
    ),
}


@pytest.mark.parametrize(("text", "sentences", "notes", "reason"), GUARDED.values(), ids=GUARDED)
def test_guards(tokenizer: Tokenizer, text: str, sentences: list[str], notes: tuple[str, ...], reason: str) -> None:
    found = guarded_sentences(written(tokenizer, text), tokenizer, 400)
    assert ([s.text for s in found.sentences], found.notes, found.reason) == (sentences, notes, reason)


CUT = {
    "an unfinished end is left out": (" clear lungs. there is no", ["clear lungs."], (UNFINISHED,)),
    "the only sentence is marked": (" liver with multiple", ["liver with multiple …"], (CUT_OFF,)),
    "an end is an end": (" clear lungs. no effusion.", ["clear lungs.", "no effusion."], ()),
}


@pytest.mark.parametrize(("text", "sentences", "notes"), CUT.values(), ids=CUT)
def test_a_text_cut_off_at_its_length(tokenizer: Tokenizer, text: str, sentences: list[str], notes: tuple[str, ...]) -> None:
    hypothesis = written(tokenizer, text)
    assert shown(guarded_sentences(hypothesis, tokenizer, len(hypothesis.tokens) - 1)) == (sentences, notes)
    assert guarded_sentences(hypothesis, tokenizer, len(hypothesis.tokens)).notes == ()


def shown(guarded: Guarded) -> tuple[list[str], tuple[str, ...]]:
    return [s.text for s in guarded.sentences], guarded.notes


def test_a_prompt_is_no_part_of_the_text(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode(" no no no no?")
    hypothesis = written(tokenizer, " no no no no? clear lungs.")
    assert hypothesis.tokens[: len(prompt)] == tuple(prompt)
    assert shown(guarded_sentences(hypothesis, tokenizer, 400, begin=len(prompt))) == (["clear lungs."], ())


@given(st.lists(st.sampled_from(["no", "left", "right", "effusion", "2", "x"]), min_size=1, max_size=4), st.integers(3, 6))
def test_any_words_three_times_in_a_row_loop(words: list[str], times: int) -> None:
    assert loops(" ".join(words * times))


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=10, unique=True))
def test_different_words_do_not_loop(words: list[str]) -> None:
    assert not loops(" ".join(words))
