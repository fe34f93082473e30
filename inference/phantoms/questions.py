"""Questions about a drawn film and the answers its facts give, for teaching and for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from inference.phantoms.facts import DEVICES, NAMES, Fact
from inference.phantoms.lesions import KEYS

T = TypeVar("T")
KINDS: Final = ("closed", "side", "size", "zone", "device", "list", "count", "modality")
_SHARES: Final = (0.44, 0.12, 0.09, 0.09, 0.06, 0.07, 0.06, 0.07)  # of the questions of one film, by kind
LABELS: Final = ("normal", *NAMES.values())  # for classification
_ARTICLES: Final = {"pleural_effusion": "a ", "pneumothorax": "a ", "nodule": "a ", "device": "a "}
_OTHER_NAMES: Final = {"nodule": "lung nodule", "device": "medical device"}
_PRESENT: Final = (
    "is there {thing}?",
    "is {thing} present?",
    "is {thing} seen?",
    "is there evidence of {thing}?",
    "does the image show {thing}?",
    "does this film show {thing}?",
    "can you see {thing}?",
    "any {bare}?",
)
_SIDE: Final = (
    "on which side is the {bare}?",
    "which side is the {bare} on?",
    "is the {bare} on the left or on the right?",
)
_SIZE: Final = ("how large is the {bare}?", "what size is the {bare}?", "is the {bare} small, moderate or large?")
_ZONE: Final = ("in which zone is the {bare}?", "which zone of the lung shows the {bare}?")
_DEVICE: Final = ("what device is in place?", "which device is seen?", "what kind of device is there?")
_LIST: Final = (
    "what is abnormal?",
    "which findings are there?",
    "what abnormality is seen?",
    "what does the image show?",
    "what is the diagnosis?",
)
_COUNT: Final = ("how many findings are there?", "how many abnormalities are seen?")
_MODALITY: Final = ("what modality is this?", "what kind of image is this?", "which imaging modality is shown?")
_BODY: Final = ("which part of the body is shown?", "what part of the body is this?")
_NUMBERS: Final = ("zero", "one", "two", "three")
NOTHING: Final = "none"
_SIDED: Final = ("pleural_effusion", "pneumothorax", "consolidation", "nodule")


@dataclass(frozen=True, slots=True)
class Question:
    """``text`` as a person types it; ``choices`` are the answers a closed one allows, empty for an open one."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()


def ask(facts: Sequence[Fact], rng: np.random.Generator, kind: str = "") -> Question:
    """One question about a film with these facts; of ``kind``, or of any."""
    chosen = kind or str(rng.choice(KINDS, p=_SHARES))
    return _ASKERS[chosen](facts, rng)


def ask_of_slice(rng: np.random.Generator) -> Question:
    """One question about a CT slice, for the contrast: what kind of image it is."""
    return _modality("ct", rng)


def label_of(facts: Sequence[Fact], rng: np.random.Generator) -> str:
    """A right label among ``LABELS``: one of the findings, or normal."""
    return NAMES[_pick(rng, facts).key] if facts else LABELS[0]


