"""Studies to send: phantoms with given identities, and copies of public files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from dicom_node.phantom_dicom import phantom_ct, phantom_dx


def write(dataset: pydicom.Dataset, folder: Path) -> Path:
    """A Part 10 file of a data set, named by its SOP Instance UID."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def film(
    folder: Path, seed: int, findings: Sequence[str] | None = (), *, study_uid: str = "", number: int = 1
) -> tuple[str, Path]:
    """A drawn chest film of its own study and patient: (Study Instance UID, file)."""
    uid = study_uid or generate_uid()
    dataset = phantom_dx(seed, findings, patient_id=f"PHANTOM-{uid[-12:]}", study_uid=uid, instance_number=number)
    return uid, write(dataset, folder)


def scan(folder: Path, seed: int, slices: int = 3) -> tuple[str, list[Path]]:
    """A drawn CT series: (Study Instance UID, files)."""
    uid = generate_uid()
    series = phantom_ct(seed, slices, size=64, patient_id=f"PHANTOM-{uid[-12:]}", study_uid=uid)
    return uid, [write(slice_, folder) for slice_ in series]


def pydicom_file(name: str) -> Path:
    """A test file that pydicom ships in its package (never fetched)."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str), f"pydicom ships no {name}"
    return Path(found)


def header(path: Path) -> pydicom.Dataset:
    """A file's data set without its pixels, read leniently."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, stop_before_pixels=True)
