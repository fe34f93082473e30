"""Prompts and their limits. What the reference makes of texts is in the golden tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.drafting.metric_texts import caption_for_metrics, fix_tokenization, summary_for_metrics
from inference.drafting.texts import nli_source, pre_caption, pre_question, question_source, summary_source
from inference.errors import InputError

PROMPTS = {
    "question mark added": (lambda: question_source("Is the heart large"), " is the heart large?"),
    "question mark kept": (lambda: question_source("Effusion?"), " effusion?"),
    "objects": (lambda: question_source("Which side?", "lung&&heart"), " which side? object: lung heart"),
    "hyphen and slash": (lambda: question_source("X-ray/CT?"), " x ray ct?"),
    "pair": (lambda: nli_source("No  Effusion.", "Effusion"), ' can text1 " no effusion. " imply text2 " effusion "?'),
    "pair keeps its slashes": (lambda: nli_source("BP 120/80", "a-b"), ' can text1 " bp 120/80 " imply text2 " a-b "?'),
    "summary": (lambda: summary_source("Type-2 diabetes."), ' what is the summary of article " type 2 diabetes. "?'),
}


@pytest.mark.parametrize(("make", "wanted"), PROMPTS.values(), ids=PROMPTS)
def test_prompts(make: Callable[[], str], wanted: str) -> None:
    assert make() == wanted


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "empty question": (lambda: question_source("  "), "empty"),
    "marks only": (lambda: question_source(" ?!. "), "empty"),
    "81 words": (lambda: question_source("is " * 81), "80 words"),
    "no premise": (lambda: nli_source(" ", "a"), "premise is empty"),
    "no hypothesis": (lambda: nli_source("a", "\n"), "hypothesis is empty"),
    "a long premise": (lambda: nli_source("a " * 513, "a"), "513 words; the model reads 512"),
    "nothing to summarise": (lambda: summary_source(" - / "), "no text to summarise"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_texts_that_cannot_be_asked_are_refused(make: Callable[[], str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_the_limits_themselves_are_accepted() -> None:
    assert question_source("is " * 80).count("is") == 80
    assert nli_source("a " * 512, "b").count(" a") == 512


@given(st.text(max_size=60))
def test_cleaning_is_lower_case_without_hyphens_and_stays_as_it_is(text: str) -> None:
    for clean in (pre_question, pre_caption):
        once = clean(text)
        assert once == once.lower()
        assert not {"-", "/"} & set(once)
        assert "  " not in once
        assert once == once.strip(" ")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60), st.integers(1, 5))
def test_no_more_words_than_asked(text: str, words: int) -> None:
    assert len(pre_question(text, words).split(" ")) <= words


def refused_or_asked(make: Callable[[], str]) -> bool:
    try:
        return bool(make())
    except InputError:
        return True


@given(st.text())
def test_any_text_is_asked_or_refused(text: str) -> None:
    assert refused_or_asked(lambda: question_source(text))
    assert refused_or_asked(lambda: nli_source(text, text))
    assert refused_or_asked(lambda: summary_source(text))


METRICS = {
    "caption": (caption_for_metrics(" nodule of 3.5 cm."), "nodule of 35 cm"),
    "summary": (summary_for_metrics(" Stage 1 ."), "stage # ."),
    "three dots": (fix_tokenization("wait . . . here"), "wait ... here"),
    "quotes": (fix_tokenization("' a ' \" b \""), "` a ' `` b ''"),
    "initials as the reference joins them": (fix_tokenization("U . N . said"), "U.N. . said"),
    "two dashes": (fix_tokenization("a - - b"), "a -- b"),
    "a dash at the end": (fix_tokenization("a -"), "a -"),
    "a dash before a mark": (fix_tokenization("a - ( b"), "a - -lrb- b"),
    "nothing": (fix_tokenization(""), ""),
}


@pytest.mark.parametrize(("found", "wanted"), METRICS.values(), ids=METRICS)
def test_texts_for_the_reference_s_metrics(found: str, wanted: str) -> None:
    assert found == wanted


@given(st.lists(st.sampled_from(["a", "U", "1", ",", ".", "-", "'", '"', "n", "t", "s", "(", "3,0"]), max_size=12))
def test_any_tokens_can_be_rewritten(words: list[str]) -> None:
    fix_tokenization(" ".join(words))
