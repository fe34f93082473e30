"""What key object selections of a study say of its images (PS3.3 A.35.4, PS3.16 TID 2010 and CID 7010; IHE IOCM)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset

from dicom_node.pixels.instances import Instance

_SHOWN = frozenset({"113000", *(str(code) for code in range(113002, 113010)), "113013"})
_REJECTED = {
    "113001": "quality",
    "113037": "patient safety",
    "113038": "an incorrect worklist entry",
    "113039": "the end of their retention",
}


@dataclass(frozen=True, slots=True)
class KeyObjects:
    """``frames``: frame numbers by SOP Instance UID, empty where the whole image is meant; ``rejected``: why, by UID."""

    frames: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)


def key_objects(instances: Sequence[Instance]) -> KeyObjects:
    """Of all selections among ``instances``; one that is damaged says nothing."""
    frames: dict[str, set[int]] = defaultdict(set)
    rejected: dict[str, str] = {}
    for instance in instances:
        title, references = _selection(instance.header)
        for uid, numbers in references:
            if title in _SHOWN:
                frames[uid].update(numbers)
            elif title in _REJECTED:
                rejected[uid] = f"a key object selection rejects it, for {_REJECTED[title]}"
    return KeyObjects({uid: tuple(sorted(numbers)) for uid, numbers in frames.items()}, rejected)


def _selection(header: Dataset) -> tuple[str, list[tuple[str, set[int]]]]:
    if str(header.get("Modality", "")) != "KO":
        return "", []
    try:
        title = str(header.ConceptNameCodeSequence[0].CodeValue)
        return title, list(_references(header))
    except Exception:  # noqa: BLE001 - pydicom raises anything on damaged elements, and a selection is only advice
        return "", []


def _references(header: Dataset) -> Iterator[tuple[str, set[int]]]:
    for item in header.get("ContentSequence") or []:
        for reference in item.get("ReferencedSOPSequence") or []:
            yield str(reference.ReferencedSOPInstanceUID), set(whole_numbers(reference.get("ReferencedFrameNumber")))


def whole_numbers(value: object) -> list[int]:
    """Of an element with one value, several or none."""
    if value is None or value == "":
        return []
    items = value if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]
    return [int(item) for item in items]
