"""BiomedGPT's tasks, each a function of a loaded model: batched, with the same result alone and in a batch.

All raise DeviceError (retryable) where the device fails, and InputError where a text or a list of candidates cannot be used.
``frames[i]`` goes with the i-th text; None stands for no image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from inference.devices import device_errors
from inference.drafting.generation import Constraint, Hypothesis
from inference.drafting.model import BOS, EOS
from inference.drafting.results import Answer, Choice, DecoderPrompt, Inference, ScoredText, Summary, Task
from inference.drafting.runtime import DRAFTING, Ids, Runtime, in_groups, reason_not_to_read
from inference.drafting.scoring import score_candidates
from inference.drafting.sentences import Guarded, guarded_sentences
from inference.drafting.texts import SUMMARY_CLOSING, SUMMARY_OPENING, nli_source, question_source, summary_source
from inference.drafting.trie import Trie
from inference.errors import InputError
from inference.reading import DraftReport, Frame

NO_DRAFT: Final = "no draft: "
NO_ANSWER: Final = "no answer: "
NO_SUMMARY: Final = "no summary: "


def draft(run: Runtime, frames: Sequence[Frame]) -> list[DraftReport]:
    """One draft per frame, in order; a frame that gives no text has a ``reason``."""
    source = run.source(run.config.caption.prompt)
    search = run.config.caption.search

    def batch(members: list[int]) -> list[DraftReport]:
        chosen = [frames[i] for i in members]
        if why := reason_not_to_read(chosen[0]):
            return [DraftReport((), reason=NO_DRAFT + why, source=frame.source) for frame in chosen]
        found = run.search(run.encode([source] * len(chosen), chosen), search, constraint=run.text_only)
        texts = [guarded_sentences(hypotheses[0], run.tokenizer, search.max_length) for hypotheses in found]
        return [_report(text, frame) for text, frame in zip(texts, chosen, strict=True)]

    return in_groups(len(frames), lambda i: reason_not_to_read(frames[i]), batch)


def ask(
    run: Runtime, frames: Sequence[Frame | None], questions: Sequence[str], among: Sequence[str] | None = None
) -> list[Answer]:
    """An answer to each question, in the model's own words or, with ``among``, one of these found by constrained decoding.

    ``choose`` scores all of a list instead; constrained decoding follows only the best beams, for lists of thousands.
    """
    settings, search = run.config.vqa, run.config.search(Task.VQA)
    sources = [run.source(question_source(question)) for question in questions]
    constraint, room = (run.text_only, 1) if among is None else _tree(run, among)
    prefixes = [run.prefix(source, settings.decoder_prompt, room) for source in sources]
    if any(len(prefix) + room > search.max_length for prefix in prefixes):
        raise InputError(f"the question leaves no room for an answer within {search.max_length} tokens; ask a shorter one")

    def batch(members: list[int]) -> list[Answer]:
        chosen = [frames[i] for i in members]
        if why := reason_not_to_read(chosen[0]):
            return [Answer("", 0.0, NO_ANSWER + why, source=frame.source) for frame in chosen if frame]
        encoded = run.encode([sources[i] for i in members], _images(chosen))
        found = run.search(encoded, search, [prefixes[i] for i in members], constraint)
        return [_answer(run, hypotheses[0], len(prefixes[i]), frames[i]) for i, hypotheses in zip(members, found, strict=True)]

    return in_groups(len(frames), lambda i: _kind(frames[i]), batch)


def choose(
    run: Runtime,
    frames: Sequence[Frame | None],
    questions: Sequence[str],
    candidates: Sequence[str],
    temperature: float | None = None,
) -> list[Choice]:
    """Every candidate answer to each question, scored. ``temperature`` None: the bundle's."""
    settings = run.config.vqa
    sources = [run.source(question_source(question)) for question in questions]
    scorer = CandidateScorer(
        run, candidates, settings.decoder_prompt, settings.temperature if temperature is None else temperature
    )
    return scorer.score(frames, sources)


def classify(run: Runtime, frames: Sequence[Frame], labels: Sequence[str], temperature: float | None = None) -> list[Choice]:
    """Every label of each image, scored."""
    settings = run.config.classification
    sources = [run.source(settings.prompt)] * len(frames)
    scorer = CandidateScorer(run, labels, DecoderPrompt.NONE, settings.temperature if temperature is None else temperature)
    return scorer.score(frames, sources)


def label_texts(run: Runtime, prompts: Sequence[str], labels: Sequence[str], temperature: float = 1.0) -> list[Choice]:
    """Every label of each text, scored: any text task whose answers are known. A prompt is put to the model as it is."""
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("there is an empty text among those to label")
    sources = [run.source(f" {prompt.strip()}") for prompt in prompts]
    scorer = CandidateScorer(run, labels, run.config.nli.decoder_prompt, temperature)
    return scorer.score([None] * len(sources), sources)


