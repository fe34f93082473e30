"""Any search over any tiny model finds what the plain search finds, alone, in a batch, folded, and from recorded steps.

In float64, so that rounding decides nothing: then identical ids are a theorem and not a matter of luck.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inference.drafting.generation import Constraint, GenerationSettings, Hypothesis, TokenSet, generate
from inference.drafting.graphs import Recorder, bucket
from inference.drafting.layers import OfaConfig
from inference.drafting.model import EOS, PAD, Encoded, Ofa
from inference.drafting.packing import fold
from inference.drafting.search import _order
from tests.inference.drafting.plain_search import Allows, plain_search

VOCABULARY = 24
CONFIG = OfaConfig(VOCABULARY, 16, 24, 2, 1, 2, (1, 1, 1), 4, image_bucket=2, token_bucket=6, max_positions=40, code_window=2)
LIMITED = settings(max_examples=25, deadline=None, derandomize=True)

searches = st.builds(
    GenerationSettings,
    beam=st.sampled_from([1, 4, 5, 10]),
    max_length=st.integers(4, 9),
    min_length=st.integers(0, 4),
    no_repeat_ngram=st.integers(0, 3),
    length_penalty=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
    normalise=st.booleans(),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
    unknown_penalty=st.sampled_from([0.0, 2.0]),
)


@dataclass(frozen=True)
class Case:
    model: Ofa
    encoded: Encoded

    def image(self, i: int) -> Encoded:
        return Encoded(self.encoded.out[i : i + 1], self.encoded.padding[i : i + 1], self.encoded.positions)


def case(seed: int, images: int, ending: float) -> Case:
    """Random weights; the greater ``ending``, the sooner hypotheses end, each image at its own step."""
    torch.manual_seed(seed)
    model = Ofa(CONFIG).eval().double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.embed_tokens.weight[EOS] = model.embed_tokens.weight[4:12].mean(0) * ending
    tokens = torch.randint(4, VOCABULARY, (images, 5))
    tokens[torch.arange(5) >= torch.randint(2, 6, (images, 1))] = PAD
    return Case(model, model.encode(tokens, torch.randn(images, 3, 32, 32)))


cases = st.builds(case, st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.5, 2.0, 4.0]))


@dataclass(frozen=True)
class NoDescent:
    """A constraint that looks at what was written: no token may be followed by one more than five below it."""

    def allowed(self, tokens: Tensor, begin: Tensor) -> Tensor:
        everything = torch.arange(VOCABULARY) >= tokens[:, -1:] - 5
        everything[:, EOS] = True
        return everything | (begin >= tokens.shape[1])[:, None]


def no_descent(own: Sequence[int], token: int) -> bool:
    return token == EOS or not own or token >= own[-1] - 5


EVEN = torch.tensor([token % 2 == 0 for token in range(VOCABULARY)])
CONSTRAINTS: dict[str, tuple[Constraint | None, Allows | None]] = {
    "none": (None, None),
    "set": (TokenSet(EVEN), lambda _, token: token % 2 == 0),
    "history": (NoDescent(), no_descent),
    "nothing": (TokenSet(torch.zeros(VOCABULARY, dtype=torch.bool)), lambda *_: False),
}


@LIMITED
@given(cases, searches, st.sampled_from(sorted(CONSTRAINTS)))
def test_the_plain_search_is_found(made: Case, asked: GenerationSettings, name: str) -> None:
    constraint, allows = CONSTRAINTS[name]
    found = generate(made.model, made.encoded, asked, constraint=constraint)
    for i, row in enumerate(found):
        same(row, plain_search(made.model, made.image(i), asked, (), allows))


@LIMITED
@given(cases, searches, st.data())
def test_a_prefix_is_forced_and_what_follows_constrained(made: Case, asked: GenerationSettings, data: st.DataObject) -> None:
    one = st.lists(st.integers(4, VOCABULARY - 1), max_size=3)
    rows = [data.draw(one) for _ in made.encoded.out]
    longest = max(map(len, rows))
    if longest == 0:
        return
    prefix = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
    # While one image still has a prefix, fairseq lets none be too short: the plain search knows of one image only.
    asked = replace(asked, min_length=0)
    constraint, allows = CONSTRAINTS[data.draw(st.sampled_from(["none", "set", "history"]))]
    found = generate(made.model, made.encoded, asked, prefix, constraint)
    for i, row in enumerate(found):
        same(row, plain_search(made.model, made.image(i), asked, rows[i], allows))


@LIMITED
@given(cases, searches)
def test_a_folded_model_finds_the_same(made: Case, asked: GenerationSettings) -> None:
    folded = fold(copy.deepcopy(made.model))
    assert tokens_of(generate(folded, made.encoded, asked)) == tokens_of(generate(made.model, made.encoded, asked))


class Replay:
    """As ``graphs.CudaGraphs``, on the CPU: from the third time on, the work recorded first is done in place of the given."""

    def __init__(self) -> None:
        self.recorded: dict[Hashable, Callable[[], None]] = {}
        self.warm: set[Hashable] = set()
        self.replayed = 0

    def __call__(self, key: Hashable, work: Callable[[], None], /) -> None:
        if key not in self.warm:
            self.warm.add(key)
            work()
        else:
            self.replayed += key in self.recorded
            self.recorded.setdefault(key, work)()


@LIMITED
@given(cases, searches, st.booleans())
def test_recorded_steps_serve_other_images(made: Case, asked: GenerationSettings, limited: bool) -> None:
    constraint, made_runs = TokenSet(EVEN) if limited else None, list[Replay]()
    recorder = Recorder(new_run=lambda: made_runs.append(Replay()) or made_runs[-1])  # type: ignore[func-returns-value]
    flipped = Encoded(made.encoded.out.flip(0), made.encoded.padding.flip(0), made.encoded.positions)
    for encoded in (made.encoded, flipped, made.encoded):
        wanted = generate(made.model, encoded, asked, constraint=constraint)
        assert tokens_of(recorder.generate(made.model, encoded, asked, constraint)) == tokens_of(wanted)
    assert len(made_runs) == 1
    assert made_runs[0].replayed > 0


def test_the_recorder_is_used_where_it_can_be() -> None:
    made = case(3, 3, 2.0)
    asked = GenerationSettings(beam=4, max_length=8)
    wanted = tokens_of(generate(made.model, made.encoded, asked))
    runs = list[Replay]()
    made.model.recorder = Recorder(new_run=lambda: runs.append(Replay()) or runs[-1])  # type: ignore[func-returns-value]
    assert tokens_of(generate(made.model, made.encoded, asked)) == wanted
    generate(made.model, made.encoded, asked, constraint=NoDescent())
    assert len(runs) == 1  # what depends on the words so far is not recorded


def test_only_some_kinds_of_search_are_kept() -> None:
    made, recorder = case(5, 2, 2.0), Recorder(new_run=Replay)
    for length in range(3, 12):
        recorder.generate(made.model, made.encoded, GenerationSettings(beam=2, max_length=length), None)
    assert len(recorder._searches) == 4


@pytest.mark.parametrize(("images", "room"), [(1, 1), (2, 2), (3, 4), (5, 8), (64, 64), (65, 128)])
def test_buckets(images: int, room: int) -> None:
    assert bucket(images) == room


@given(st.sets(st.integers(0, 20), min_size=1), st.integers(0, 5))
def test_who_goes_on_stays_or_moves_to_the_front(going: set[int], more: int) -> None:
    places = sorted(going)
    order = _order(places, len(places) + more)
    assert going <= set(order)
    assert len(order) == len(places) + more
    assert all(source == place or source >= len(order) for place, source in enumerate(order))


def test_no_images_no_hypotheses() -> None:
    made = case(1, 2, 2.0)
    none = Encoded(made.encoded.out[:0], made.encoded.padding[:0], made.encoded.positions)
    assert generate(made.model, none, GenerationSettings(beam=2)) == []


def same(found: list[Hypothesis], plain: list[tuple[float, tuple[int, ...]]]) -> None:
    assert [h.tokens for h in found] == [tokens for _, tokens in plain]
    assert [h.score for h in found] == pytest.approx([score for score, _ in plain], abs=1e-9)
    assert all(len(h.log_probabilities) == len(h.tokens) for h in found)


def tokens_of(found: list[list[Hypothesis]]) -> list[list[tuple[int, ...]]]:
    return [[h.tokens for h in row] for row in found]
