"""Independent senders and checkers: DCMTK and dicom3tools. What they print decides: their exit codes lie."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .peers import SENDER
from .processes import require

# False alarms, each with its reason.
DSRDUMP_ALLOWED: Final = (
    r"VR checker does not support .*ISO_IR 192",  # DCMTK cannot check the bytes of UTF-8 text
)
DCIODVFY_ALLOWED: Final = (
    r"[Uu]nrecogni[sz]ed.*\b99\w+",  # a private coding scheme has no entry in its tables
    r"QUANTITY",  # a code of PS3.16 newer than its tables
)
DCENTVFY_ALLOWED: Final = (r"AccessionNumber",)  # it calls the accession number a matter of the series; PS3.3 C.7.2.1 does not


@dataclass(frozen=True, slots=True)
class Output:
    """What a program said; both streams together."""

    status: int
    text: str

    def lines(self, pattern: str, allowed: Iterable[str] = ()) -> list[str]:
        """Lines that match ``pattern`` at their start, less those that an ``allowed`` pattern is found in."""
        found = [line for line in self.text.splitlines() if re.match(pattern, line)]
        return [line for line in found if not any(re.search(pattern, line) for pattern in allowed)]


def run(command: Sequence[str | Path], timeout: float = 120) -> Output:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
    )
    return Output(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))


def dcmsend(port: int, paths: Sequence[Path], *, called: str = "WETREAD", calling: str = SENDER) -> Output:
    """Send files as they are, over as many associations as they need."""
    program = require("dcmsend", "dcmtk")
    options = ["-v", "-nuc", "-nh", "-ta", "30", "-td", "60", "-aet", calling, "-aec", called]
    return run([program, *options, "127.0.0.1", str(port), *paths])


def storescu(port: int, paths: Sequence[Path], *, called: str = "WETREAD", calling: str = SENDER) -> Output:
    program = require("storescu", "dcmtk")
    options = ["-v", "-nh", "-R", "-ta", "30", "-td", "60", "-aet", calling, "-aec", called]
    return run([program, *options, "127.0.0.1", str(port), *paths])


def echoscu(port: int, *, called: str = "WETREAD", calling: str = SENDER) -> Output:
    program = require("echoscu", "dcmtk")
    return run([program, "-v", "-ta", "15", "-td", "15", "-aet", calling, "-aec", called, "127.0.0.1", str(port)])


def accepted(output: Output) -> int:
    """How many C-STOREs of dcmsend or storescu were answered with success."""
    return len(re.findall(r"Received (?:C-STORE|Store) Response \((?:Status: )?Success", output.text, re.IGNORECASE))


def dsrdump(file: Path) -> Output:
    """A structured report as text, with DCMTK's errors and warnings among it."""
    return run([require("dsrdump", "dcmtk"), "+Pl", file])


def dciodvfy(file: Path) -> Output:
    """The object checked against its IOD."""
    return run([require("dciodvfy", "dicom3tools"), "-new", file])


def dcentvfy(files: Sequence[Path]) -> Output:
    """The objects checked for agreement on patient, study, series and frame of reference."""
    return run([require("dcentvfy", "dicom3tools"), *files])
