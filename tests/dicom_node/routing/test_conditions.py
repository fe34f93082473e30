"""Each condition on a study, holding and not; and that what is shown of them agrees with what decides."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.routing import Conditions, StudyFacts

STATION = {"StationName": frozenset({"ER1"}), "ImageType": frozenset({"ORIGINAL", "PRIMARY"})}
FILM = StudyFacts(
    modalities=frozenset({"DX"}),
    body_parts=frozenset({"CHEST"}),
    calling_aes=frozenset({"ED"}),
    called_aes=frozenset({"WETREAD"}),
    hosts=frozenset({"10.1.2.3"}),
    requested_priorities=frozenset({"STAT"}),
    attribute=lambda keyword: STATION.get(keyword, frozenset()),
    at=datetime(2026, 11, 22, 23, 30),  # a Sunday
)

HOLDS: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing asked": ({}, True),
    "whatever the case": ({"modality": "dx", "body_part": ["chest"]}, True),
    "an AE title is exact": ({"calling_ae": "ed"}, False),
    "called AE": ({"called_ae": "WETREAD"}, True),
    "address": ({"host": "10.1.2.3"}, True),
    "network": ({"host": ["192.168.0.0/16", "10.1.0.0/16"]}, True),
    "another network": ({"host": "10.2.0.0/16"}, False),
    "attribute": ({"attributes": {"StationName": "er1"}}, True),
    "attribute with a star": ({"attributes": {"StationName": ["icu*", "ER*"]}}, True),
    "one of an attribute's values": ({"attributes": {"ImageType": "primary"}}, True),
    "attribute the images lack": ({"attributes": {"InstitutionName": "*"}}, False),
    "two attributes, one wrong": ({"attributes": {"StationName": "ER1", "ImageType": "DERIVED"}}, False),
    "at night, over midnight": ({"hours": "22:00-06:00"}, True),
    "by day": ({"hours": "06:00-22:00"}, False),
    "the end is not included": ({"hours": ["20:00-23:30"]}, False),
    "the start is": ({"hours": ["23:30-23:31"]}, True),
    "the whole day": ({"hours": "00:00-00:00"}, True),
    "weekday": ({"weekdays": ["Sat", "sunday"]}, True),
    "another weekday": ({"weekdays": "mon"}, False),
    "any": ({"any": [{"modality": "CT"}, {"body_part": "CHEST"}]}, True),
    "any, none": ({"any": [{"modality": "CT"}, {"body_part": "HEAD"}]}, False),
    "all": ({"all": [{"modality": "DX"}, {"any": [{"hours": "22:00-06:00"}, {"weekdays": "sun"}]}]}, True),
    "not": ({"not": {"modality": "CT"}}, True),
    "not, but": ({"not": {"modality": "DX"}}, False),
    "beside others": ({"modality": "DX", "not": {"body_part": "HAND"}, "any": [{"calling_ae": "ED"}]}, True),
}


@pytest.mark.parametrize(("when", "holds"), HOLDS.values(), ids=HOLDS)
def test_a_condition(when: dict[str, Any], holds: bool) -> None:
    assert Conditions.model_validate(when).hold(FILM) is holds


@pytest.mark.parametrize("when", [{"hours": "00:00-00:00"}, {"weekdays": "sun"}])
def test_without_a_moment_no_condition_on_it_holds(when: dict[str, Any]) -> None:
    assert not Conditions.model_validate(when).hold(StudyFacts())


PARTS = st.sampled_from([when for when, _ in HOLDS.values() if when])
TREES = st.recursive(
    PARTS,
    lambda below: st.one_of(
        st.fixed_dictionaries({"any": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"all": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": below}),
    ),
    max_leaves=8,
)


def by_hand(when: dict[str, Any]) -> bool:
    """The same decision, made another way: each named part by itself, then joined."""
    nested = {"any", "all", "not"} & when.keys()
    plain = all(Conditions.model_validate({key: when[key]}).hold(FILM) for key in when.keys() - nested)
    joined = {"any": lambda parts: any(map(by_hand, parts)), "all": lambda parts: all(map(by_hand, parts))}
    return plain and all(not by_hand(when["not"]) if key == "not" else joined[key](when[key]) for key in nested)


@given(TREES)
def test_nested_conditions_are_what_their_parts_say(when: dict[str, Any]) -> None:
    conditions = Conditions.model_validate(when)
    assert conditions.hold(FILM) == by_hand(when)
    shown = list(conditions.judge(FILM))
    assert conditions.hold(FILM) == all(one.holds for one in shown if one.depth == 0)
