"""Phantoms as DICOM objects: conformant, plainly synthetic, the same each time; their window gives back the drawn greys."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_rescale, apply_voi_lut

from dicom_node.phantom_dicom import phantom_ct, phantom_dx
from inference.phantoms import draw_ct_phantom, draw_phantom


def _bytes(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_the_window_gives_back_the_drawn_greys(photometric: str) -> None:
    ds = dcmread(BytesIO(_bytes(phantom_dx(4, {"nodule"}, size=128, photometric=photometric))))
    shown = apply_voi_lut(apply_rescale(ds.pixel_array, ds), ds) / 4095 * 255  # pydicom fills the 12 stored bits
    drawn = draw_phantom(4, frozenset({"nodule"}), 128).pixels
    np.testing.assert_allclose(shown, 255 - drawn if photometric == "MONOCHROME1" else drawn, atol=1e-6)


def test_stored_values_need_their_window() -> None:
    ds = phantom_dx(4, size=128)
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, 12, 11)
    assert ds.pixel_array.min() >= 400
    assert ds.pixel_array.max() > 255


@pytest.mark.parametrize(
    ("seed", "arguments"),
    [pytest.param(1, {}, id="plain"), pytest.param(2, {"findings": ["pneumothorax"], "priority": "STAT"}, id="STAT")],
)
def test_the_same_arguments_make_the_same_bytes(seed: int, arguments: dict[str, object]) -> None:
    once, again = (_bytes(phantom_dx(seed, size=64, **arguments)) for _ in range(2))  # type: ignore[arg-type]
    assert once == again


def test_other_seeds_make_other_objects() -> None:
    uids = {phantom_dx(seed, size=64).SOPInstanceUID for seed in range(3)}
    studies = {phantom_dx(seed, size=64).StudyInstanceUID for seed in range(3)}
    assert len(uids) == len(studies) == 3
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids | studies)


def test_two_films_of_one_study_differ() -> None:
    first = phantom_dx(1, size=64, study_uid="2.25.1")
    second = phantom_dx(1, size=64, study_uid="2.25.1", instance_number=2)
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_nobody_takes_it_for_a_patient() -> None:
    for ds in (phantom_dx(1, size=64), phantom_ct(1, slices=1, size=64)[0]):
        assert str(ds.PatientName).startswith("PHANTOM^")
        assert ds.PatientID.startswith("PHANTOM-")
        assert "NOT FOR PATIENTS" in ds.SeriesDescription


def test_priority_is_named_only_where_it_is_asked_for() -> None:
    assert phantom_dx(1, size=64, priority="STAT").RequestedProcedurePriority == "STAT"
    assert "RequestedProcedurePriority" not in phantom_dx(1, size=64)


def test_ct_gives_back_the_drawn_hounsfield_units() -> None:
    series = phantom_ct(3, slices=3, size=64)
    drawn = draw_ct_phantom(3, 3, 64)
    for number, ds in enumerate(series):
        np.testing.assert_array_equal(apply_rescale(dcmread(BytesIO(_bytes(ds))).pixel_array, ds), drawn[number])


def test_ct_slices_lie_one_above_the_other() -> None:
    series = phantom_ct(3, slices=4, size=64)
    assert len({ds.SOPInstanceUID for ds in series}) == 4
    assert len({(ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.StudyInstanceUID) for ds in series}) == 1
    heights = [float(ds.ImagePositionPatient[2]) for ds in series]
    assert np.diff(heights).tolist() == [-5.0] * 3  # head to feet: z falls (PS3.3 C.7.6.2.1.1)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        pytest.param("stat", lambda: phantom_dx(1, ["pneumothorax"], size=64, priority="STAT"), id="DX marked STAT"),
        pytest.param("ap1", lambda: phantom_dx(2, [], size=64, view="AP", photometric="MONOCHROME1"), id="DX AP MONOCHROME1"),
        pytest.param("hand", lambda: phantom_dx(2, [], size=64, body_part="HAND"), id="DX of another region"),
        pytest.param("ct", lambda: phantom_ct(2, slices=1, size=64)[0], id="CT"),
    ],
)
def test_dciodvfy_finds_no_error(tmp_path: Path, name: str, make: object) -> None:
    path = tmp_path / f"{name}.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().save_as(path, enforce_file_format=True)  # type: ignore[operator]
    said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert any("Image" in line for line in lines), "dciodvfy did not recognise the object"
