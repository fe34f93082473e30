"""Attributes of one frame: functional groups first, then the data set itself (PS3.3 C.7.6.16.1.1)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset


def frame_scopes(header: Dataset, frame_number: int, macro: str) -> Iterator[Dataset]:
    """Where ``macro``'s attributes may stand for this frame, nearest first: per-frame group, shared group, data set.

    ``macro`` is the keyword of a functional group's sequence, such as FrameVOILUTSequence. ``frame_number`` counts from 1.
    """
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame_number - 1), ("SharedFunctionalGroupsSequence", 0)):
        items = header.get(groups) or []
        if index < len(items) and (found := items[index].get(macro)):
            yield found[0]
    yield header


def frame_value(header: Dataset, frame_number: int, macro: str, keyword: str) -> object:
    """The frame's value of ``keyword``, or None where no scope has it with a value."""
    for scope in frame_scopes(header, frame_number, macro):
        value = scope.get(keyword)
        if value is not None and value != "":
            return value
    return None
