"""Where the patient's sides lie in a picture, from the image's own words or its plane; and what is written on the picture."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inference.reading import Frame, HeatMap
from reporting.content import put
from reporting.context import DocumentKind
from reporting.documents import build_documents
from reporting.orientation import patient_orientation
from reporting.overlay import draw_overlay
from tests.reporting.samples import OPTIONS, context, frame_of, header, reading

SOURCE = frame_of(header())
HEAT = HeatMap("pneumothorax", SOURCE, ((0.0, 1.0), (0.0, 0.0)), (0, 0, 200, 200), "made up")


def shared(cosines: list[float]) -> Dataset:
    plane = put(Dataset(), ImageOrientationPatient=cosines)
    return header(SharedFunctionalGroupsSequence=[put(Dataset(), PlaneOrientationSequence=[plane])])


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (header(PatientOrientation=["L", "F"]), ("L", "F")),
        (header(PatientOrientation=["A", "FR"]), ("A", "FR")),
        (header(PatientOrientation=["left", "F"]), ()),
        (header(PatientOrientation="L"), ()),
        (header(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), ("L", "P")),  # axial, from the feet
        (header(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), ("P", "F")),  # sagittal
        (header(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), ("L", "F")),  # coronal
        (header(ImageOrientationPatient=[0.7071, 0.7071, 0, 0, 0, -1]), ("LP", "F")),
        (header(ImageOrientationPatient=[1, 0, 0]), ()),
        (shared([1, 0, 0, 0, 1, 0]), ("L", "P")),
        (header(), ()),
    ],
    ids=[
        "film", "oblique film", "no letters", "one only", "axial", "sagittal", "coronal", "between", "three", "enhanced",
        "none",
    ],
)  # fmt: skip
def test_directions_of_rows_and_columns(image: Dataset, wanted: tuple[str, ...]) -> None:
    assert patient_orientation(image) == wanted


def test_the_picture_says_them_in_its_tag_and_at_its_edges() -> None:
    frame = Frame(np.full((200, 200), 90, np.uint8), SOURCE, "DX")
    read = replace(reading(), heat_maps=(HEAT,))
    options = replace(OPTIONS, kinds=frozenset({DocumentKind.HEAT_MAP}))
    (document,) = build_documents(read, context(header(PatientOrientation=["L", "F"])), options, [frame])
    assert document.faults == ()
    assert list(dcmread(BytesIO(document.content)).PatientOrientation) == ["L", "F"]
    marked, plain = (draw_overlay(frame, HEAT, ["AI"], ("most", "none"), edges).picture for edges in (("L", "F"), ()))
    changed = np.argwhere((marked != plain).any(axis=2))
    assert len(changed) > 50
    assert changed[:, 1].max() > 600  # at the film's right edge, and
    assert changed[:, 0].max() > plain.shape[0] - 40  # at its foot


@pytest.mark.parametrize(("rows", "columns"), [(1200, 90), (90, 2400), (16, 16)], ids=["narrow", "low", "tiny"])
def test_words_have_room_beside_any_film(rows: int, columns: int) -> None:
    frame = Frame(np.full((rows, columns), 90, np.uint8), SOURCE, "DX")
    heat = HeatMap("pneumothorax", SOURCE, ((0.0, 1.0), (0.0, 0.0)), (0, 0, rows, columns), "made up")
    overlay = draw_overlay(frame, heat, ["AI draft", "x" * 300], ("most", "none"))
    top, _, bottom, right = overlay.film
    assert overlay.picture.shape[1] >= 420
    assert overlay.picture.shape[0] - top >= 200
    assert (overlay.picture[bottom:, :right] == 0).all()
    assert (overlay.picture[:top, -8:] == (96, 0, 0)).all()  # no word runs out of the banner
