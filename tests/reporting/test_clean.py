import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from reporting import clean

CASES = [
    ("date", "DA", "20260229", ""),  # no leap year
    ("date", "DA", "20240229", "20240229"),
    ("date of ACR-NEMA", "DA", "1995.02.03", "19950203"),
    ("date of words", "DA", "unknown", ""),
    ("time", "TM", "235960", ""),
    ("time", "TM", "0430", "0430"),
    ("time of ACR-NEMA", "TM", "04:30:11", "043011"),
    ("age", "AS", "45", ""),
    ("age", "AS", "045Y", "045Y"),
    ("weight", "DS", "70,5", ""),
    ("weight", "DS", "70.5", "70.5"),
    ("code string", "CS", "chest", "CHEST"),
    ("code string", "CS", "a/b", ""),
    ("short string", "SH", "x" * 20, "x" * 16),
    ("long string", "LO", "a\\b\x00c\x1b", "a/b c"),
    ("text with lines", "LT", "a\nb\x07", "a\nb"),
    ("name", "PN", "A^B^C^D^E^F=G=H=I", "A^B^C^D^E=G=H"),
    ("name", "PN", "A^^^^", "A"),
    ("name with phonetic group only", "PN", "==やまだ", "==やまだ"),
    ("long name", "PN", "x" * 70, "x" * 64),
]


@pytest.mark.parametrize(("vr", "value", "wanted"), [case[1:] for case in CASES], ids=[f"{c[0]}-{c[2][:12]!r}" for c in CASES])
def test_legal(vr: str, value: str, wanted: str):
    assert clean.legal(value, vr) == wanted


@given(
    st.text(st.characters(exclude_categories=[]), max_size=100),
    st.sampled_from(["LO", "SH", "PN", "CS", "DA", "TM", "UT", "DS"]),
)
def test_whatever_comes_is_legal_and_stays_so(value: str, vr: str):
    once = clean.legal(value, vr)
    assert clean.legal(once, vr) == once
    once.encode("utf-8")
    assert len(once) <= clean.LIMITS.get(vr, 10_000)
    if vr != "UT":
        assert not re.search(r"[\x00-\x1f\\]", once)


def test_identities_are_kept_to_the_letter():
    ds = Dataset()
    ds.PatientID = ["A", "B"]  # a backslash in the file
    assert clean.text(ds, "PatientID") == "A\\B"
    long = Dataset()
    long.add(RawDataElement(Tag("PatientID"), "LO", 80, b"9" * 80, 0, False, True))
    with clean.quiet_headers():
        assert clean.text(long, "PatientID") == "9" * 80


def test_of_several_values_the_first_counts_or_all():
    ds = Dataset()
    ds.DeidentificationMethod = ["one", "two"]
    assert clean.text(ds, "DeidentificationMethod") == "one"
    assert clean.texts(ds, "DeidentificationMethod") == ["one", "two"]


BROKEN = [
    ("PatientWeight", "DS", b"heavy"),
    ("NumberOfFrames", "IS", b"x1"),
    ("StudyDate", "DA", b"00000000"),
    ("PatientName", "PN", b"\xff\xfe\xfd"),
    ("ProcedureCodeSequence", "SQ", b"\x01\x02"),
]


@pytest.mark.parametrize(("keyword", "vr", "value"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_elements_count_as_absent_or_are_decoded(keyword: str, vr: str, value: bytes):
    ds = Dataset()
    ds._dict[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
    with clean.quiet_headers():
        found = clean.text(ds, keyword)
        assert clean.items(ds, keyword) == ()
    assert found == "" or keyword == "PatientName"


@pytest.mark.parametrize(
    ("uid", "legal", "referable"),
    [("1.2.3", True, True), ("1.02.3", False, True), ("1.2.", False, True), ("", False, False), ("ab.c", False, False),
     ("1." + "2" * 63, False, False), ("999.1", True, True)],
)  # fmt: skip
def test_uids(uid: str, legal: bool, referable: bool):
    assert clean.is_uid(uid) is legal
    assert clean.is_referable(uid) is referable
