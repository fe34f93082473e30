"""Which frames of a study are read, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeVar

from pydicom import Dataset

from dicom_node.errors import PixelError
from dicom_node.pixels.decode import refusal
from dicom_node.pixels.describe import modality
from dicom_node.pixels.geometry import Place, slice_place
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.quiet import quiet
from dicom_node.pixels.rules import MOST_FRAMES, NOT_AN_IMAGE, NOT_AN_IMAGE_CLASS, OTHER, RULES, Kind, Rule
from inference.reading import Skipped

_Item = TypeVar("_Item")
_HUMAN_CODES = frozenset({"337915000", "L-85B00"})
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"})


class Chosen(NamedTuple):
    """One frame to read; ``frame_number`` counts from 1."""

    instance: Instance
    frame_number: int


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """``chosen`` in reading order; ``skipped``: one entry for each instance of which nothing is read."""

    chosen: tuple[Chosen, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """An instance that can be read, with what decides its place in the order."""

    instance: Instance
    modality: str
    series: str
    frames: int
    rule: Rule
    intent: str
    order: tuple[int, int]  # series number, instance number
    places: tuple[Place | None, ...]  # of each frame, where slices are put in order


def select_frames(instances: Sequence[Instance]) -> Selection:
    """Apply ``rules.RULES`` to the instances of one study; the same study in any order gives the same selection.

    Never raises for what a header holds: an instance that cannot be judged is skipped with a reason.
    """
    skipped: list[Skipped] = []
    with quiet():
        candidates = _candidates(sorted(instances, key=_stable_key), skipped)
        chosen = _within_limit([frame for group in _groups(candidates) for frame in _frames(group)])
    taken = {id(frame.instance) for frame in chosen}
    for candidate in candidates:
        if id(candidate.instance) not in taken:
            skipped.append(Skipped(candidate.instance.sop_instance_uid, _not_sampled(candidate)))
    return Selection(tuple(chosen), tuple(skipped))


def _stable_key(instance: Instance) -> tuple[str, str]:
    return _text(instance.header, "SOPInstanceUID"), str(instance.path)


def _candidates(instances: Iterable[Instance], skipped: list[Skipped]) -> list[_Candidate]:
    found: dict[str, _Candidate] = {}
    for instance in instances:
        uid = _text(instance.header, "SOPInstanceUID")
        try:
            candidate = _candidate(instance)
            if uid in found:
                raise PixelError("it is a second copy of an instance that is already taken")
            found[uid] = candidate
        except PixelError as error:
            skipped.append(Skipped(uid, error.reason))
        except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged element; the study goes on
            skipped.append(Skipped(uid, f"its header is damaged ({type(error).__name__})"))
    return _without_raw_twins(list(found.values()), skipped)


def _candidate(instance: Instance) -> _Candidate:
    header = instance.header
    kind = modality(header)
    if reason := _why_not(instance, kind):
        raise PixelError(reason)
    frames = layout_of(instance).frames
    if instance.transfer_syntax and (reason := refusal(instance.transfer_syntax)):
        raise PixelError(reason)
    rule = RULES.get(kind, OTHER)
    stacked = frames if rule.kind is Kind.STACK else 0
    return _Candidate(
        instance=instance,
        modality=kind,
        series=_text(header, "SeriesInstanceUID"),
        frames=frames,
        rule=rule,
        intent=_text(header, "PresentationIntentType").upper(),
        order=(_order(header, "SeriesNumber"), _order(header, "InstanceNumber")),
        places=tuple(slice_place(header, number) for number in range(1, stacked + 1)),
    )


def _why_not(instance: Instance, kind: str) -> str:
    header = instance.header
    meta = getattr(header, "file_meta", None) or Dataset()
    sop_class = _text(header, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    if reason := NOT_AN_IMAGE_CLASS.get(sop_class) or NOT_AN_IMAGE.get(kind):
        return reason
    if instance.pixels is None:
        return "it has no pixel data"
    if not _text(header, "SOPInstanceUID"):
        return "it has no SOP Instance UID, so that no result could refer to it"
    if _of_an_animal(header):
        return "it is of an animal, which the models were not made for"
    image_type = header.get("ImageType") or []
    terms = {image_type} if isinstance(image_type, str) else {str(term).strip().upper() for term in image_type}
    if RULES.get(kind, OTHER).kind is Kind.STACK and terms & _LOCALIZERS:
        return "it is a localizer (scout) image, which only shows where the slices lie"
    return ""


def _of_an_animal(header: Dataset) -> bool:
    """Patient Species (PS3.3 C.7.1.1): stated, and not human (SNOMED CT 337915000; SRT L-85B00; CID 7454)."""
    coded = header.get("PatientSpeciesCodeSequence") or []
    values = {_text(item, "CodeValue").upper() for item in coded} - {""}
    words = _text(header, "PatientSpeciesDescription").lower()
    if values:
        return not values & _HUMAN_CODES
    return bool(words) and not any(name in words for name in ("human", "homo sapiens"))


def _without_raw_twins(candidates: list[_Candidate], skipped: list[Skipped]) -> list[_Candidate]:
    """Digital radiography sends raw images beside the shown ones (PS3.3 C.8.11.1.1.1): they are read only where alone."""
    shown = {c.modality for c in candidates if c.intent == "FOR PRESENTATION"}
    kept = []
    for candidate in candidates:
        if candidate.intent == "FOR PROCESSING" and candidate.modality in shown:
            reason = "it is the raw (for processing) form of images that the study also holds for presentation"
            skipped.append(Skipped(candidate.instance.sop_instance_uid, reason))
        else:
            kept.append(candidate)
    return kept


def _groups(candidates: list[_Candidate]) -> list[list[_Candidate]]:
    """By series, in the order of series numbers; within one, by instance number."""
    ordered = sorted(candidates, key=lambda c: (*_group_key(c), c.order[1], c.instance.sop_instance_uid))
    return [list(group) for _, group in groupby(ordered, key=_group_key)]


def _group_key(candidate: _Candidate) -> tuple[int, str, str]:
    return candidate.order[0], candidate.series, candidate.modality


def _frames(group: list[_Candidate]) -> list[Chosen]:
    rule = group[0].rule
    if rule.kind is Kind.STACK:
        return evenly(_in_anatomical_order(group), rule.most)
    return [Chosen(c.instance, number) for c in group for number in evenly(range(1, c.frames + 1), rule.most)]


def _in_anatomical_order(group: list[_Candidate]) -> list[Chosen]:
    """By position where every slice has one, else as numbered."""
    frames = [(place, Chosen(c.instance, number)) for c in group for number, place in enumerate(c.places, start=1)]
    if all(place is not None for place, _ in frames):
        frames.sort(key=lambda frame: frame[0] or ((), 0.0))
    return [chosen for _, chosen in frames]


def evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most ``most`` items, from the middles of equal parts; the first item where only one may be taken."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[(2 * part + 1) * len(items) // (2 * most)] for part in range(most)]


def _within_limit(frames: list[Chosen]) -> list[Chosen]:
    return evenly(frames, MOST_FRAMES)


def _not_sampled(candidate: _Candidate) -> str:
    if candidate.rule.kind is Kind.STACK:
        return f"it is not among the evenly sampled slices (at most {candidate.rule.most} a series, {MOST_FRAMES} a study)"
    return f"it is beyond the limit of {MOST_FRAMES} frames a study"


def _text(scope: Dataset, keyword: str) -> str:
    return str(scope.get(keyword, "") or "").strip()


def _order(header: Dataset, keyword: str) -> int:
    """A number to sort by; last where there is none."""
    try:
        return int(header.get(keyword))
    except (TypeError, ValueError):
        return 1 << 31
