"""What the index tells of a file, and what hostile or absent files do to it."""

from __future__ import annotations

import resource
import struct
import zlib
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.errors import StorageError
from dicom_node.fetched import Keeper
from dicom_node.index.headers import describe, values_of
from dicom_node.index.indexer import Indexer
from dicom_node.phantom_dicom import phantom_ct
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.index import Narrow, files_of
from dicom_node.storage.instances import instances_of
from tests.dicom_node.fetching import arrived
from tests.dicom_node.pixels.made import dataset, write


def test_a_file_is_told_by_its_levels(tmp_path: Path) -> None:
    image = dataset(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192", Modality="MR", InstanceNumber=7)
    told = describe(write(tmp_path / "one.dcm", image, str(DeflatedExplicitVRLittleEndian)))
    assert told is not None
    assert values_of(told.study, "PatientName") == ["Müller^Jörg"]
    assert (values_of(told.series, "Modality"), values_of(told.instance, "InstanceNumber")) == (["MR"], ["7"])
    assert told.transfer_syntax == DeflatedExplicitVRLittleEndian


def test_a_deflated_header_that_grows_without_end_costs_this_process_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.dcm", dataset(), str(DeflatedExplicitVRLittleEndian))
    content = path.read_bytes()
    head = 144 + int.from_bytes(content[140:144], "little")
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    inner = zlib.decompress(content[head:], -zlib.MAX_WBITS) + struct.pack("<HH2sHL", 0x42, 0x11, b"OB", 0, 768 << 20)
    bomb = b"".join([engine.compress(inner), *(engine.compress(bytes(1 << 20)) for _ in range(768)), engine.flush()])
    path.write_bytes(content[:head] + bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert describe(path) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


def test_a_file_that_is_gone_is_left_out_and_one_that_cannot_be_opened_now_is_told(tmp_path: Path) -> None:
    assert describe(tmp_path / "gone.dcm") is None
    (tmp_path / "folder.dcm").mkdir()
    with pytest.raises(StorageError):
        describe(tmp_path / "folder.dcm")


def test_a_study_is_not_entered_without_a_file_that_cannot_be_opened_now(tmp_path: Path) -> None:
    """It would count as whole, and the image never be found."""
    db, files = Database.open(tmp_path / "node.sqlite"), FileStore(tmp_path)
    keeper, indexer = Keeper(db, files, 0, "WETREAD"), Indexer(db, files, quiet_s=0)
    try:
        for image in phantom_ct(1, 2, size=16, patient_id="P", study_uid="1.5"):
            assert keeper(arrived(image)) == 0
        with db.read() as conn:
            away = files.path(instances_of(conn, "1.5")[0].path)
        held = away.rename(tmp_path / "held.dcm")
        away.mkdir()
        assert indexer.step() == 0
        away.rmdir()
        held.rename(away)
        assert indexer.step() == 1
        with db.read() as conn:
            assert len(files_of(conn, Narrow(("1.5",)))) == 2
    finally:
        keeper.close()
        db.close()
