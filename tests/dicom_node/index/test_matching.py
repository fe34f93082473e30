"""Attribute matching against PS3.4 C.2.2.2, case by case, and against pynetdicom's own reading of wildcards."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.index.matching import Key, matches, narrowed


def key(keyword: str, value: str) -> Key:
    return Key(f"{tag_for_keyword(keyword):08X}", dictionary_VR(keyword), value)


def held(keyword: str, *values: Any) -> dict[str, Any]:
    return {f"{tag_for_keyword(keyword):08X}": {"vr": dictionary_VR(keyword), "Value": list(values)}}


def name(text: str) -> dict[str, str]:
    groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False))
    return {group: value for group, value in groups.items() if value}


SAME = {
    "single value": ("PatientID", "P-1", ["P-1"], True),
    "another value": ("PatientID", "P-1", ["P-12"], False),
    "case counts": ("PatientID", "p-1", ["P-1"], False),
    "padding does not": ("PatientID", "P-1 ", ["P-1"], True),
    "absent": ("PatientID", "P-1", [], False),
    "universal": ("PatientID", "", [], True),
    "only asterisks": ("PatientID", "**", [], True),
    "asterisk": ("StudyDescription", "*hest*", ["Chest PA"], True),
    "question mark": ("StationName", "ER?", ["ER1"], True),
    "question mark needs one": ("StationName", "ER?", ["ER"], False),
    "a dot is a dot": ("StationName", "E.1*", ["EX1"], False),
    "one of several": ("ModalitiesInStudy", "SR", ["DX", "SR"], True),
    "one of several wanted": ("ModalitiesInStudy", "CT\\DX", ["DX"], True),
    "list of UIDs": ("StudyInstanceUID", "1.2\\1.3", ["1.3"], True),
    "not in the list": ("StudyInstanceUID", "1.2\\1.3", ["1.4"], False),
    "no wildcard in a UID": ("StudyInstanceUID", "1.*", ["1.2"], False),
    "the day itself": ("StudyDate", "20260102", ["20260102"], True),
    "range": ("StudyDate", "20260101-20260131", ["20260131"], True),
    "before the range": ("StudyDate", "20260101-20260131", ["20251231"], False),
    "from": ("StudyDate", "20260101-", ["20270101"], True),
    "until": ("StudyDate", "-20260101", ["20260102"], False),
    "no date": ("StudyDate", "20260101-", [], False),
    "times": ("StudyTime", "0800-1200", ["115959.5"], True),
    "the hour that a time is told to": ("StudyTime", "08-12", ["125959"], True),
    "after the times": ("StudyTime", "0800-1200", ["120100"], False),
    "a time in short": ("StudyTime", "10", ["100000"], True),
    "a number": ("InstanceNumber", "007", [7], True),
    "another number": ("InstanceNumber", "7", [8], False),
    "a name in another case": ("PatientName", "SMITH^ann", [name("Smith^Ann")], True),
    "a name with delimiters": ("PatientName", "Smith^Ann^^", [name("Smith^Ann")], True),
    "the beginning of a name": ("PatientName", "Smi*", [name("Smith^Ann")], True),
    "not the beginning": ("PatientName", "Ann*", [name("Smith^Ann")], False),
    "an ideographic group": ("PatientName", "山田*", [name("Yamada^Tarou=山田^太郎")], True),
    "all groups": ("PatientName", "Yamada^Tarou=山田^太郎", [name("Yamada^Tarou=山田^太郎")], True),
}


@pytest.mark.parametrize(("keyword", "wanted", "values", "same"), SAME.values(), ids=SAME)
def test_matching(keyword: str, wanted: str, values: list[Any], same: bool) -> None:
    assert matches(held(keyword, *values), [key(keyword, wanted)]) is same


def test_every_key_must_match_and_one_that_is_not_known_counts_for_nothing() -> None:
    told = {**held("PatientID", "P"), **held("StudyID", "7")}
    assert matches(told, [key("PatientID", "P"), key("StudyID", "7"), key("EthnicGroup", "X")])
    assert not matches(told, [key("PatientID", "P"), key("StudyID", "8")])


@settings(deadline=None)
@given(st.text("AB*?^.", max_size=8), st.text("AB^.", max_size=8))
def test_wildcards_are_those_of_the_shell(wanted: str, text: str) -> None:
    """fnmatch as the oracle; it knows brackets too, which do not occur here."""
    if not wanted.strip(" *"):
        return
    assert matches(held("StudyDescription", text), [key("StudyDescription", wanted)]) is fnmatchcase(text, wanted)


@settings(deadline=None)
@given(st.sampled_from(["PatientName", "StudyDate", "StudyTime", "InstanceNumber", "StudyInstanceUID"]), st.text(), st.text())
def test_no_value_of_a_key_raises(keyword: str, wanted: str, value: str) -> None:
    matches(held(keyword, value), [key(keyword, wanted)])
    narrowed([key(keyword, wanted)])


@settings(deadline=None)
@given(st.text("ABab^*?", max_size=6), st.text("ABab^", max_size=6))
def test_what_the_database_is_asked_for_never_leaves_a_match_out(wanted: str, text: str) -> None:
    from dicom_node.storage.index import name_key_of

    narrow = narrowed([key("PatientName", wanted)])
    if matches(held("PatientName", name(text) if text else ""), [key("PatientName", wanted)]):
        assert name_key_of(text).startswith(narrow.name_prefix)


def test_dates_become_days_of_the_database() -> None:
    assert (narrowed([key("StudyDate", "20260101-")]).since, narrowed([key("StudyDate", "-20260101")]).until) == (
        "20260101",
        "20260101",
    )
    assert re.fullmatch(r"\d*", narrowed([key("StudyDate", "2026.01.01")]).since)
