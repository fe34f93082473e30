"""Which frames of a study are read, and the reason for each that is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_node.errors import PixelError
from dicom_node.pixels import Instance, Selection, read_instance, select_frames
from dicom_node.pixels.instances import PixelPlace
from dicom_node.pixels.rules import DEFAULT_RULES, NamedWindow, Rule, Take

from .corpus import FOLDER, Row, needs_corpus, rows
from .made import dataset

PIXELS = np.zeros((2, 2), dtype=np.uint8)
PLACE = PixelPlace("PixelData", "OW", 1000, 4)


def instance(uid: str, modality: str = "CT", place: PixelPlace | None = PLACE, **elements: Any) -> Instance:
    header = dataset(PIXELS, Modality=modality, SOPInstanceUID=uid, **elements)
    del header.PixelData
    return Instance(Path(uid), header, str(ExplicitVRLittleEndian), place)


def slices(count: int, series: str = "1.2.3.4", number: int = 1) -> list[Instance]:
    return [
        instance(
            f"{series}.{index}",
            SeriesInstanceUID=series,
            SeriesNumber=number,
            InstanceNumber=count - index,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, 5 * index],
        )
        for index in range(count)
    ]


def uids(selection: Selection) -> list[str]:
    return [chosen.instance.sop_instance_uid for chosen in selection.chosen]


def test_every_projection_is_read_in_series_and_instance_order() -> None:
    study = [instance(f"1.{n}", "DX", SeriesNumber=n // 2, InstanceNumber=n % 2) for n in range(6)]
    random.Random(1).shuffle(study)
    selection = select_frames(study)
    assert uids(selection) == [f"1.{n}" for n in range(6)]
    assert selection.skipped == ()
    first, number, _ = selection.chosen[0]
    assert (first.sop_instance_uid, number) == ("1.0", 1)


def test_slices_are_read_by_position_not_by_number() -> None:
    study = slices(5)
    random.Random(2).shuffle(study)
    assert uids(select_frames(study)) == [f"1.2.3.4.{index}" for index in range(5)]


def test_slices_without_position_are_read_as_numbered() -> None:
    study = [instance(f"1.{n}", InstanceNumber=10 - n) for n in range(4)]
    assert uids(select_frames(study)) == ["1.3", "1.2", "1.1", "1.0"]


def test_many_slices_are_sampled_evenly_and_the_others_named() -> None:
    most = DEFAULT_RULES.of("CT").most
    selection = select_frames(slices(10 * most))
    places = [int(uid.rsplit(".", 1)[1]) for uid in uids(selection)]
    assert len(places) == most
    assert set(np.diff(places)) == {10}
    assert places[0] < 10
    assert len(selection.skipped) == 9 * most
    assert all("evenly sampled" in skipped.reason for skipped in selection.skipped)


def test_a_study_is_read_to_a_limit() -> None:
    study = [one for number in range(9) for one in slices(20, f"1.2.{number}", number)]
    selection = select_frames(study)
    assert len(selection.chosen) == DEFAULT_RULES.most_frames
    assert {uid.rsplit(".", 1)[0] for uid in uids(selection)} == {f"1.2.{number}" for number in range(9)}
    assert len(selection.chosen) + len(selection.skipped) == len(study)


def test_a_clip_is_sampled_and_a_multi_frame_projection_gives_its_first() -> None:
    clip = instance("1.1", "US", NumberOfFrames=80)
    film = instance("1.2", "DX", NumberOfFrames=80)
    assert [number for _, number, _ in select_frames([clip]).chosen] == [6, 16, 26, 36, 46, 56, 66, 76]
    assert [number for _, number, _ in select_frames([film]).chosen] == [1]


def test_an_enhanced_stack_is_ordered_by_its_groups() -> None:
    groups = []
    for height in (30, 10, 20):
        group = Dataset()
        group.PlanePositionSequence = Sequence([Dataset()])
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, height]
        groups.append(group)
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    enhanced = instance(
        "1.1",
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    assert [number for _, number, _ in select_frames([enhanced]).chosen] == [2, 3, 1]


def species(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "species"
    return item


SKIPPED = {
    "report": (instance("1.1", "SR", None), "structured report"),
    "presentation state": (instance("1.1", "PR", None), "presentation state"),
    "key objects": (instance("1.1", "KO", None), "key object"),
    "plan": (instance("1.1", "RTPLAN", None), "radiotherapy plan"),
    "dose": (instance("1.1", "RTDOSE"), "dose values"),
    "segmentation": (instance("1.1", "SEG"), "segmentation"),
    "segmentation by class": (instance("1.1", "OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), "segmentation"),
    "electrocardiogram": (instance("1.1", "ECG", None), "electrocardiogram"),
    "directory": (instance("1.1", "", None, SOPClassUID="1.2.840.10008.1.3.10"), "DICOMDIR"),
    "no pixels": (instance("1.1", "CT", None), "no pixel data"),
    "no rows": (instance("1.1", "CT", Rows=None), "lacks Rows"),
    "a billion frames": (instance("1.1", "CT", NumberOfFrames=999_999_999), "999999999 frames"),
    "localizer": (instance("1.1", "CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
    "no uid": (instance("", "CT"), "no SOP Instance UID"),
    "a dog, in words": (instance("1.1", "DX", PatientSpeciesDescription="Canis lupus familiaris"), "of an animal"),
    "a dog, coded": (instance("1.1", "DX", PatientSpeciesCodeSequence=[species("448771007")]), "of an animal"),
    "video": (
        Instance(Path("1.1"), instance("1.1", "US").header, "1.2.840.10008.1.2.4.102", PLACE),
        "video",
    ),
}


@pytest.mark.parametrize(
    "person",
    [
        instance("1.1", "DX", PatientSpeciesDescription="Homo sapiens"),
        instance("1.1", "DX", PatientSpeciesDescription="HUMAN"),
        instance("1.1", "DX", PatientSpeciesCodeSequence=[species("337915000")]),
        instance("1.1", "DX", PatientSpeciesDescription=""),
    ],
)
def test_a_person_is_read(person: Instance) -> None:
    assert len(select_frames([person]).chosen) == 1


@pytest.mark.parametrize(("one", "reason"), SKIPPED.values(), ids=SKIPPED.keys())
def test_what_is_no_image_is_skipped_with_a_reason(one: Instance, reason: str) -> None:
    film = instance("1.99", "DX")
    selection = select_frames([one, film])
    assert uids(selection) == ["1.99"]
    assert [reason in skipped.reason for skipped in selection.skipped] == [True]


def test_a_second_copy_is_skipped() -> None:
    selection = select_frames([instance("1.1", "DX"), instance("1.1", "DX")])
    assert uids(selection) == ["1.1"]
    assert "second copy" in selection.skipped[0].reason


def test_raw_mammograms_are_read_only_where_alone() -> None:
    raw = instance("1.1", "MG", PresentationIntentType="FOR PROCESSING")
    shown = instance("1.2", "MG", PresentationIntentType="FOR PRESENTATION")
    assert uids(select_frames([raw, shown])) == ["1.2"]
    assert uids(select_frames([raw])) == ["1.1"]


def test_a_damaged_header_does_not_stop_the_study() -> None:
    bad = instance("1.1", "CT")
    bad.header.add_new("ImageType", "SQ", Sequence([Dataset()]))
    bad.header.add_new("NumberOfFrames", "LO", "x")
    selection = select_frames([bad, instance("1.2", "DX")])
    assert "1.2" in uids(selection)


def test_the_same_study_in_any_order_gives_the_same_selection() -> None:
    study = [*slices(40), *[instance(f"9.{n}", "US", NumberOfFrames=n + 1, SeriesNumber=7) for n in range(5)]]
    first = select_frames(study)
    random.Random(3).shuffle(study)
    again = select_frames(study)
    assert [(c.instance.path, c.frame_number) for c in first.chosen] == [
        (c.instance.path, c.frame_number) for c in again.chosen
    ]
    assert first.skipped == again.skipped


def test_a_study_of_unreadable_syntax_names_it() -> None:
    one = Instance(Path("1"), instance("1.1").header, str(JPEG2000Lossless)[:-2] + "98", PLACE)
    assert "not supported" in select_frames([one]).skipped[0].reason


@needs_corpus
@pytest.mark.parametrize("row", [pytest.param(row, id=row.file) for row in rows() if row.golden == ""])
def test_corpus_files_without_a_picture_are_not_chosen_or_cannot_be_read(row: Row) -> None:
    """SR, RT, waveforms, directories: skipped with a reason before anything is decoded."""
    try:
        selection = select_frames([read_instance(FOLDER / row.file)])
    except PixelError:
        return  # not DICOM at all
    assert bool(selection.chosen) != bool(selection.skipped)
    if row.pydicom == "n/a":
        assert not selection.chosen


def test_of_an_image_of_many_frames_what_is_not_read_is_said() -> None:
    clip, film = instance("1.1", "US", NumberOfFrames=80), instance("1.2", "DX", NumberOfFrames=80)
    reasons = {skipped.sop_instance_uid: skipped.reason for skipped in select_frames([clip, film]).skipped}
    assert reasons == {
        "1.1": "72 of its 80 frames are not read: the others are evenly sampled",
        "1.2": "79 of its 80 frames are not read: the first is",
    }


def mammogram(uid: str, side: str = "R", view: str = "MLO", time: str = "100000", **elements: Any) -> Instance:
    return instance(uid, "MG", ImageLaterality=side, ViewPosition=view, AcquisitionTime=time, **elements)


def test_of_each_mammographic_view_the_last_image_is_read() -> None:
    study = [
        mammogram("1.1", "R", "MLO", "100500"),
        mammogram("1.2", "R", "MLO", "100000"),
        mammogram("1.3", "L", "MLO"),
        mammogram("1.4", "R", "CC"),
        mammogram("1.5", "L", "CC"),
        mammogram("1.6", "L", "CC", "110000", NumberOfFrames=60),
    ]
    selection = select_frames(study)
    assert sorted(uids(selection)) == ["1.1", "1.3", "1.4", "1.5"]
    assert {skipped.sop_instance_uid for skipped in selection.skipped} == {"1.2", "1.6"}
    assert all("same view" in skipped.reason for skipped in selection.skipped)


def test_magnified_and_unknown_views_are_views_of_their_own() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399163009", "SCT", "Magnification"
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399368009", "SCT", "medio-lateral oblique"
    view.ViewModifierCodeSequence = Sequence([code])
    study = [
        mammogram("1.1"),
        mammogram("1.2", ViewCodeSequence=Sequence([view])),
        mammogram("1.3", "R", ""),
        mammogram("1.4", ""),
    ]
    assert uids(select_frames(study)) == ["1.1", "1.2", "1.3", "1.4"]


def test_of_a_tomosynthesis_alone_the_middle_frame_is_read() -> None:
    selection = select_frames([mammogram("1.1", NumberOfFrames=61)])
    assert [number for _, number, _ in selection.chosen] == [31]


def selects(title: str, uid: str, *frames: int) -> Instance:
    """A key object selection."""
    made = instance(f"9.{uid}", "KO", None)
    name, reference, content = Dataset(), Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = title, "DCM", "title"
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2", uid
    if frames:
        reference.ReferencedFrameNumber = list(frames)
    content.ValueType, content.ReferencedSOPSequence = "IMAGE", Sequence([reference])
    made.header.ConceptNameCodeSequence, made.header.ContentSequence = Sequence([name]), Sequence([content])
    return made


CLIPS = {
    "key frames of a selection": ([selects("113000", "1.1", 3, 9)], {"FrameNumbersOfInterest": [1, 2]}, [3, 9]),
    "key frames of the image": ([], {"FrameNumbersOfInterest": [5, 7], "RepresentativeFrameNumber": 6}, [5, 6, 7]),
    "a representative frame": ([], {"RepresentativeFrameNumber": 4}, [4]),
    "frames that do not exist": ([selects("113000", "1.1", 0, 99)], {}, [1, 3, 4, 6, 7, 9, 10, 12]),
    "a selection of the whole image": ([selects("113000", "1.1")], {}, [1, 3, 4, 6, 7, 9, 10, 12]),
    "a damaged selection": (
        [instance("9.9", "KO", None, ContentSequence=Sequence([Dataset()]))],
        {},
        [1, 3, 4, 6, 7, 9, 10, 12],
    ),
}


@pytest.mark.parametrize(("others", "elements", "frames"), CLIPS.values(), ids=CLIPS.keys())
def test_of_a_clip_the_key_frames_are_read(others: list[Instance], elements: dict[str, Any], frames: list[int]) -> None:
    selection = select_frames([instance("1.1", "US", NumberOfFrames=12, **elements), *others])
    assert [number for _, number, _ in selection.chosen] == frames
    assert "9.9" not in uids(selection)


def test_mask_frames_of_an_angiography_are_left_out() -> None:
    mask = Dataset()
    mask.MaskOperation, mask.MaskFrameNumbers = "AVG_SUB", [1, 2, 3]
    run = instance("1.1", "XA", NumberOfFrames=9, MaskSubtractionSequence=Sequence([mask]))
    assert [number for _, number, _ in select_frames([run]).chosen] == [4, 5, 6, 7, 8, 9]


def test_an_image_that_a_selection_rejects_is_not_read() -> None:
    selection = select_frames([instance("1.1", "DX"), instance("1.2", "DX"), selects("113001", "1.1")])
    assert uids(selection) == ["1.2"]
    reasons = {skipped.sop_instance_uid: skipped.reason for skipped in selection.skipped}
    assert reasons["1.1"] == "a key object selection rejects it, for quality"


def test_each_frame_is_shown_in_every_window_of_its_rule() -> None:
    lung, bone = NamedWindow("lung", -600, 1500), NamedWindow("bone", 400, 1800)
    rules = replace(DEFAULT_RULES, by_modality={"CT": Rule(Take.SLICES, 2, (None, lung, bone))})
    selection = select_frames(slices(2), rules)
    assert [(chosen.instance.sop_instance_uid[-1], chosen.look.window) for chosen in selection.chosen] == [
        (place, window) for place in "01" for window in (None, lung, bone)
    ]
    assert selection.skipped == ()


def test_only_ultrasound_is_reduced_to_its_regions() -> None:
    selection = select_frames([instance("1.1", "US"), instance("1.2", "DX")])
    assert {chosen.instance.sop_instance_uid: chosen.look.only_regions for chosen in selection.chosen} == {
        "1.1": True,
        "1.2": False,
    }
