"""The header walker against pydicom, over syntaxes, real files and arbitrary bytes."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.ingest.header import BIG_ENDIAN, IMPLICIT, Header, Headers, Unreadable, header_of, header_of_start, read_header

EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"


def _nested() -> Dataset:
    """Sequences of undefined length, three deep, each with UIDs that must not be taken for the top level's."""
    inner = Dataset()
    inner.StudyInstanceUID, inner.SOPInstanceUID, inner.Modality = "9.9", "9.9.9", "XX"
    for _ in range(3):
        inner.is_undefined_length_sequence_item = True
        outer = Dataset()
        outer.ReferencedStudySequence = Sequence([inner, inner])
        outer["ReferencedStudySequence"].is_undefined_length = True
        inner = outer
    return inner


EXPECTED = Header("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", "1.2", "1.2.1", "phantom-1", "OT", "CHEST", "STAT")


@pytest.mark.parametrize(
    ("implicit", "little", "syntax"),
    [
        pytest.param(False, True, EXPLICIT, id="explicit"),
        pytest.param(True, True, IMPLICIT, id="implicit"),
        pytest.param(False, False, BIG_ENDIAN, id="big endian"),
        pytest.param(True, True, EXPLICIT, id="implicit, labelled explicit"),
        pytest.param(False, True, IMPLICIT, id="explicit, labelled implicit"),
        pytest.param(False, True, "1.2.840.10008.1.2.4.201", id="HTJ2K"),
    ],
)
def test_every_encoding(
    make: Callable[..., Dataset], encode: Callable[..., bytes], implicit: bool, little: bool, syntax: str
) -> None:
    ds = make(RequestedProcedurePriority="STAT")
    ds.update(_nested())
    assert header_of(b"head" + encode(ds, implicit, little), 4, syntax) == EXPECTED


def test_deflated(make: Callable[..., Dataset], encode: Callable[..., bytes], tmp_path: Path) -> None:
    squeezer = zlib.compressobj(wbits=-15)
    data = squeezer.compress(encode(make(RequestedProcedurePriority="STAT", pixels=b"\0" * 100))) + squeezer.flush()
    (tmp_path / "file").write_bytes(b"head" + data)
    assert read_header(tmp_path / "file", 4, DEFLATED) == EXPECTED
    (tmp_path / "file").write_bytes(b"head" + b"\xff" * 50)
    with pytest.raises(Unreadable, match="not deflated"):
        read_header(tmp_path / "file", 4, DEFLATED)


# those that come with the package; its own listing function would download the rest
PYDICOM_FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_as_pydicom_reads_its_own_test_files(path: Path) -> None:
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        offset, syntax = _data_set_offset(path), str(ds.file_meta.TransferSyntaxUID)
    except Exception:  # noqa: BLE001 - among the files are broken ones
        pytest.skip("no Part 10 file that pydicom reads")
    header = read_header(path, offset, syntax)
    assert header.study_uid == str(ds.get("StudyInstanceUID", ""))
    assert header.sop_uid == str(ds.get("SOPInstanceUID", ""))
    assert header.sop_class_uid == str(ds.get("SOPClassUID", ""))
    assert header.series_uid == str(ds.get("SeriesInstanceUID", ""))


def _data_set_offset(path: Path) -> int:
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.tell()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"\x08\x00\x16\x00UI\x40\x001.2", "ends in the middle of element", id="cut in a value"),
        pytest.param(b"\x08\x00\x16", "ends in the middle of an element", id="cut in a tag"),
        pytest.param(b"\x08\x00\x05\x00CS\x00\x00\x08\x00\x16\x00\x01\x02\x00\x00", "no value representation", id="no VR"),
        pytest.param(b"\x10\x00\x20\x00LO\x00\x08" + b"x" * 2048, "has 2048 bytes", id="a value without end"),
        pytest.param(b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff", "ends in the middle", id="an open sequence"),
        pytest.param(
            b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100,
            "nested deeper",
            id="nested",
        ),
    ],
)
def test_broken_bytes_are_unreadable_with_the_place(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        header_of(data, 0, EXPLICIT)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN]))
def test_any_bytes_give_a_header_or_unreadable(data: bytes, syntax: str) -> None:
    with contextlib.suppress(Unreadable):
        header_of(data, 0, syntax)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 400), junk=st.binary(min_size=1, max_size=8), implicit=st.booleans())
def test_any_damage_gives_a_header_or_unreadable(
    at: int, junk: bytes, implicit: bool, damaged_base: Callable[[bool], bytes]
) -> None:
    base = damaged_base(implicit)
    data = base[: at % len(base)] + junk + base[at % len(base) + len(junk) :]
    with contextlib.suppress(Unreadable):
        header_of(data, 0, IMPLICIT if implicit else EXPLICIT)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_remembered_layout_reads_what_a_walk_reads(data: st.DataObject) -> None:
    """Of objects made alike and then changed anywhere: the quick way says the same, or nothing that the walk does not say."""
    base = _alike("1.2.3.4", b"PHANTOM^ONE ")
    headers = Headers()
    for _ in range(3):
        headers.of_start(base, EXPLICIT, "kind")
    changed = bytearray(_alike(data.draw(st.sampled_from(["1.2.3.4", "1.2.3.9", "1.2.3.44"])), b"PHANTOM^TWO "))
    for at in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=3)):
        changed[at] = data.draw(st.integers(0, 255))
    quick, walked = headers.of_start(bytes(changed), EXPLICIT, "kind"), header_of_start(bytes(changed), EXPLICIT)
    assert quick == walked
    assert quick is None or walked is None or quick.identity == walked.identity


def _alike(uid: str, name: bytes) -> bytes:
    from tests.dicom_node.ingest.wire import CT, data_element, even

    return b"".join(
        (
            data_element(0x00080016, "UI", even(CT)),
            data_element(0x00080018, "UI", even(uid)),
            data_element(0x00080060, "CS", b"CT"),
            data_element(0x00081140, "SQ", b"\xfe\xff\x00\xe0\x08\0\0\0" + data_element(0x00080060, "CS", b"")),
            data_element(0x00100010, "PN", name),
            data_element(0x00100020, "LO", b"P1"),
            data_element(0x0020000D, "UI", even("1.2.9")),
            data_element(0x0020000E, "UI", even("1.2.9.1")),
            data_element(0x7FE00010, "OW", b"\1\2"),
        )
    )


def test_patients_whose_ids_differ_only_beyond_ascii_are_two(
    make: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    data = encode(make(RequestedProcedurePriority="STAT"))
    ids = {header_of(data.replace(b"phantom-1", b"phantom-" + one), 0, EXPLICIT).patient_id for one in (b"\xc4", b"\xd6", b"1")}
    assert len(ids) == 3