def infer(run: Runtime, pairs: Sequence[tuple[str, str]]) -> list[Inference]:
    """What each premise says of its hypothesis: (premise, hypothesis) pairs."""
    settings = run.config.nli
    sources = [run.source(nli_source(premise, hypothesis)) for premise, hypothesis in pairs]
    choices = CandidateScorer(run, settings.labels, settings.decoder_prompt, 1.0).score([None] * len(sources), sources)
    return [Inference(*(score.probability for score in choice.scores)) for choice in choices]


def summarise(run: Runtime, texts: Sequence[str]) -> list[Summary]:
    """A shorter text of each: of findings their impression, of a report its summary."""
    search = run.config.search(Task.SUMMARY)
    sources = [summary_ids(run, text) for text in texts]

    def batch(members: list[int]) -> list[Summary]:
        found = run.search(run.encode([sources[i][0] for i in members]), search, constraint=run.text_only)
        texts = [guarded_sentences(hypotheses[0], run.tokenizer, search.max_length) for hypotheses in found]
        return [_summary(text, cut=sources[i][1]) for i, text in zip(members, texts, strict=True)]

    return in_groups(len(texts), lambda _: None, batch)


def summary_ids(run: Runtime, text: str) -> tuple[Ids, bool]:
    """The ids of the summary prompt, bos and eos included, and whether the text had to be cut.

    The reference cuts the whole prompt at its 512 tokens and so loses the closing quote of a long text. Here the text is cut
    and the quote kept: nearly all texts that the model was trained with had it, and it says that the text has ended.
    """
    limit = min(run.config.summary.tokens, run.config.model.max_positions - 2)
    whole = run.tokenizer.encode(summary_source(text))
    if len(whole) <= limit:
        return [BOS, *whole, EOS], False
    closing = run.tokenizer.encode(SUMMARY_CLOSING)
    if len(run.tokenizer.encode(SUMMARY_OPENING)) + len(closing) > limit:
        raise InputError(f"the summary prompt alone fills the {limit} tokens that this model reads")
    return [BOS, *whole[: limit - len(closing)], *closing, EOS], True


@dataclass(frozen=True, slots=True, eq=False)
class CandidateScorer:
    """Scores one list of candidates after any number of prompts."""

    run: Runtime
    candidates: Sequence[str]
    decoder_prompt: DecoderPrompt
    temperature: float

    def score(self, frames: Sequence[Frame | None], sources: Sequence[Ids]) -> list[Choice]:
        if not self.temperature > 0:
            raise InputError("the temperature of answer scores must be above 0")
        trie = self.run.candidates(self.candidates)
        prefixes = [self.run.prefix(source, self.decoder_prompt, 1 + trie.depth) for source in sources]

        def batch(members: list[int]) -> list[Choice]:
            chosen = [frames[i] for i in members]
            if why := reason_not_to_read(chosen[0]):
                return [Choice((), NO_ANSWER + why, frame.source) for frame in chosen if frame]
            return self._batch(trie, [prefixes[i] for i in members], [sources[i] for i in members], chosen)

        return in_groups(len(frames), lambda i: _kind(frames[i]), batch)

    def _batch(
        self, trie: Trie, prefixes: Sequence[Ids], sources: Sequence[Ids], frames: Sequence[Frame | None]
    ) -> list[Choice]:
        encoded = self.run.encode(sources, _images(frames))
        with device_errors(self.run.device, DRAFTING):
            logs = score_candidates(self.run.model, encoded, prefixes, trie).cpu()  # (B, C)
        shares = torch.softmax(logs.double() / self.temperature, dim=1)
        return [
            Choice(
                tuple(map(ScoredText, self.candidates, row_shares, row_logs)),
                source=frame.source if frame else None,
            )
            for frame, row_shares, row_logs in zip(frames, shares.tolist(), logs.tolist(), strict=True)
        ]


def _tree(run: Runtime, among: Sequence[str]) -> tuple[Constraint, int]:
    """The candidates and the positions that the longest needs."""
    trie = run.candidates(among)
    return trie, trie.depth


def _kind(frame: Frame | None) -> tuple[bool, str]:
    return frame is None, reason_not_to_read(frame)


def _images(frames: Sequence[Frame | None]) -> list[Frame] | None:
    return [frame for frame in frames if frame is not None] or None


def _report(text: Guarded, frame: Frame) -> DraftReport:
    reason = NO_DRAFT + text.reason if text.reason else ""
    sentences = tuple(replace(sentence, source=frame.source) for sentence in text.sentences)
    return DraftReport(sentences, reason=reason, source=frame.source, notes=text.notes)


def _answer(run: Runtime, hypothesis: Hypothesis, begin: int, frame: Frame | None) -> Answer:
    text = guarded_sentences(hypothesis, run.tokenizer, run.config.search(Task.VQA).max_length, begin=begin)
    source = frame.source if frame else None
    if not text.sentences:
        return Answer("", 0.0, NO_ANSWER + text.reason, source=source)
    logs = hypothesis.log_probabilities[begin:]
    words = " ".join(sentence.text for sentence in text.sentences)
    return Answer(words, math.exp(sum(logs) / len(logs)), notes=text.notes, source=source)


def _summary(text: Guarded, *, cut: bool) -> Summary:
    return Summary(text.sentences, NO_SUMMARY + text.reason if text.reason else "", cut, text.notes)
