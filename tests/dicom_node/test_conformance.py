"""`wetread conformance` over everybody's files: verdicts, references between files, exit statuses, and no patient data."""

from __future__ import annotations

import json
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, FileMetaDataset, dcmread, dcmwrite
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.conformance import dicom
from dicom_node.conformance.show import printable
from reporting.clean import quiet_headers
from reporting.context import Document, DocumentKind
from tests.reporting import dicom_faults, fhir_faults, hl7_faults
from tests.reporting.samples import header

OF_A_PATIENT = ("Muster", "Erika", "19700102", "ACC7", "P-1^", '"P-1"')


@cache
def sound() -> dict[str, Document]:
    """A document of ours of every kind."""
    made = (*dicom_faults.sound().values(), fhir_faults.sound(), hl7_faults.sound())
    return {one.kind.value: one for one in made}


class Said:
    """What the command printed and returned."""

    def __init__(self, *arguments: object, json_lines: bool = True) -> None:
        options = ["--json"] if json_lines else []
        result = CliRunner().invoke(app, ["conformance", *options, *map(str, arguments)], catch_exceptions=False)
        self.status, self.text = result.exit_code, result.output
        lines: list[dict[str, Any]] = [json.loads(line) for line in result.output.splitlines()] if json_lines else []
        self.files, self.summary = lines[:-1], lines[-1]["summary"] if lines else {}

    def rules(self, number: int = 0) -> set[str]:
        return {fault["rule"] for fault in self.files[number]["faults"]}


def document(folder: Path, made: Document, name: str = "") -> Path:
    path = folder / (name or f"{made.kind.value}{made.suffix}")
    path.write_bytes(made.content)
    return path


def image(folder: Path, **changes: object) -> Path:
    """A CT image of 512 rows, its pixels announced and not there."""
    values = {"SOPClassUID": CTImageStorage, "Modality": "CT", **changes}
    ds = header(**values)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    path = folder / f"{len(list(folder.iterdir()))}.dcm"
    with quiet_headers():
        dcmwrite(path, ds, enforce_file_format=True)
    return path


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder with a document of ours of every kind."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for made in sound().values():
        document(folder, made)
    return folder


@pytest.mark.parametrize("options", [(), ("--ours",)], ids=["the standard", "our promises too"])
def test_our_documents_are_without_fault(documents: Path, options: tuple[str, ...]) -> None:
    said = Said(documents, *options)
    assert (said.status, said.summary) == (
        0, {"files": 8, "ok": 8, "faulty": 0, "skipped": 0, "unusable": 0, "faults": 0},
    )  # fmt: skip
    assert {(one["form"], one["what"]) for one in said.files} >= {
        ("dicom", "Comprehensive 3D SR Storage"), ("fhir", "Bundle"), ("hl7", "ORU^R01^ORU_R01"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "by_standard", "ours"),
    [
        (dicom_faults.plant(dicom_faults.PLANTED["no patient name"]), "type-2", "type-2"),
        (dicom_faults.plant(dicom_faults.PLANTED["wrong relationship"]), "relationship", "relationship"),
        (dicom_faults.plant(dicom_faults.PLANTED["state with an unknown layer"]), "state-layer", "state-layer"),
        (dicom_faults.plant(dicom_faults.PLANTED["no tracking UID"]), "", "finding-item"),
        (dicom_faults.plant(dicom_faults.PLANTED["heat map cut short"]), "", "picture-size"),
        (fhir_faults.plant(fhir_faults.PLANTED["report without status"]), "cardinality-min", "cardinality-min"),
        (fhir_faults.plant(fhir_faults.PLANTED["final by software"]), "", "draft-status"),
        (hl7_faults.plant(hl7_faults.PLANTED["long control id"]), "hl7-control-id", "hl7-control-id"),
        (hl7_faults.plant(hl7_faults.PLANTED["final result"]), "", "hl7-status"),
    ],
    ids=lambda made: made.kind.value if isinstance(made, Document) else None,
)
def test_a_fault_is_told_with_its_rule(tmp_path: Path, made: Document, by_standard: str, ours: str) -> None:
    path = document(tmp_path, made)
    plain, strict = Said(path), Said(path, "--ours")
    assert plain.status == bool(by_standard)
    assert by_standard in (plain.rules() or {""})
    assert strict.status == 1
    assert ours in strict.rules()