def _closed(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    way = rng.random()
    if way < 0.62:
        return _finding(facts, rng)
    if way < 0.74:
        return _sided(facts, rng)
    if way < 0.84:
        kind = str(rng.choice(DEVICES))
        return _yes_no(f"is there a {kind}?", any(fact.kind == kind for fact in facts))
    keys = {fact.key for fact in facts}
    clear = not keys & {"pleural_effusion", "pneumothorax", "consolidation", "nodule"}
    special = (
        ("is the heart enlarged?", "cardiomegaly" in keys),
        ("is the heart size normal?", "cardiomegaly" not in keys),
        ("are the lungs clear?", clear),
        ("is the film normal?", not keys),
        ("is this a normal image?", not keys),
        ("is there any abnormality?", bool(keys)),
    )
    return _yes_no(*_pick(rng, special))


def _finding(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    present = [fact.key for fact in facts]
    absent = [key for key in KEYS if key not in present]
    key = str(rng.choice(present if present and rng.random() < 0.5 else absent))
    return _yes_no(_pick(rng, _PRESENT).format(thing=_thing(key, rng), bare=NAMES[key]), key in present)


def _sided(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    """About one side: the other side of what is there, as often as the right one."""
    there = [fact for fact in facts if fact.key in _SIDED]
    key = _pick(rng, there).key if there and rng.random() < 0.8 else str(rng.choice(_SIDED))
    side = str(rng.choice(["left", "right"]))
    forms = ("is there {article}{side} {bare}?", "is there {article}{bare} on the {side}?")
    text = _pick(rng, forms).format(article=_ARTICLES.get(key, ""), side=side, bare=NAMES[key])
    return _yes_no(text, any(fact.key == key and fact.side == side for fact in facts))


def _side(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    return _about("side", _SIDE, [fact for fact in facts if fact.side], _SIDED, ("left", "right", NOTHING), rng)


def _size(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    keys = ("pleural_effusion", "pneumothorax")
    return _about("size", _SIZE, [fact for fact in facts if fact.size], keys, ("small", "moderate", "large", NOTHING), rng)


def _zone(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    keys = ("consolidation", "nodule")
    return _about("zone", _ZONE, [fact for fact in facts if fact.zone], keys, ("upper", "mid", "lower", NOTHING), rng)


def _about(
    what: str,
    forms: Sequence[str],
    there: Sequence[Fact],
    keys: Sequence[str],
    choices: tuple[str, ...],
    rng: np.random.Generator,
) -> Question:
    """The side, size or zone of a finding; "none" where it is absent."""
    absent = [key for key in keys if key not in {fact.key for fact in there}]
    if there and (not absent or rng.random() < 0.85):
        fact = _pick(rng, there)
        return Question(what, _pick(rng, forms).format(bare=fact.name), getattr(fact, what), choices)
    return Question(what, _pick(rng, forms).format(bare=NAMES[_pick(rng, absent)]), NOTHING, choices)


def _device(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    kind = next((fact.kind for fact in facts if fact.kind), NOTHING)
    return Question("device", _pick(rng, _DEVICE), kind, (*DEVICES, NOTHING))


def _list(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    return Question("list", _pick(rng, _LIST), " and ".join(fact.name for fact in facts) or "no abnormality")


def _count(facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    return Question("count", _pick(rng, _COUNT), _NUMBERS[len(facts)], _NUMBERS)


def _any_modality(_facts: Sequence[Fact], rng: np.random.Generator) -> Question:
    return _modality("x ray", rng)


def _modality(modality: str, rng: np.random.Generator) -> Question:
    way = rng.random()
    if way < 0.5:
        return Question("modality", _pick(rng, _MODALITY), modality, ("x ray", "ct"))
    if way < 0.7:
        return Question("modality", _pick(rng, _BODY), "chest", ("chest", "hand", "abdomen", "head"))
    asked = str(rng.choice(["x ray", "ct"]))
    form = _pick(rng, ("is this {}?", "is this image {}?"))
    return Question(
        "modality", form.format("an x-ray" if asked == "x ray" else "a ct"), _word(asked == modality), ("yes", "no")
    )


def _thing(key: str, rng: np.random.Generator) -> str:
    name = _OTHER_NAMES.get(key, NAMES[key]) if rng.random() < 0.5 else NAMES[key]
    return _ARTICLES.get(key, "") + name


def _yes_no(text: str, true: bool) -> Question:
    return Question("closed", text, _word(true), ("yes", "no"))


def _word(true: bool) -> str:
    return "yes" if true else "no"


def _pick(rng: np.random.Generator, things: Sequence[T]) -> T:
    return things[int(rng.integers(len(things)))]


_ASKERS: Final = {
    "closed": _closed,
    "side": _side,
    "size": _size,
    "zone": _zone,
    "device": _device,
    "list": _list,
    "count": _count,
    "modality": _any_modality,
}
