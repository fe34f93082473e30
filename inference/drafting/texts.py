"""What is said to the model: the reference's cleaning of texts and its prompts, word for word (the leading spaces are meant).

Cleaning is for what goes in. What comes out is never stripped of its punctuation: "3.5 cm" stays "3.5 cm".
"""

from __future__ import annotations

import re
from typing import Final

from inference.errors import InputError

QUESTION_WORDS: Final = 80  # the reference reads no more of a question
PAIR_WORDS: Final = 512  # nor of a premise or a hypothesis
_LEADING: Final = ",.!?*#:;~"


def pre_question(question: str, words: int = QUESTION_WORDS) -> str:
    """A question as the reference's VQA sees it: lower case, hyphens and slashes as spaces, the first ``words`` words."""
    return _words(_plain(question.lower().lstrip(_LEADING).replace("-", " ").replace("/", " ")), words)


def pre_caption(text: str, words: int | None = None) -> str:
    """A text as the reference's captioning and summarising see it."""
    text = text.lower().lstrip(_LEADING).replace("-", " ").replace("/", " ").replace("<person>", "person")
    return _words(_plain(text), words)


def _plain(text: str) -> str:
    return re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")


def _words(text: str, limit: int | None) -> str:
    words = text.split(" ")
    return text if limit is None or len(words) <= limit else " ".join(words[:limit])


def question_source(question: str, objects: str = "") -> str:
    """The VQA prompt. ``objects``: what a detector named on the image, joined by "&&", where the model was trained with it.

    Raises InputError for a question without a word, or of more words than the reference reads: half a question may ask the
    opposite of the whole.
    """
    cleaned = pre_question(question)
    if not re.search(r"\w", cleaned):
        raise InputError("the question is empty: ask something with at least one word")
    if len(pre_question(question, len(question) + 1).split(" ")) > QUESTION_WORDS:
        raise InputError(f"the question is longer than the {QUESTION_WORDS} words that the model reads; ask a shorter one")
    asked = f" {cleaned}" if cleaned.endswith("?") else f" {cleaned}?"
    return asked + (f" object: {' '.join(objects.strip().split('&&'))}" if objects else "")


def nli_source(premise: str, hypothesis: str) -> str:
    """The MedNLI prompt. Raises InputError where either text is empty or longer than the reference reads."""
    for name, text in (("premise", premise), ("hypothesis", hypothesis)):
        words = len(text.split())
        if not words:
            raise InputError(f"the {name} is empty; give a sentence")
        if words > PAIR_WORDS:
            raise InputError(f"the {name} has {words} words; the model reads {PAIR_WORDS}. Give it in parts")
    first, second = (" ".join(text.lower().split()) for text in (premise, hypothesis))
    return f' can text1 " {first} " imply text2 " {second} "?'


SUMMARY_OPENING: Final = ' what is the summary of article " '
SUMMARY_CLOSING: Final = ' "?'


def article(text: str) -> str:
    """A text as it stands between the quotes of the summary prompt. Raises InputError where it has no word."""
    cleaned = pre_caption(text)
    if not re.search(r"\w", cleaned):
        raise InputError("there is no text to summarise")
    return cleaned


def summary_source(text: str) -> str:
    """The summary prompt of a whole text."""
    return f"{SUMMARY_OPENING}{article(text)}{SUMMARY_CLOSING}"
