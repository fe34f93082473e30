"""The findings SR, read by highdicom: a reader that did not build it."""

from dataclasses import replace
from io import BytesIO

import pytest
from highdicom.sr import Comprehensive3DSR
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes as dictionary

from inference.reading import Code, FrameSource
from reporting.context import DocumentKind
from reporting.text import sr_text
from reporting.uids import device_uid, tracking_uid
from reporting.wording import DISCLAIMER, PHANTOM_MARK
from tests.reporting.samples import DRAFTING, OPTIONS, TRIAGE, by_kind, context, frame_of, header, reading, unassessed

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
MULTIFRAME_US = "1.2.840.10008.5.1.4.1.1.3.1"
ECG_CLASS = "1.2.840.10008.5.1.4.1.1.9.1.1"


def build(read=None, ctx=None) -> Dataset:
    return dcmread(BytesIO(by_kind(read or reading(), ctx or context(), OPTIONS)[DocumentKind.FINDINGS_SR].content))


def groups(ds: Dataset):
    return Comprehensive3DSR.from_dataset(ds).content.get_image_measurement_groups()


def evaluations(group) -> dict[str, str]:
    return {item.name.meaning: item.value.meaning for item in group.get_qualitative_evaluations()}


def measurements(group) -> dict[str, float]:
    return {item.name.meaning: float(item.value) for item in group.get_measurements()}


def test_each_finding_is_a_group_with_its_answer():
    found = groups(build())
    assert [group.finding_type.meaning for group in found] == ["Pneumothorax", "Pleural effusion", "Pulmonary nodule"]
    assert [evaluations(group)["Presence of property"] for group in found] == ["Present", "Absent", "Undetermined"]
    assert [evaluations(group)["Urgency if present"] for group in found] == ["STAT", "Urgent", "Routine"]


def test_probability_is_certainty_in_percent_and_absent_where_none_was_formed():
    found = groups(build())
    assert [measurements(group).get("Certainty of Finding") for group in found] == [93.14, 2.10, None]
    assert [measurements(group)["Decision threshold"] for group in found] == [50, 40, 60]
    assert found[0].get_measurements(name=dictionary.DCM.CertaintyOfFinding)[0].unit == dictionary.UCUM.Percent


def test_groups_can_be_tracked():
    found = groups(build())
    assert [group.tracking_identifier for group in found] == ["pneumothorax", "effusion", "nodule"]
    assert found[0].tracking_uid == tracking_uid("1.2.3", "pneumothorax")
    assert len({group.tracking_uid for group in found}) == 3


def test_finding_site_and_deciding_image():
    found = groups(build())
    assert [[site.value.value for site in group.finding_sites] for group in found] == [["39607008"], [], ["39607008"]]
    images = [[image.referenced_sop_instance_uid for image in group.source_images] for group in found]
    assert images == [["1.2.3.1.1"], ["1.2.3.1.1"], []]


def test_observer_is_the_device_and_no_person():
    observers = Comprehensive3DSR.from_dataset(build()).content.get_observer_contexts()
    assert [observer.observer_type for observer in observers] == [dictionary.DCM.Device]
    assert observers[0].observer_identifying_attributes.uid == "1.2.826.0.1.99"


def test_the_whole_document_says_what_it_is():
    text = sr_text(by_kind(reading(phantom=True), context(), OPTIONS)[DocumentKind.FINDINGS_SR].content)
    assert DISCLAIMER in text
    assert PHANTOM_MARK in text
    assert "A. Person, 2026" in text
    assert "2 instances not read: no pixels." in text
    assert "PHANTOM" in build(reading(phantom=True)).SeriesDescription


def test_flags_equipment_and_contribution():
    ds = build()
    assert (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag) == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in ds
    triage, drafting = ds.ContributingEquipmentSequence
    assert (triage.ManufacturerModelName, drafting.ManufacturerModelName) == (TRIAGE.name, DRAFTING.name)
    assert triage.DeviceUID == device_uid(TRIAGE.digest)
    assert triage.SoftwareVersions[0] == TRIAGE.version
    assert triage.Manufacturer == TRIAGE.source


def test_times_are_the_readings_not_the_clocks():
    ds = build()
    assert (ds.ContentDate, ds.ContentTime) == ("20260304", "050607.080900")
    assert "TimezoneOffsetFromUTC" not in ds


def test_times_follow_the_images_time_zone():
    ds = build(ctx=context(header(TimezoneOffsetFromUTC="-0330")))
    assert (ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC) == ("20260304", "003607.080900", "-0330")


