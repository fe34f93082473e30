"""A hypothesis as sentences a person may read: split, each with its confidence, and freed of what a model does wrong.

A language model can fall into a loop ("no no no …") or be cut off at its length. Neither is shown as a finding: the loop and
what follows it are left out, an unfinished end too, and what was left out is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from inference.drafting.generation import Hypothesis
from inference.drafting.tokenizer import Tokenizer
from inference.reading import Sentence

REPEATED: Final = "the model repeated itself; its text was cut before the repetition"
SAID_TWICE: Final = "a sentence that the model wrote again was left out"
UNFINISHED: Final = "the last sentence was cut off at the model's length and left out"
CUT_OFF: Final = "the text ends where the model's length ended"
NO_TEXT: Final = "the model gave no text"

_END: Final = re.compile(r"[.!?]+[\"')\]]*(?=\s)")
# Words whose full stop ends no sentence. "no." is not among them: it ends an answer more often than it means "number".
ABBREVIATIONS: Final = frozenset(
    ("dr", "mr", "mrs", "ms", "prof", "approx", "ca", "cf", "eg", "e.g", "ie", "i.e", "vs", "fig", "figs", "incl", "resp", "st")
)
_LONGEST_LOOP: Final = 12  # tokens; a longer unit is a sentence, and found as one
_LOOPS: Final = 3  # times in a row that no report says the same words
_STUTTER: Final = re.compile(r"([^\W\d_]{2,}?)\1{2,}")  # "namesnamesnames": three times without a space
_PUT_TOGETHER: Final = 0.5  # share of one word in a sentence of eight or more that blocking of n-grams has hidden a loop in
_ENDED: Final = (".", "!", "?")


@dataclass(frozen=True, slots=True)
class Guarded:
    """Sentences fit to be shown; ``notes`` say what was left out; ``reason`` why nothing is left, where nothing is."""

    sentences: tuple[Sentence, ...]
    notes: tuple[str, ...] = ()
    reason: str = ""


def guarded_sentences(hypothesis: Hypothesis, tokenizer: Tokenizer, max_length: int, *, begin: int = 0) -> Guarded:
    """The sentences of a hypothesis that may be shown. ``begin``: tokens of its prefix, which are no part of the text.

    ``max_length``: of the search that made it; a hypothesis of this length was cut off.
    """
    own = replace(hypothesis, tokens=hypothesis.tokens[begin:], log_probabilities=hypothesis.log_probabilities[begin:])
    found = list(split_sentences(own, tokenizer))
    if not found:
        return Guarded((), reason=NO_TEXT)
    kept, notes = _before_a_loop(found)
    if len(kept) == len(found) and len(hypothesis.tokens) > max_length and not kept[-1].text.endswith(_ENDED):
        kept, notes = _without_end(kept)
    once = _once(kept)
    if len(once) < len(kept):
        notes.append(SAID_TWICE)
    return Guarded(tuple(once), tuple(notes)) if once else Guarded((), reason=notes[0])


def split_sentences(hypothesis: Hypothesis, tokenizer: Tokenizer) -> Iterator[Sentence]:
    """The hypothesis as sentences, each with exp(mean log-probability) of the tokens that end in it.

    Tokens that are no text (image codes, locations) are left out.
    """
    pairs = zip(hypothesis.tokens, hypothesis.log_probabilities, strict=True)
    words = [(token, log) for token, log in pairs if tokenizer.is_text(token)]
    text = tokenizer.decode(token for token, _ in words)
    upto = [len(tokenizer.decode(token for token, _ in words[: i + 1])) for i in range(len(words))]
    for start, end in _spans(text):
        logs = [log for (_, log), place in zip(words, upto, strict=True) if start < place <= end]
        sentence = text[start:end].strip()
        if sentence and logs:
            yield Sentence(sentence, math.exp(sum(logs) / len(logs)))


def split_text(text: str) -> list[str]:
    """The sentences of a text that a person or another model wrote."""
    return [part for start, end in _spans(text) if (part := text[start:end].strip())]


def _spans(text: str) -> list[tuple[int, int]]:
    """Where each sentence begins and ends."""
    spans, start = [], 0
    for match in _END.finditer(text):
        if _ends_sentence(text[start : match.end()], text[match.end() :]):
            spans.append((start, match.end()))
            start = match.end()
    return [*spans, (start, len(text))]


def _ends_sentence(before: str, after: str) -> bool:
    """Whether the mark at the end of ``before`` ends a sentence: not after "approx.", in "3. 5 cm" or after a bare "1."."""
    if not before.endswith("."):
        return True
    words = before.split()
    last = words[-1].rstrip(".").lstrip("(\"'").lower()
    if last in ABBREVIATIONS or not any(c.isalpha() for c in before):
        return False
    return not (last[-1:].isdigit() and re.match(r"\s\d", after))


def _before_a_loop(sentences: Sequence[Sentence]) -> tuple[list[Sentence], list[str]]:
    """The sentences before the first that loops, or that is said again and again."""
    keys = [said(sentence.text) for sentence in sentences]
    for i, sentence in enumerate(sentences):
        again = len(keys) > i + 2 and keys[i] == keys[i + 1] == keys[i + 2]
        if loops(sentence.text):
            return list(sentences[:i]), [REPEATED]
        if again:
            return list(sentences[: i + (len(keys[i]) > 1)]), [REPEATED]
    return list(sentences), []


def loops(text: str) -> bool:
    """Whether a text goes in circles: words three times in a row, a stutter inside a word, or one word nearly all of it."""
    words = said(text)
    if any(_STUTTER.search(word) for word in words):
        return True
    for size in range(1, min(_LONGEST_LOOP, len(words) // _LOOPS) + 1):
        run = 0
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            if run >= size * (_LOOPS - 1):
                return True
    return len(words) >= 8 and max(words.count(word) for word in set(words)) > _PUT_TOGETHER * len(words)


def _without_end(sentences: list[Sentence]) -> tuple[list[Sentence], list[str]]:
    """Without an unfinished last sentence; marked, where it is the only one (models of captions without full stops)."""
    if len(sentences) > 1:
        return sentences[:-1], [UNFINISHED]
    return [replace(sentences[0], text=f"{sentences[0].text} …")], [CUT_OFF]


def _once(sentences: Sequence[Sentence]) -> list[Sentence]:
    first: dict[tuple[str, ...], Sentence] = {}
    for sentence in sentences:
        first.setdefault(said(sentence.text), sentence)
    return list(first.values())


def said(text: str) -> tuple[str, ...]:
    """What two sentences share that say the same in the same words."""
    return tuple(re.findall(r"\w+(?:[.,]\d+)*", text.lower()))
