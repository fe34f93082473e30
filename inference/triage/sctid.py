"""The check digit of a SNOMED CT identifier."""

from __future__ import annotations

from typing import Final

# Verhoeff's dihedral code (SNOMED CT Release File Specification, 5.1)
_TIMES: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_TURN: Final = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")


def valid_sctid(value: str) -> bool:
    """Whether ``value`` is a SNOMED CT concept identifier by length, partition and check digit."""
    if not (value.isascii() and value.isdigit() and 6 <= len(value) <= 18 and value[-3:-1] in ("00", "10")):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = int(_TIMES[check][int(_TURN[place % 8][int(digit)])])
    return check == 0