def coded(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "LN", meaning
    return item


PROCEDURES = {
    "performed": ({"ProcedureCodeSequence": [coded("36643-5", "XR Chest 2 Views")]}, "XR Chest 2 Views"),
    "requested": ({"RequestedProcedureCodeSequence": [coded("30745-4", "XR Chest")]}, "XR Chest"),
    "half a code": ({"ProcedureCodeSequence": [coded("1", "")]}, "XR unspecified body region"),
    "by modality": ({"Modality": "MR"}, "MRI unspecified body region"),
    "nothing known": ({"Modality": "OT"}, "Imaging procedure"),
}


@pytest.mark.parametrize(("changes", "wanted"), PROCEDURES.values(), ids=PROCEDURES)
def test_procedure_reported_is_the_imaging_procedure(changes: dict[str, object], wanted: str):
    ds = build(ctx=context(header(**changes)))
    named = [item for item in ds.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in named] == [wanted]
    performed = [code.CodeMeaning for code in ds.PerformedProcedureCodeSequence]
    assert performed == ([wanted] if wanted == "XR Chest 2 Views" else [])


def test_request_and_accession_are_copied():
    inner = Dataset()
    inner.RequestedProcedureID, inner.RequestedProcedureDescription = "RP1", "Chest"
    request = build(ctx=context(header(RequestAttributesSequence=[inner]))).ReferencedRequestSequence[0]
    assert (request.AccessionNumber, request.RequestedProcedureID, request.RequestedProcedureDescription) == (
        "ACC7",
        "RP1",
        "Chest",
    )
    assert request.StudyInstanceUID == "1.2.3"
    assert "ReferencedRequestSequence" not in build(ctx=context(header(AccessionNumber="")))


def test_all_instances_sent_are_evidence_by_series():
    sent = [header(), header(SOPInstanceUID="1.2.3.1.2"), header(SOPInstanceUID="1.2.3.2.1", SeriesInstanceUID="1.2.3.2")]
    (study,) = build(ctx=context(*sent)).CurrentRequestedProcedureEvidenceSequence
    series = {
        item.SeriesInstanceUID: [ref.ReferencedSOPInstanceUID for ref in item.ReferencedSOPSequence]
        for item in study.ReferencedSeriesSequence
    }
    assert study.StudyInstanceUID == "1.2.3"
    assert series == {"1.2.3.1": ["1.2.3.1.1", "1.2.3.1.2"], "1.2.3.2": ["1.2.3.2.1"]}


def test_an_image_read_but_not_among_the_headers_is_evidence_too():
    other = FrameSource("1.2.3.7.1", CT_CLASS, "1.2.3.7")
    evidence = Comprehensive3DSR.from_dataset(build(reading(other))).get_evidence()
    assert {str(item[2]) for item in evidence} == {"1.2.3.1.1", "1.2.3.7.1"}


def image_frames(ds: Dataset) -> list[object]:
    items = [
        child
        for group in ds.ContentSequence[-2].ContentSequence
        for child in group.ContentSequence
        if child.ValueType == "IMAGE"
    ]
    return [item.ReferencedSOPSequence[0].get("ReferencedFrameNumber") for item in items]


def test_frame_number_only_where_the_class_has_several():
    many = header(SOPClassUID=MULTIFRAME_US, NumberOfFrames=12, Modality="US")
    assert image_frames(build(reading(replace(frame_of(many), frame_number=5)), context(many))) == [5, 5]
    assert image_frames(build()) == [None, None]
    wrong = header(SOPClassUID=CT_CLASS, NumberOfFrames=2, Modality="CT")
    assert image_frames(build(reading(frame_of(wrong)), context(wrong))) == [None, None]


def test_a_study_that_could_not_be_assessed_says_why():
    ds = build(unassessed(), context(header(SOPClassUID=ECG_CLASS, Modality="ECG")))
    text = "\n".join(str(item.get("TextValue", "")) for element in ds.iterall() if element.VR == "SQ" for item in element.value)
    assert "Not assessable: The catalogue does not cover CT." in text
    assert [evaluations(group)["Presence of property"] for group in groups(ds)] == ["Undetermined"] * 3
    assert "IMAGE" not in {item.get("ValueType") for element in ds.iterall() if element.VR == "SQ" for item in element.value}
    assert len(ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == 1


def test_illegal_instance_uids_are_left_out_and_told():
    odd = header(SOPInstanceUID="not-a-uid")
    text = sr_text(by_kind(reading(frame_of(odd)), context(odd), OPTIONS)[DocumentKind.FINDINGS_SR].content)
    assert "1 instance has no legal UIDs of their own" in text
    assert "not-a-uid" not in text


def test_coding_schemes_are_identified():
    ds = build(replace(reading(), findings=(replace(reading().findings[0], code=Code("X1", "99SITE", "Site finding")),)))
    named = {item.CodingSchemeDesignator: item.get("CodingSchemeUID") for item in ds.CodingSchemeIdentificationSequence}
    assert named["SCT"] == "2.16.840.1.113883.6.96"
    assert named["99WETREAD"].startswith("2.25.")
    assert named["99SITE"] is None


def test_long_codes_and_meanings_fit_their_attributes():
    finding = replace(reading().findings[0], code=Code("1234567890123456789", "SCT", "m" * 80))
    ds = build(replace(reading(), findings=(finding,)))
    code = ds.ContentSequence[-2].ContentSequence[0].ContentSequence[2].ConceptCodeSequence[0]
    assert code.LongCodeValue == "1234567890123456789"
    assert "CodeValue" not in code
    assert code.CodeMeaning == "m" * 64
