"""`wetread conformance`: anybody's DICOM, FHIR and HL7 v2 files, judged by the rules of the gate.

find.py    which files
forms.py   what a file is: DICOM, FHIR JSON, HL7 v2
judge.py   the rules that it breaks
show.py    for people and for machines
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom_node.conformance.find import find
from dicom_node.conformance.judge import judge_all
from dicom_node.conformance.show import show
from dicom_node.conformance.verdict import Status, Verdict

__all__ = ["run"]


def run(paths: Sequence[Path], *, ours: bool = False, as_json: bool = False, quiet: bool = False) -> int:
    """Judge the files. Returns 0 where none is at fault, 1 where one is, 2 where one could not be judged or none was there."""
    verdicts = judge_all(find(paths), ours=ours)
    show(verdicts, as_json=as_json, quiet=quiet)
    return _exit_status(verdicts)


def _exit_status(verdicts: Sequence[Verdict]) -> int:
    found = {verdict.status for verdict in verdicts}
    if Status.UNUSABLE in found or not found & {Status.OK, Status.FAULTY}:
        return 2
    return 1 if Status.FAULTY in found else 0
