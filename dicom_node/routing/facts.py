"""What routes may ask of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


def _none(_keyword: str) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """A study as it is when it is complete. Each set is over its instances.

    ``modalities``, ``body_parts``, ``requested_priorities``: defined terms in upper case; the last is Requested Procedure
    Priority (0040,1003): STAT, HIGH, ROUTINE, MEDIUM, LOW. ``hosts``: the senders' addresses. ``attribute``: the values of any
    other attribute by its keyword, read from the images only when a route asks. ``at``: local time; None: unknown, so that no
    condition on the time holds.
    """

    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    calling_aes: frozenset[str] = frozenset()
    requested_priorities: frozenset[str] = frozenset()
    called_aes: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    attribute: Callable[[str], frozenset[str]] = _none
    at: datetime | None = None
