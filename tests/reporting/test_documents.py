"""The whole door: bytes, determinism, and the headers of real files of every maker."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from inference.reading import FrameSource
from reporting.clean import quiet_headers
from reporting.context import Document, DocumentKind
from reporting.documents import build_documents
from reporting.errors import ContextError
from reporting.options import DEFAULT_KINDS
from tests.reporting.samples import OPTIONS, by_kind, context, frame_of, header, reading, unassessed

DICOM = Path(os.environ.get("WETREAD_DICOM", Path(__file__).parents[3] / "shared" / "dicom"))
FILES = sorted(path for path in DICOM.rglob("*.dcm"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]
needs_files = pytest.mark.skipif(not FILES, reason=f"no DICOM files under {DICOM}; set WETREAD_DICOM")


def test_three_documents_in_order():
    documents = build_documents(reading(), context(), OPTIONS)
    assert [document.kind for document in documents] == [kind for kind in DocumentKind if kind in DEFAULT_KINDS]
    assert not any(document.faults for document in documents)
    assert [document.suffix for document in documents] == [".dcm", ".dcm", ".json"]
    assert len({document.uid for document in documents}) == 3
    for document in documents[:2]:
        ds = dcmread(BytesIO(document.content))
        assert (ds.SOPInstanceUID, ds.file_meta.MediaStorageSOPInstanceUID) == (document.uid, document.uid)


def test_a_retry_makes_the_same_bytes():
    first, again = (build_documents(reading(), context(), OPTIONS) for _ in range(2))
    assert [document.content for document in first] == [document.content for document in again]


ROOT = Path(__file__).parents[2]


def run(program: str, **environment: str) -> str:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_another_process_makes_the_same_bytes():
    """Hash seeds, import order and clocks of a process that starts anew change nothing."""
    program = (
        "import hashlib\nfrom tests.reporting.samples import *\n"
        "print(hashlib.sha256(b''.join(d.content for d in build_documents(reading(), context(), OPTIONS))).hexdigest())"
    )
    first, second = run(program, PYTHONHASHSEED="1"), run(program, PYTHONHASHSEED="2")
    assert first == second
    assert len(first.strip()) == 64


REFUSED = {
    "no headers": ({"headers": ()}, "headers"),
    "no study": ({"study_instance_uid": " "}, "StudyInstanceUID"),
    "naive time": ({"read_at": datetime(2026, 1, 1)}, "time zone"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_filed_is_refused(changes: dict[str, object], said: str):
    with pytest.raises(ContextError, match=said):
        build_documents(reading(), context(**changes), OPTIONS)


_OPTIONAL = [
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "Modality"),
]
UGLY = {
    "bare": dict.fromkeys(_OPTIONAL),
    "empty laterality": {"Laterality": "", "BodyPartExamined": ""},
    "illegal dates": {"StudyDate": "20261399", "StudyTime": "9999"},
    "long texts": {"StudyDescription": "x" * 200, "AccessionNumber": "9" * 30, "StudyID": "y" * 40, "PatientID": "7" * 90},
    "foreign study UID": {"StudyInstanceUID": "1.02.003"},
    "no series UID": {"SeriesInstanceUID": None},
    "private class": {"SOPClassUID": "1.2.840.113619.4.26"},
    "absurd zone": {"TimezoneOffsetFromUTC": "+9900"},
    "wrong charset": {"SpecificCharacterSet": "ISO_IR 999", "PatientName": "Müller"},
}


@pytest.mark.parametrize("changes", UGLY.values(), ids=UGLY)
def test_ugly_headers_still_give_documents(changes: dict[str, object]):
    with quiet_headers():
        ds = header(**changes)
    source = FrameSource("1.2.3.1.1", str(ds.SOPClassUID), str(ds.get("SeriesInstanceUID", "")))
    documents = by_kind(reading(source), context(ds), OPTIONS)
    with quiet_headers():
        written = dcmread(BytesIO(documents[DocumentKind.FINDINGS_SR].content))
        assert str(written.PatientID or "") == str(ds.get("PatientID", ""))
        assert written.StudyInstanceUID == "1.2.3"


def test_a_hundred_findings_and_a_thousand_slices():
    findings = tuple(replace(reading().findings[0], key=f"finding-{n}") for n in range(100))
    slices = [header(SOPInstanceUID=f"1.2.3.1.{n}") for n in range(1, 1001)]
    sources = tuple(frame_of(one) for one in slices)
    documents = by_kind(replace(reading(), findings=findings, sources=sources), context(*slices), OPTIONS)
    ds = dcmread(BytesIO(documents[DocumentKind.FINDINGS_SR].content))
    assert len(ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence) == 1000


def header_of(path: Path) -> Dataset:
    with quiet_headers():
        return dcmread(path, stop_before_pixels=True, force=True)


@cache
def real(path: Path) -> dict[DocumentKind, Document]:
    """The documents of a file's header, with a reading of its image where it has one."""
    ds = header_of(path)
    with quiet_headers():
        uids = [str(ds.get(keyword) or "") for keyword in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID")]
        study = str(ds.get("StudyInstanceUID") or "1.2.3")
        read = reading(FrameSource(*uids)) if ds.get("Rows") and uids[0] else unassessed()
    return by_kind(read, context(ds, study_instance_uid=study), OPTIONS)


@needs_files
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_real_header_gives_documents(path: Path):
    documents = real(path)
    ds = header_of(path)
    with quiet_headers():
        written = dcmread(BytesIO(documents[DocumentKind.DRAFT_SR].content))
        assert written.StudyInstanceUID == (ds.get("StudyInstanceUID") or "1.2.3")
    assert set(documents) == DEFAULT_KINDS
    assert not [fault for document in documents.values() for fault in document.faults]


@needs_files
@pytest.mark.parametrize("path", sorted(DICOM.glob("charset/*chr*.dcm")), ids=lambda path: path.stem)
def test_names_of_every_script_survive(path: Path):
    written = dcmread(BytesIO(real(path)[DocumentKind.FINDINGS_SR].content))
    assert str(written.PatientName) == str(header_of(path).PatientName)
    assert written.SpecificCharacterSet == "ISO_IR 192"


CHECKED = sorted(path for folder in ("cxr", "ct", "mr", "charset", "nonimage_or_odd") for path in DICOM.glob(f"{folder}/*.dcm"))
ODD_SOURCE = {"pydicom-data__bad_sequence"}  # its Study Instance UID is none, and its documents must bear it all the same


def complaints(program: list[str], path: Path) -> list[str]:
    done = subprocess.run([*program, str(path)], capture_output=True, text=True, errors="replace", timeout=60, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "E:", "W:")) and "ISO_IR 192" not in line]


@needs_files
@pytest.mark.parametrize("tool", [["dciodvfy", "-new"], ["dsrdump"]], ids=["dciodvfy", "dsrdump"])
@pytest.mark.parametrize("path", CHECKED, ids=[path.stem for path in CHECKED])
def test_independent_validators_find_no_fault(path: Path, tool: list[str], tmp_path: Path):
    if not shutil.which(tool[0]):
        pytest.skip(f"{tool[0]} is not installed (Debian: dicom3tools, dcmtk)")
    if path.stem in ODD_SOURCE:
        pytest.skip("the source's Study Instance UID is itself illegal")
    for kind in (DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR):
        file = tmp_path / f"{kind}.dcm"
        file.write_bytes(real(path)[kind].content)
        assert complaints(tool, file) == []


def test_importing_the_package_loads_no_builder():
    program = "import sys, reporting, reporting.context; print({'highdicom', 'fhir', 'torch'} & set(sys.modules))"
    assert run(program).strip() == "set()"
