"""Which frames of a study are read, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeVar

from dicom_node.pixels.candidates import Candidate, candidates_of, text
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.key_objects import key_objects
from dicom_node.pixels.look import AS_STORED, Look
from dicom_node.pixels.quiet import quiet
from dicom_node.pixels.rules import DEFAULT_RULES, FrameRules, Take
from inference.reading import Skipped

_Item = TypeVar("_Item")


class Chosen(NamedTuple):
    """One frame to read, and how it is to be shown; ``frame_number`` counts from 1."""

    instance: Instance
    frame_number: int
    look: Look = AS_STORED


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """``chosen`` in reading order; ``skipped``: one entry for each instance of which not every frame is read."""

    chosen: tuple[Chosen, ...]
    skipped: tuple[Skipped, ...]


def select_frames(instances: Sequence[Instance], rules: FrameRules = DEFAULT_RULES) -> Selection:
    """Apply ``rules`` to the instances of one study; the same study in any order gives the same selection.

    Never raises for what a header holds: an instance that cannot be judged is skipped with a reason.
    """
    skipped: list[Skipped] = []
    with quiet():
        ordered = sorted(instances, key=_stable_key)
        candidates = candidates_of(ordered, rules, key_objects(ordered), skipped)
        kept = _one_of_each_view(candidates, skipped)
        chosen = evenly([frame for group in _groups(kept) for frame in _frames(group)], rules.most_frames)
    taken = Counter(id(instance) for instance, _ in {(frame.instance, frame.frame_number) for frame in chosen})
    for candidate in kept:
        if reason := _why_not_all(candidate, taken[id(candidate.instance)], rules):
            skipped.append(Skipped(candidate.instance.sop_instance_uid, reason))
    return Selection(tuple(chosen), tuple(skipped))


def _stable_key(instance: Instance) -> tuple[str, str]:
    return text(instance.header, "SOPInstanceUID"), str(instance.path)


def _one_of_each_view(candidates: list[Candidate], skipped: list[Skipped]) -> list[Candidate]:
    """Of the images of one view the last one made, a single one before one of many frames; images of no known view all."""
    best: dict[tuple[str, ...], Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (c.frames == 1, c.made, c.order[1], c.instance.sop_instance_uid)):
        if candidate.view:
            best[(candidate.modality, *candidate.view)] = candidate
    kept = []
    for candidate in candidates:
        if not candidate.view or best[(candidate.modality, *candidate.view)] is candidate:
            kept.append(candidate)
        else:
            reason = "another image of the same view is read: the last one made, a single one before one of many frames"
            skipped.append(Skipped(candidate.instance.sop_instance_uid, reason))
    return kept


def _groups(candidates: list[Candidate]) -> list[list[Candidate]]:
    """By series, in the order of series numbers; within one, by instance number."""
    ordered = sorted(candidates, key=lambda c: (*_group_key(c), c.order[1], c.instance.sop_instance_uid))
    return [list(group) for _, group in groupby(ordered, key=_group_key)]


def _group_key(candidate: Candidate) -> tuple[int, str, str]:
    return candidate.order[0], candidate.series, candidate.modality


def _frames(group: list[Candidate]) -> list[Chosen]:
    rule = group[0].rule
    if rule.take is Take.SLICES:
        places = evenly(_in_anatomical_order(group), rule.most)
    else:
        places = [(candidate.instance, number) for candidate in group for number in _numbers(candidate)]
    looks = [Look(window, rule.only_regions) for window in rule.windows]
    return [Chosen(instance, number, look) for instance, number in places for look in looks]


def _numbers(candidate: Candidate) -> list[int]:
    """Of one image that is no stack of slices."""
    if candidate.rule.take is Take.VIEWS:
        return [(candidate.frames + 1) // 2]
    if candidate.rule.take is Take.IMAGES:
        return [1]
    if candidate.key_frames:
        return evenly(candidate.key_frames, candidate.rule.most)
    numbers = [number for number in range(1, candidate.frames + 1) if number not in candidate.masks]
    return evenly(numbers or range(1, candidate.frames + 1), candidate.rule.most)


def _in_anatomical_order(group: list[Candidate]) -> list[tuple[Instance, int]]:
    """By position where every slice has one, else as numbered."""
    frames = [(place, (c.instance, number)) for c in group for number, place in enumerate(c.places, start=1)]
    if all(place is not None for place, _ in frames):
        frames.sort(key=lambda frame: frame[0] or ((), 0.0))
    return [frame for _, frame in frames]


def evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most ``most`` items, from the middles of equal parts; the first item where only one may be taken."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[(2 * part + 1) * len(items) // (2 * most)] for part in range(most)]


def _why_not_all(candidate: Candidate, taken: int, rules: FrameRules) -> str:
    """Why frames of it are left out; empty where none is."""
    most, take = candidate.rule.most, candidate.rule.take
    if taken == candidate.frames:
        return ""
    if taken:
        return f"{candidate.frames - taken} of its {candidate.frames} frames are not read: {_which(candidate)}"
    if take is Take.SLICES:
        return f"it is not among the evenly sampled slices (at most {most} a series, {rules.most_frames} a study)"
    return f"it is beyond the limit of {rules.most_frames} frames a study"


def _which(candidate: Candidate) -> str:
    """Of an image of several frames."""
    take = candidate.rule.take
    if take is Take.CLIPS and candidate.key_frames:
        return "those marked as key frames are"
    if take is Take.VIEWS:
        return "the one in the middle is"
    return "the first is" if take is Take.IMAGES else "the others are evenly sampled"
