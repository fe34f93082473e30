"""Every planted fault is caught by the rule it breaks; our own objects raise no alarm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting.conformance import check, faults_of
from reporting.context import DocumentKind
from reporting.errors import DocumentError
from tests.reporting.dicom_faults import PLANTED, F, plant, sound


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_caught_by_its_rule(name: str) -> None:
    found = faults_of(plant(PLANTED[name]))
    assert PLANTED[name].rule in {fault.rule for fault in found}, [str(fault) for fault in found]
    assert all(fault.clause and fault.text for fault in found)
    assert not any("Muster" in fault.text for fault in found)


@pytest.mark.parametrize("kind", sound(), ids=str)
def test_our_own_documents_pass(kind: DocumentKind) -> None:
    assert faults_of(sound()[kind]) == ()
    check(sound()[kind])


def test_there_are_enough_faults_and_no_two_alike() -> None:
    assert len(PLANTED) >= 60
    contents = {plant(fault).content for name, fault in PLANTED.items() if name != "other UID than announced"}
    assert len(contents) >= len(PLANTED) - 2


def test_a_refusal_names_rule_and_clause() -> None:
    with pytest.raises(DocumentError, match=r"Tracking Unique Identifier.*\[finding-item, IHE RAD AIR"):
        check(plant(PLANTED["no tracking UID"]))


@settings(deadline=None, max_examples=60)
@given(st.integers(132, 6000), st.binary(min_size=1, max_size=40))
def test_damaged_bytes_never_pass_silently_and_never_raise(place: int, noise: bytes) -> None:
    content = sound()[F].content
    cut = content[:place] + noise + content[place + len(noise) :]
    faults_of(replace(sound()[F], content=cut))  # must not raise
    assert faults_of(replace(sound()[F], content=content[:place])) != () or place >= len(content)
