"""Content trees of anybody's reports: items by reference, key objects, coordinates; what is shown of a broken one."""

from __future__ import annotations

from io import BytesIO

import pytest
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage, generate_uid

from reporting.clean import quiet_headers
from reporting.conformance import standard_faults
from reporting.conformance.content_tree import tree_faults
from reporting.content import put
from tests.reporting.dicom_changes import group, named
from tests.reporting.dicom_faults import F, sound
from tests.reporting.samples import header

HOSPITAL_NUMBER = "4711-0815"


def report() -> Dataset:
    return dcmread(BytesIO(sound()[F].content))


def pointing(*steps: int) -> Dataset:
    """An item that is another one of the tree."""
    return put(Dataset(), RelationshipType="INFERRED FROM", ReferencedContentItemIdentifier=list(steps))


@pytest.mark.parametrize(
    ("steps", "sop_class", "faults"),
    [
        ((1,), "", 0),
        ((1, 2), "", 0),
        ((1, 999), "", 1),
        ((2, 1), "", 1),
        ((1, 0), "", 1),
        ((1, 2), ComprehensiveSRStorage, 0),
        ((1, 2), EnhancedSRStorage, 1),
    ],
    ids=["root", "child", "no such child", "no such root", "counted from 0", "Comprehensive", "Enhanced: by value only"],
)
def test_items_by_reference(steps: tuple[int, ...], sop_class: str, faults: int) -> None:
    ds = report()
    group(ds).ContentSequence.append(pointing(*steps))
    ds.SOPClassUID = sop_class or ds.SOPClassUID
    assert len([fault for fault in tree_faults(ds) if fault.rule == "by-reference"]) == faults


@pytest.mark.parametrize(("sop_class", "faults"), [("", 0), (ComprehensiveSRStorage, 2)], ids=["3D", "plane"])
def test_times_of_places_in_space(sop_class: str, faults: int) -> None:
    """A TCOORD of an SCOORD3D: in Comprehensive 3D SR alone (A.35.13)."""
    place = put(Dataset(), RelationshipType="SELECTED FROM", ValueType="SCOORD3D", GraphicType="POINT", GraphicData=[1, 2, 3])
    put(place, ReferencedFrameOfReferenceUID="1.2.3")
    moment = put(Dataset(), RelationshipType="CONTAINS", ValueType="TCOORD", TemporalRangeType="POINT", ContentSequence=[place])
    ds = report()
    before = {str(fault) for fault in tree_faults(ds)}
    ds.ContentSequence.append(moment)
    ds.SOPClassUID = sop_class or ds.SOPClassUID
    found = [fault for fault in tree_faults(ds) if "SCOORD3D" in fault.text or "TCOORD" in fault.text]
    assert before == set()
    assert len(found) == bool(faults)


def test_key_objects_of_another_maker() -> None:
    image = header(InstanceNumber=1, StudyDate="20260304", ReferringPhysicianName="", SeriesNumber=1)
    selection = KeyObjectSelection(codes.DCM.OfInterest, [image])
    with quiet_headers():
        document = KeyObjectSelectionDocument([image], selection, generate_uid(), 9, generate_uid(), 1, "Maker", "Hospital")
    assert [str(fault) for fault in standard_faults(document)] == []
    text = put(Dataset(), RelationshipType="HAS PROPERTIES", ValueType="TEXT", TextValue="x")
    text.ConceptNameCodeSequence = document.ConceptNameCodeSequence
    put(document, ContentSequence=[*document.ContentSequence, text])
    assert [fault.rule for fault in standard_faults(document)] == ["relationship"]


def test_foreign_words_are_not_shown() -> None:
    ds = report()
    put(named(ds, "121071"), ValueType=HOSPITAL_NUMBER)
    put(named(ds, "111012"), RelationshipType=HOSPITAL_NUMBER)
    found = standard_faults(ds)
    assert {"relationship", "value-type"} <= {fault.rule for fault in found}
    assert not any(HOSPITAL_NUMBER in str(fault) for fault in found)
