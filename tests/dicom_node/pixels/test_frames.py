"""Which frames of a study are read, and the reason for each that is not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_node.errors import PixelError
from dicom_node.pixels import Instance, Selection, read_instance, select_frames
from dicom_node.pixels.instances import PixelPlace
from dicom_node.pixels.rules import MOST_FRAMES, RULES

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
    first, number = selection.chosen[0]
    assert (first.sop_instance_uid, number) == ("1.0", 1)


def test_slices_are_read_by_position_not_by_number() -> None:
    study = slices(5)
    random.Random(2).shuffle(study)
    assert uids(select_frames(study)) == [f"1.2.3.4.{index}" for index in range(5)]


def test_slices_without_position_are_read_as_numbered() -> None:
    study = [instance(f"1.{n}", InstanceNumber=10 - n) for n in range(4)]
    assert uids(select_frames(study)) == ["1.3", "1.2", "1.1", "1.0"]


def test_many_slices_are_sampled_evenly_and_the_others_named() -> None:
    most = RULES["CT"].most
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
    assert len(selection.chosen) == MOST_FRAMES
    assert {uid.rsplit(".", 1)[0] for uid in uids(selection)} == {f"1.2.{number}" for number in range(9)}
    assert len(selection.chosen) + len(selection.skipped) == len(study)


def test_a_clip_is_sampled_and_a_multi_frame_projection_gives_its_first() -> None:
    clip = instance("1.1", "US", NumberOfFrames=80)
    film = instance("1.2", "DX", NumberOfFrames=80)
    assert [number for _, number in select_frames([clip]).chosen] == [6, 16, 26, 36, 46, 56, 66, 76]
    assert [number for _, number in select_frames([film]).chosen] == [1]


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
    assert [number for _, number in select_frames([enhanced]).chosen] == [2, 3, 1]


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
