"""Times, ages and priorities as a person reads them."""

from __future__ import annotations

import time

from dicom_node.storage.jobs import Priority


def priority_name(priority: int) -> str:
    return Priority(priority).name.replace("_", " ") if priority in set(Priority) else str(priority)


def moment(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def age(seconds: float) -> str:
    """In the largest unit that fits: 12 s, 4 min, 3 h, 2 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def counted(number: int, one: str, many: str) -> str:
    """1 delivery, 2 deliveries."""
    return f"{number} {one if number == 1 else many}"


def size(count: float) -> str:
    """Bytes in binary units: 512 B, 3.4 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return ""
