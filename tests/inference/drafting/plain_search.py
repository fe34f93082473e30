"""A beam search written plainly: lists of tokens, the whole of each hypothesis through the model again at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from inference.drafting.generation import GenerationSettings
from inference.drafting.model import BOS, EOS, PAD, UNKNOWN, Encoded, Ofa

Allows = Callable[[Sequence[int], int], bool]  # (tokens after the prefix, next token)
Found = list[tuple[float, tuple[int, ...]]]


def plain_search(
    model: Ofa, encoded: Encoded, settings: GenerationSettings, prefix: Sequence[int] = (), allows: Allows | None = None
) -> Found:
    """One image: (score, tokens with eos), best first."""
    beams: list[tuple[float, list[int]]] = [(0.0, [BOS])]
    ended: Found = []
    for step in range(settings.max_length + 1):
        logits = decode_again(model, encoded, [tokens for _, tokens in beams])
        choices = []
        for (total, tokens), row in zip(beams, logits, strict=True):
            logs = next_logs(row, tokens, settings, prefix, allows)
            choices += [(total + log, [*tokens, token]) for token, log in enumerate(logs)]
        choices.sort(key=lambda choice: -choice[0])
        choices = choices[: 2 * settings.beam]
        for total, tokens in choices[: settings.beam]:
            if tokens[-1] == EOS and total > -math.inf and len(ended) < settings.beam:
                score = total / (step + 1) ** settings.length_penalty if settings.normalise else total
                ended.append((score, tuple(tokens[1:])))
        if len(ended) == settings.beam or step == settings.max_length:
            break
        beams = [choice for choice in choices if choice[1][-1] != EOS or choice[0] == -math.inf][: settings.beam]
    return sorted(ended, key=lambda e: -e[0])


def decode_again(model: Ofa, encoded: Encoded, rows: list[list[int]]) -> list[list[float]]:
    """The logits after each row of tokens, by a teacher-forced pass over all of them."""
    target = torch.tensor(rows)
    copies = Encoded(encoded.out.expand(len(rows), -1, -1), encoded.padding.expand(len(rows), -1), encoded.positions)
    found: list[list[float]] = model.decode(target, model.decoder.begin(copies, target.shape[1]))[:, -1].tolist()
    return found


def next_logs(
    logits: list[float], tokens: list[int], settings: GenerationSettings, prefix: Sequence[int], allows: Allows | None
) -> list[float]:
    """Log-probabilities of each next token."""
    step = len(tokens) - 1
    if allows is not None and step >= len(prefix):
        logits = [x if allows(tokens[1 + len(prefix) :], token) else -math.inf for token, x in enumerate(logits)]
    logs = log_softmax([x / settings.temperature for x in logits])
    logs[UNKNOWN] -= settings.unknown_penalty
    n = settings.no_repeat_ngram
    seen = {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)} if n else set()
    forced = prefix[step] if step < min(len(prefix), settings.max_length) else None
    for token in range(len(logs)):
        repeats = n > 0 and (*tokens[len(tokens) - n + 1 :], token) in seen
        late = step == settings.max_length and token != EOS
        early = forced is None and step < settings.min_length and token == EOS
        if token == PAD or repeats or late or early or (forced is not None and token != forced):
            logs[token] = -math.inf
    return logs


def log_softmax(values: list[float]) -> list[float]:
    peak = max(values)
    if peak == -math.inf:
        return [-math.inf] * len(values)
    mass = peak + math.log(sum(math.exp(value - peak) for value in values))
    return [value - mass for value in values]
