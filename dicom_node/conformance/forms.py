"""What a file is, by its first bytes, whatever it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reporting.conformance.hl7_messages import is_message

DICOM, FHIR, HL7, UNKNOWN = "dicom", "fhir", "hl7", ""
_HEAD: Final = 4096  # bytes
_PREAMBLE: Final = 128
_BOM: Final = b"\xef\xbb\xbf"
# Explicit or implicit VR little endian from group 2 or 8, or big endian from group 8: a data set without its Part 10 head
_BARE_GROUPS: Final = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def form_of(path: Path) -> str:
    """One of DICOM, FHIR, HL7 and UNKNOWN. Raises OSError where the file cannot be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM" or _is_bare(head):
        return DICOM
    if is_message(head):
        return HL7
    if head.removeprefix(_BOM).lstrip()[:1] == b"{":
        return FHIR
    return UNKNOWN


def _is_bare(head: bytes) -> bool:
    """A first element with a small number of an early group, and a length or VR that fits one."""
    if len(head) < 16 or head[:2] not in _BARE_GROUPS:
        return False
    length = int.from_bytes(head[4:8], "little")
    return (head[4:6].isalpha() and head[4:6].isupper()) or (head[:2] != b"\x00\x08" and length % 2 == 0 and length < _HEAD)
