"""What was found of one file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reporting.conformance.across import Outline
from reporting.context import Fault


class Status(StrEnum):
    OK = "ok"
    FAULTY = "faulty"
    SKIPPED = "skipped"  # found in a folder, and nothing that is judged here
    UNUSABLE = "unusable"  # asked for by name and not to be judged, or not to be read


@dataclass(frozen=True, slots=True)
class Verdict:
    """``file``: the name as given. ``form``: dicom, fhir or hl7; ``what``: SOP class, resource or message type.

    ``reason``: why a file is skipped or unusable. ``notes``: what was not judged. No patient data in any of them.
    """

    file: str
    status: Status
    form: str = ""
    what: str = ""
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    outline: Outline | None = None  # of a DICOM object
