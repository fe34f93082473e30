"""How old is old: the retention settings at one moment."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.retention_settings import RetentionSettings, parsed

_DAY_S: Final = 86400.0
_GB: Final = 1e9
NEVER: Final = -math.inf  # nothing came before it


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What came or was finished before these times (seconds since 1970 UTC) may go; ``NEVER`` keeps all.

    ``emergency``: images, when the disk is too full; a late image may still come for those that are younger.
    """

    images: float
    documents: float
    jobs: float
    events: float
    conflicts: float
    orphans: float
    emergency: float


def cutoffs(settings: RetentionSettings, now: float) -> Cutoffs:
    """Nothing that a late image may still belong to is old, whatever its setting says."""
    late = now - settings.late_hours * 3600
    ages = ("images", "documents", "jobs", "events", "conflicts", "orphans")
    days = {name: float(getattr(settings, f"{name}_days")) for name in ages}
    old = {name: min(now - value * _DAY_S, late) if value else NEVER for name, value in days.items()}
    return Cutoffs(**old, emergency=late)


@dataclass(frozen=True, slots=True)
class Fill:
    """How full it is, in the unit of the watermarks. ``high`` and ``low``: infinite where there are none."""

    used: float
    high: float
    low: float
    unit: str

    def __str__(self) -> str:
        return f"{self.used:.0f}%" if self.unit == "%" else f"{self.used:.1f} GB"


def fill(settings: RetentionSettings, folder: Path, held_bytes: float) -> Fill:
    """``held_bytes``: of all images and documents; looked at where the watermarks are in GB."""
    high, low = parsed(settings.high), parsed(settings.low)
    if high is None or low is None:
        return Fill(0.0, math.inf, math.inf, "%")
    used = held_bytes / _GB if high[1] == "GB" else _disk_used(folder)
    return Fill(used, high[0], low[0], high[1])


def _disk_used(folder: Path) -> float:
    """Per cent, as df counts: the share that root keeps for itself is neither used nor free."""
    disk = os.statvfs(folder)
    used = disk.f_blocks - disk.f_bfree
    return 100.0 * used / max(used + disk.f_bavail, 1)
