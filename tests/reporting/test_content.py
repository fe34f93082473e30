"""Content items as we encode them, byte for byte against highdicom's, and read back by the gate's own reader."""

from __future__ import annotations

import struct
from io import BytesIO

import highdicom.sr as hd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from inference.reading import Code
from reporting import codes
from reporting.conformance.reader import read_object
from reporting.content import (
    CONTAINS,
    HAS_PROPERTIES,
    ImageReference,
    Item,
    code_item,
    container,
    image_item,
    percent_item,
    person_item,
    text_item,
    uid_item,
)
from reporting.context import DocumentKind
from tests.reporting.samples import OPTIONS, by_kind, context, disagreeing, reading

WORDS = OPTIONS.words
LONG = Code("12345678901234567890", "99X", "Größe der Läsion")
URN = Code("urn:oid:1.2.3.4.5.6.7.8", "99X", "By URN")


def coded(code: Code) -> hd.CodedConcept:
    return hd.CodedConcept(code.value, code.scheme, code.meaning)


def encoded(item: Dataset) -> bytes:
    whole = Dataset()
    whole.update(item)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, whole, "utf8")
    return buffer.getvalue()


NAME = coded(codes.FINDING)
CASES = {
    "code": (code_item(CONTAINS, codes.FINDING, codes.PRESENT), hd.CodeContentItem(NAME, coded(codes.PRESENT), CONTAINS)),
    "long code": (code_item(CONTAINS, codes.FINDING, LONG), hd.CodeContentItem(NAME, coded(LONG), CONTAINS)),
    "code by URN": (code_item(CONTAINS, codes.FINDING, URN), hd.CodeContentItem(NAME, coded(URN), CONTAINS)),
    "text": (text_item(CONTAINS, codes.FINDING, "Größe 3 mm 日本"), hd.TextContentItem(NAME, "Größe 3 mm 日本", CONTAINS)),
    "no text": (text_item(CONTAINS, codes.FINDING, " "), hd.TextContentItem(NAME, "-", CONTAINS)),
    "UID": (uid_item(CONTAINS, codes.FINDING, "1.2.34"), hd.UIDRefContentItem(NAME, "1.2.34", CONTAINS)),
    "person": (person_item(CONTAINS, codes.FINDING, "A^B=山^田"), hd.PnameContentItem(NAME, "A^B=山^田", CONTAINS)),
    "number": (
        percent_item(HAS_PROPERTIES, codes.FINDING, 0.12345, codes.PERCENT),
        hd.NumContentItem(NAME, 12.35, coded(codes.PERCENT), relationship_type=HAS_PROPERTIES),
    ),
    "image": (
        image_item(CONTAINS, codes.FINDING, ImageReference("1.2.3", "1.2.4", "DX")),
        hd.ImageContentItem(NAME, "1.2.3", "1.2.4", relationship_type=CONTAINS),
    ),
    "frame": (
        image_item(CONTAINS, codes.FINDING, ImageReference("1.2.3", "1.2.4", "DX", 7)),
        hd.ImageContentItem(NAME, "1.2.3", "1.2.4", referenced_frame_numbers=7, relationship_type=CONTAINS),
    ),
    "container": (
        container(codes.FINDING, [], CONTAINS, template="1501"),
        hd.ContainerContentItem(NAME, is_content_continuous=False, template_id="1501", relationship_type=CONTAINS),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), CASES.values(), ids=CASES)
def test_items_are_those_of_highdicom(ours: Item, theirs: Dataset) -> None:
    assert ours.encode(WORDS) == encoded(theirs)


REPORTS = [
    document.content
    for read in (reading(), disagreeing())
    for kind, document in by_kind(read, context(), OPTIONS).items()
    if kind is not DocumentKind.FHIR_BUNDLE
]


@pytest.mark.parametrize("file", REPORTS)
def test_the_gates_reader_reads_what_pydicom_reads(file: bytes) -> None:
    ours, theirs = read_object(file), dcmread(BytesIO(file))
    assert ours is not None
    held = [(int(one.tag), one.VR, one.keyword) for one in ours.iterall()]
    assert held == [(int(one.tag), one.VR, one.keyword) for one in theirs.iterall()]
    for one, other in zip(ours.iterall(), theirs.iterall(), strict=True):
        assert one.is_empty == other.is_empty or one.VR == "SQ"
        if one.VR != "SQ":
            assert str(one.value) == str(other.value), one.keyword
    assert [str(one.value) for one in ours.file_meta] == [str(one.value) for one in theirs.file_meta]


@given(st.integers(0, len(REPORTS[0]) - 1), st.integers(0, 255))
def test_damaged_bytes_never_break_the_reader(place: int, byte: int) -> None:
    file = bytearray(REPORTS[0])
    file[place] = byte
    found = read_object(bytes(file))
    assert found is None or isinstance(found, Dataset)


@pytest.mark.parametrize("cut", [0, 100, 132, 401, -1, -9])
def test_a_torn_file_is_left_to_pydicom(cut: int) -> None:
    assert read_object(REPORTS[0][:cut]) is None


def test_a_length_too_long_for_its_value_representation_is_refused() -> None:
    with pytest.raises(struct.error):
        uid_item(CONTAINS, codes.FINDING, "1" * 70_000)
