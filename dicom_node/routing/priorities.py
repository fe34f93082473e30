"""How soon a study is read."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class PriorityName(StrEnum):
    """How soon a study is read; the job table works strictly in this order."""

    STAT = "STAT"
    URGENT = "urgent"
    ROUTINE = "routine"
    RESEARCH = "research"


PRIORITY: Final = {PriorityName.STAT: 0, PriorityName.URGENT: 10, PriorityName.ROUTINE: 20, PriorityName.RESEARCH: 30}
