"""No false alarm on other makers' objects: what the gate says of them, dciodvfy says too, or it can be seen without either."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, MediaStorageDirectoryStorage

from reporting.clean import quiet_headers
from reporting.conformance import standard_faults
from reporting.context import Fault

# dciodvfy's tables are of 2022 and its own reading of a module: of these the current PS3.3 was read instead
NEWER = {
    "OperatorsName",  # type 2 in RT Series (C.8.8.1)
    "ValueType",  # type 1 in Acquisition Context, by the Content Item Macro (C.7.6.14, table 10-2)
}
LEGAL_UID = re.compile(r"(?=.{3,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")  # root.suffix (PS3.5 9.1)


@dataclass(frozen=True)
class Judged:
    path: Path
    dataset: Dataset
    errors: str
    faults: tuple[Fault, ...]


def objects(corpus: Path) -> Iterator[Judged]:
    for path in sorted(corpus.rglob("*.dcm")):
        with quiet_headers():
            try:
                dataset = dcmread(path, stop_before_pixels=True)
            except Exception:  # noqa: BLE001  not every file of the corpus is whole
                continue
            if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                continue
            faults = standard_faults(dataset)
        command = ["dciodvfy", "-new", path]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
        errors = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))
        yield Judged(path, dataset, errors, faults)


def confirmed(one: Judged, fault: Fault) -> bool:
    """Whether the fault shows without the gate: by dciodvfy, or in the values themselves."""
    keyword = fault.text.split(" ")[0].split(".")[-1]
    if fault.rule == "file-meta":
        own = {"MediaStorageSOPInstanceUID": "SOPInstanceUID", "MediaStorageSOPClassUID": "SOPClassUID"}[keyword]
        return str(one.dataset.file_meta.get(keyword, "")) != str(one.dataset.get(own, "-"))
    if fault.rule == "uid":
        found = [str(element.value) for element in one.dataset.iterall() if element.keyword == keyword]
        return any(not LEGAL_UID.fullmatch(value) for value in found)
    if fault.rule in ("identity", "iod-class"):
        return (
            not one.dataset.get("SOPClassUID")
            or "Object Not found" in one.errors
            or not UID(one.dataset.SOPClassUID).is_storage
        )
    if fault.rule == "evidence":
        return "not listed in CurrentRequestedProcedureEvidenceSequence" in one.errors
    return keyword in one.errors or keyword in NEWER


def test_every_fault_of_another_makers_object_is_confirmed(dicom_corpus: Path) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    judged = list(objects(dicom_corpus))
    wrong = [(one.path.name, str(fault)) for one in judged for fault in one.faults if not confirmed(one, fault)]
    assert wrong == [], wrong
    sound = [one for one in judged if not one.errors]
    if not sound:
        pytest.skip("the corpus holds no object that dciodvfy finds without error")
    reports = [one for one in sound if "ContentSequence" in one.dataset]
    assert all(one.faults == () for one in reports), [one.path.name for one in reports if one.faults]
