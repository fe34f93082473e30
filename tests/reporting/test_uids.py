import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from inference.reading import HeadVersion
from reporting.uids import ReadingKey, derive_uid, device_uid, tracking_uid
from tests.reporting.samples import CATALOGUE, OPTIONS, TRIAGE, context, reading


@given(st.lists(st.text(max_size=20), max_size=4))
def test_derived_uids_are_legal_and_uuid_shaped(parts: list[str]):
    uid = derive_uid(*parts)
    assert UID(uid).is_valid
    assert len(uid) <= 44
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5
    assert uid == derive_uid(*parts)


def test_borders_between_parts_count():
    assert len({derive_uid("a", "bc"), derive_uid("ab", "c"), derive_uid("abc"), derive_uid("abc", "")}) == 4


def test_a_uid_of_today_is_the_uid_of_tomorrow():
    """Written down once: a change here would send every stored result again under another name."""
    assert tracking_uid("1.2.3", "pneumothorax") == "2.25.69824690715715631443778618151945939121"


def test_other_weights_are_another_device():
    assert device_uid("a" * 64) != device_uid("b" * 64)


OTHERS = {
    "study": lambda r, c, o: (r, replace(c, study_instance_uid="1.2.4"), o),
    "input": lambda r, c, o: (r, replace(c, input_digest="e" * 64), o),
    "revision": lambda r, c, o: (r, replace(c, revision=2), o),
    "time": lambda r, c, o: (r, replace(c, read_at=c.read_at + timedelta(seconds=1)), o),
    "station": lambda r, c, o: (r, replace(c, station_name="OTHER"), o),
    "model": lambda r, c, o: (replace(r, models=(replace(TRIAGE, digest="9" * 64),)), c, o),
    "permission": lambda r, c, o: (replace(r, models=(replace(TRIAGE, acknowledgement="by X"), r.models[1])), c, o),
    "device": lambda r, c, o: (replace(r, device="cuda"), c, o),
    "precision": lambda r, c, o: (replace(r, precision="bfloat16"), c, o),
    "head": lambda r, c, o: (replace(r, heads=(HeadVersion("probe", "site", "1", "9" * 64),)), c, o),
    "catalogue": lambda r, c, o: (replace(r, catalogue=replace(CATALOGUE, digest="9" * 64)), c, o),
    "software": lambda r, c, o: (r, c, replace(o, software_version="0.2.0")),
    "status": lambda r, c, o: (r, c, replace(o, fhir_status="registered")),
    "write": lambda r, c, o: (r, c, replace(o, fhir_write="by-search")),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_input_is_another_document(change):
    same = ReadingKey.of(reading(), context(), OPTIONS)
    other = ReadingKey.of(*change(reading(), context(), OPTIONS))
    assert same == ReadingKey.of(reading(), context(), OPTIONS)
    assert same.uid("findings-sr") != other.uid("findings-sr")


def test_another_fit_is_another_document():
    first, second = (HeadVersion("calibration", "site", "1", digit * 64) for digit in "12")
    uids = {
        ReadingKey.of(replace(reading(), heads=heads), context(), OPTIONS).uid("findings-sr")
        for heads in ((first,), (second,), (first, second), (second, first))
    }
    assert len(uids) == 3


def test_documents_of_one_reading_differ():
    key = ReadingKey.of(reading(), context(), OPTIONS)
    assert len({key.uid("findings-sr"), key.uid("draft-sr"), key.uid("findings-sr", "series")}) == 3