def test_people_get_a_table_and_no_patient(documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for family in (dicom_faults, fhir_faults, hl7_faults):
        for number, name in enumerate(list(family.PLANTED)[::25]):
            document(documents, family.plant(family.PLANTED[name]), f"{family.__name__}-{number}")
    document(documents, dicom_faults.plant(dicom_faults.PLANTED["no tracking UID"]), "untracked")
    said = Said(documents, "--ours", json_lines=False)
    assert said.status == 1
    assert "FAULT" in said.text
    assert "finding-item" in said.text
    assert "IHE RAD AIR 6.5.3" in said.text
    assert not [word for word in OF_A_PATIENT if word in said.text]
    quiet = Said(documents, "--quiet", json_lines=False).text
    assert "\nok " not in f"\n{quiet}"
    assert "without fault" in quiet


def test_what_is_none_of_the_forms(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("MSH is mentioned here")
    (tmp_path / "settings.json").write_text('{"a": 1}')
    (tmp_path / "empty").touch()
    folder, named = Said(tmp_path), Said(*sorted(tmp_path.iterdir()))
    assert (folder.status, {one["status"] for one in folder.files}) == (2, {"skipped"})
    assert (named.status, {one["status"] for one in named.files}) == (2, {"unusable"})
    made = document(tmp_path, hl7_faults.sound())
    assert Said(tmp_path).status == 0
    assert Said(made, tmp_path / "nowhere").status == 2
    os.mkfifo(tmp_path / "pipe")
    assert Said(made, tmp_path / "pipe").files[1]["reason"] == "is no regular file"


@pytest.mark.parametrize("name", ["film.dcm", "RESULT.HL7"])
def test_what_is_not_what_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x05\x00CS" * 100)
    said = Said(tmp_path)
    assert (said.status, said.rules()) == (1, {"unreadable"})


def test_many_messages_in_a_frame(tmp_path: Path) -> None:
    good, bad = hl7_faults.sound().content, hl7_faults.plant(hl7_faults.PLANTED["no message type"]).content
    path = tmp_path / "messages.bin"
    path.write_bytes(b"".join(b"\x0b" + one + b"\x1c\r" for one in (good, bad, good)))
    (file,) = Said(path).files
    assert [fault["text"] for fault in file["faults"]] == ["message 2: MSH-9 is empty"]
    assert file["what"] == "3 messages"
    path.write_bytes(b"MSH|^~\\&|A||B||20260304||ACK^A01^ACK|1|P|2.5.1\rMSA|AA|17\r")
    said = Said(path, "--ours")
    assert (said.status, len(said.files[0]["notes"])) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({}, set()),
        ({"SOPClassUID": CTImageStorage}, {"reference-class"}),
        ({"StudyInstanceUID": "1.2.9"}, {"reference-study"}),
        ({"SeriesInstanceUID": "1.2.9"}, {"reference-series"}),
        ({"PatientID": "P-2"}, {"reference-patient"}),
        ({"SOPInstanceUID": "1.2.9", "StudyInstanceUID": "1.2.9"}, set()),
    ],
    ids=["fits", "class", "study", "series", "patient", "another object"],
)
def test_references_between_files(tmp_path: Path, changes: dict[str, object], rules: set[str]) -> None:
    report = document(tmp_path, dicom_faults.sound()[DocumentKind.FINDINGS_SR])
    said = Said(report, image(tmp_path, **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "DX", **changes}))
    assert said.rules() == rules
    assert "1.dcm" in said.text


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    made = dicom_faults.sound()[DocumentKind.FINDINGS_SR]
    (tmp_path / "report").mkdir()
    report = document(tmp_path / "report", made)
    ds = dcmread(report)
    dicom_faults.named(ds, "121112").ReferencedSOPSequence[0].ReferencedFrameNumber = 3
    ds.save_as(report)
    dx = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "DX"}
    assert Said(report, image(tmp_path, **dx)).rules() == {"reference-frame"}
    assert Said(report, image(tmp_path, NumberOfFrames=3, **dx)).rules() == set()


def test_two_objects_of_one_uid(tmp_path: Path) -> None:
    first, other = image(tmp_path), image(tmp_path, StudyID="S2")
    assert "same-uid" in Said(first, other).rules(1)
    (tmp_path / "copy").write_bytes(first.read_bytes())
    assert "same-uid" not in Said(first, tmp_path / "copy").rules(1)


def test_what_cannot_be_judged_whole_is_said(tmp_path: Path) -> None:
    private = Said(image(tmp_path, SOPClassUID="1.2.3.4"))
    assert (private.status, private.rules(), len(private.files[0]["notes"])) == (0, set(), 1)
    directory = image(tmp_path, SOPClassUID=MediaStorageDirectoryStorage)
    assert Said(directory).files[0]["reason"].startswith("a DICOMDIR")
    bare = tmp_path / "bare.dcm"
    header(SpecificCharacterSet="ISO_IR 100").save_as(bare, implicit_vr=True, little_endian=True)
    assert [fault["text"] for fault in Said(bare).files[0]["faults"] if fault["rule"] == "file-meta"] == [
        "the file has no preamble and File Meta Information"
    ]


def test_pixels_are_not_read(tmp_path: Path) -> None:
    path = image(tmp_path, Rows=65535, Columns=65535, BitsAllocated=16, NumberOfFrames=60000)
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\x00\x00\xfe\xff\xff\xff")
        file.truncate(6 << 30)  # a hole: it takes no room on the disk
    assert Said(path).status == 1


def test_a_data_set_that_grows_beyond_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_MAX_DEFLATED", 1 << 20)
    path = image(tmp_path)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(path)
    assert Said(path).files[0]["status"] == "faulty"
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(path.read_bytes()[: dicom._data_offset(path)] + deflate.compress(bytes(1 << 22)) + deflate.flush())
    assert Said(path).status == 2


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["findings-sr", "heat-map-gsps", "fhir-bundle", "hl7-oru"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=30),
    st.booleans(),
)
def test_broken_bytes_end_in_a_verdict(tmp_path: Path, kind: str, at: float, noise: bytes, cut: bool) -> None:
    made = sound()[kind]
    place = int(at * len(made.content))
    rest = b"" if cut else made.content[place + len(noise) :]
    path = tmp_path / "broken"
    path.write_bytes(made.content[:place] + noise + rest)
    said = Said(path, "--ours")
    assert said.status in (0, 1, 2)
    assert not [word for word in OF_A_PATIENT[:2] if word in said.text]


def test_names_of_files_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\udcff\n") == "a�[31mb?�"


def test_nesting_without_end(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text('{"resourceType": "Basic", "extension": ' + "[" * 100_000)
    assert Said(tmp_path / "deep.json").status == 1
    inner = Dataset()
    for _ in range(200):
        outer = Dataset()
        outer.ContentSequence = [inner]
        inner = outer
    assert Said(image(tmp_path, ContentSequence=inner.ContentSequence)).status == 1
