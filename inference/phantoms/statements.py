"""Statements as phantom reports make them, which of them follow from which, and what remains of them in an impression.

What the tiny model learns of natural-language inference and of summaries is taught from these alone. A statement is about one
thing, present or absent, with attributes: "small left pneumothorax." says that one with the attributes small and left is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from inference.phantoms.facts import DEVICES, SIDES, ZONES
from inference.phantoms.lesions import SIZES

NORMAL: Final = "no acute abnormality."
DRAWN: Final = ("pleural effusion", "pneumothorax", "consolidation", "cardiomegaly", "nodule", "device")
# Never drawn: from these the model learns to compare words rather than to know six of them by heart.
OTHERS: Final = (
    "pneumonia",
    "pneumomediastinum",
    "pulmonary edema",
    "atelectasis",
    "rib fracture",
    "emphysema",
    "fibrosis",
    "hiatal hernia",
    "mass",
    "fracture",
    "abscess",
    "scoliosis",
    "calcification",
    "granuloma",
    "pericardial effusion",
    "lymphadenopathy",
    "bronchiectasis",
    "opacity",
)
_MASS_NOUNS: Final = frozenset(
    {"consolidation", "cardiomegaly", "pneumonia", "pneumomediastinum", "pulmonary edema", "atelectasis", "emphysema"}
    | {"fibrosis", "scoliosis", "calcification", "lymphadenopathy", "bronchiectasis"}
)
_SYNONYMS: Final = {
    "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
    "device": ("device", "medical device"),
    "fibrosis": ("fibrosis", "lung fibrosis", "pulmonary fibrosis"),
    "cardiomegaly": ("cardiomegaly", "an enlarged heart"),
}
_ABSENT: Final = ("no {bare}.", "there is no {bare}.", "no evidence of {bare}.", "no {bare} is seen.", "without {bare}.")
_PRESENT: Final = ("there is {thing}.", "{thing} is seen.", "{thing}.", "there is {bare}.", "{thing} is present.")
CLEAR: Final = ("the lungs are clear.", "clear lungs.")
CLEARED: Final = ("consolidation", "nodule")  # what clear lungs deny
_HEART: Final = ("the heart size is normal.", "normal heart size.")
_NO_DEVICE: Final = (*DEVICES, "")


class Relation(StrEnum):
    """What a premise says of a hypothesis, in the words of the answer."""

    ENTAILMENT = "yes"
    CONTRADICTION = "no"
    NEUTRAL = "maybe"


@dataclass(frozen=True, slots=True)
class Statement:
    """``attributes``: pairs of name and value, such as ("side", "left"); those of an absence narrow what is denied."""

    text: str
    thing: str
    present: bool
    attributes: frozenset[tuple[str, str]] = frozenset()


def relation(premise: Sequence[Statement], hypothesis: Statement) -> Relation:
    """The strongest relation of any statement of the premise: one that affirms decides before one that denies."""
    relations = [_relation(statement, hypothesis) for statement in premise]
    order = (Relation.ENTAILMENT, Relation.CONTRADICTION)
    return next((found for found in order if found in relations), Relation.NEUTRAL)


def _relation(premise: Statement, hypothesis: Statement) -> Relation:
    if premise.thing != hypothesis.thing:
        return Relation.NEUTRAL
    said, asked = premise.attributes, hypothesis.attributes
    if premise.present and hypothesis.present:
        if asked <= said:
            return Relation.ENTAILMENT
        return Relation.CONTRADICTION if _other_size(said, asked) else Relation.NEUTRAL
    if not premise.present and not hypothesis.present:
        return Relation.ENTAILMENT if said <= asked else Relation.NEUTRAL
    denied, affirmed = (asked, said) if premise.present else (said, asked)
    return Relation.CONTRADICTION if denied <= affirmed else Relation.NEUTRAL


def _other_size(said: frozenset[tuple[str, str]], asked: frozenset[tuple[str, str]]) -> bool:
    """Alike but for the size: one thing has one size, whereas another side or zone may be another thing."""
    mine, theirs = dict(said), dict(asked)
    sizes = mine.pop("size", ""), theirs.pop("size", "")
    return all(sizes) and sizes[0] != sizes[1] and theirs == mine


def any_present(rng: np.random.Generator, thing: str = "", *, plain: bool = False) -> Statement:
    """That something is there; ``plain``: without side, size, zone or kind."""
    thing = thing or _thing(rng)
    if plain or (thing not in DRAWN and rng.random() < 0.5) or rng.random() < 0.3:
        return _plain(thing, rng)
    if thing in ("consolidation", "nodule"):
        return _zoned(thing, rng)
    if thing == "device":
        return _device(rng)
    if thing == "cardiomegaly":
        return Statement(str(rng.choice(["the heart is enlarged, cardiomegaly.", "there is cardiomegaly."])), thing, True)
    return _sided(thing, rng)


def any_absent(rng: np.random.Generator, thing: str = "", *, plain: bool = False) -> Statement:
    """That something is not there; ``plain``: by its own name."""
    thing = thing or _thing(rng)
    if thing == "cardiomegaly" and not plain and rng.random() < 0.4:
        return Statement(str(rng.choice(_HEART)), thing, False)
    if thing in CLEARED and not plain and rng.random() < 0.25:
        return Statement(str(rng.choice(CLEAR)), thing, False)
    kind = str(rng.choice(_NO_DEVICE)) if thing == "device" else ""
    bare = kind or str(rng.choice(_SYNONYMS.get(thing, (thing,))[:2])).removeprefix("an ")
    return Statement(str(rng.choice(_ABSENT)).format(bare=bare), thing, False, _attributes(kind=kind))


def any_hypothesis(premise: Sequence[Statement], rng: np.random.Generator) -> Statement:
    """About a thing of the premise, mostly, or of any other; as the check of a draft words it, or narrower."""
    own = [statement.thing for statement in premise]
    thing = str(rng.choice(own)) if rng.random() < 0.72 else _thing(rng)
    if rng.random() < 0.25:
        return any_absent(rng, thing, plain=True)
    return any_present(rng, thing, plain=bool(rng.random() < 0.7))


def impression(statements: Sequence[Statement]) -> str:
    """Only what is there, each in its shortest form; where nothing is, ``NORMAL``."""
    return " ".join(_shortest(statement) for statement in statements if statement.present) or NORMAL


def _shortest(statement: Statement) -> str:
    said = dict(statement.attributes)
    words = [said.get("size", ""), said.get("side", "")]
    words += [f"{said['zone']} zone" if "zone" in said else "", said.get("kind", "") or statement.thing]
    return " ".join(word for word in words if word) + "."


def _plain(thing: str, rng: np.random.Generator) -> Statement:
    bare = str(rng.choice(_SYNONYMS.get(thing, (thing,))))
    if bare.startswith("an "):
        return Statement(f"there is {bare}.", thing, True)
    return Statement(str(rng.choice(_PRESENT)).format(thing=_article(thing, bare) + bare, bare=bare), thing, True)


def _zoned(thing: str, rng: np.random.Generator) -> Statement:
    side, zone = str(rng.choice(SIDES)), str(rng.choice(ZONES))
    forms = ("{side} {zone} zone {thing}.", "there is {article}{thing} in the {side} {zone} zone.")
    text = str(rng.choice(forms)).format(side=side, zone=zone, thing=thing, article=_article(thing, thing))
    return Statement(text, thing, True, _attributes(side=side, zone=zone))


def _sided(thing: str, rng: np.random.Generator) -> Statement:
    side = str(rng.choice(SIDES)) if rng.random() < 0.85 else ""
    size = str(rng.choice(SIZES)) if rng.random() < 0.8 or not side else ""
    words = " ".join(word for word in (size, side, thing) if word)
    text = str(rng.choice(["{words}.", "there is a {words}."])).format(words=words)
    return Statement(text, thing, True, _attributes(side=side, size=size))


def _device(rng: np.random.Generator) -> Statement:
    kind = str(rng.choice(DEVICES))
    side = "" if kind == "tracheal tube" else str(rng.choice(SIDES))
    forms = ("{words} device in place.", "there is a {words} device.", "there is a {words}.", "{words} in place.")
    text = str(rng.choice(forms)).format(words=f"{side} {kind}".strip())
    return Statement(text, "device", True, _attributes(side=side, kind=kind))


def _attributes(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in values.items() if value)


def _article(thing: str, bare: str) -> str:
    if thing in _MASS_NOUNS:
        return ""
    return "an " if bare[0] in "aeiou" else "a "


def _thing(rng: np.random.Generator) -> str:
    return str(rng.choice(DRAWN if rng.random() < 0.75 else OTHERS))
