"""Display shutters and ultrasound regions, against masks drawn by hand from the attributes' definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Sequence

from dicom_node.pixels import read_instance, render_frame
from dicom_node.pixels.look import AS_STORED, Look
from dicom_node.pixels.rules import NamedWindow
from inference.reading import Frame

from .made import dataset, item, write

SIDE = 20
BRIGHT = np.full((SIDE, SIDE), 200, dtype=np.uint8)
ROW, COLUMN = np.mgrid[1 : SIDE + 1, 1 : SIDE + 1]
FULL = {"WindowCenter": 128, "WindowWidth": 256}

RECTANGLE = {
    "ShutterLeftVerticalEdge": 3,
    "ShutterRightVerticalEdge": 15,
    "ShutterUpperHorizontalEdge": 2,
    "ShutterLowerHorizontalEdge": 18,
}
CIRCLE = {"CenterOfCircularShutter": [10, 12], "RadiusOfCircularShutter": 6}
IN_RECTANGLE = (COLUMN >= 3) & (COLUMN <= 15) & (ROW >= 2) & (ROW <= 18)
IN_CIRCLE = (ROW - 10) ** 2 + (COLUMN - 12) ** 2 <= 36

SHUTTERS = {
    "rectangular": ({"ShutterShape": "RECTANGULAR", **RECTANGLE}, IN_RECTANGLE),
    "circular": ({"ShutterShape": "CIRCULAR", **CIRCLE}, IN_CIRCLE),
    "both": ({"ShutterShape": ["RECTANGULAR", "CIRCULAR"], **RECTANGLE, **CIRCLE}, IN_RECTANGLE & IN_CIRCLE),
    "polygonal": (
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [2, 3, 2, 15, 18, 15, 18, 3]},
        IN_RECTANGLE,
    ),
    "malformed": ({"ShutterShape": "CIRCULAR"}, np.ones((SIDE, SIDE), dtype=bool)),
    "of an unknown shape": ({"ShutterShape": "HEART"}, np.ones((SIDE, SIDE), dtype=bool)),
}


def shown(folder: Path, made: Any, look: Look = AS_STORED) -> Frame:
    return render_frame(read_instance(write(folder / "made.dcm", made)), 1, look=look)


@pytest.mark.parametrize(("elements", "visible"), SHUTTERS.values(), ids=SHUTTERS.keys())
def test_what_a_shutter_covers_is_black(tmp_path: Path, elements: dict[str, Any], visible: NDArray[np.bool_]) -> None:
    frame = shown(tmp_path, dataset(BRIGHT, **FULL, **elements))
    assert ((frame.pixels > 0) == visible).all()
    assert ("shutter" in frame.window) == (not visible.all())


def test_a_shutter_shows_the_value_it_names(tmp_path: Path) -> None:
    made = dataset(BRIGHT, **FULL, ShutterShape="RECTANGULAR", ShutterPresentationValue=65535, **RECTANGLE)
    assert (shown(tmp_path, made).pixels[~IN_RECTANGLE] == 255).all()


def test_a_bitmap_shutter_covers_the_bits_of_its_overlay(tmp_path: Path) -> None:
    covered = IN_CIRCLE
    made = dataset(BRIGHT, **FULL, ShutterShape="BITMAP", ShutterOverlayGroup=0x6000)
    made.add_new((0x6000, 0x0010), "US", SIDE)
    made.add_new((0x6000, 0x0011), "US", SIDE)
    made.add_new((0x6000, 0x3000), "OW", np.packbits(covered.reshape(-1), bitorder="little").tobytes())
    assert ((shown(tmp_path, made).pixels == 0) == covered).all()


def test_a_shutter_of_one_frame(tmp_path: Path) -> None:
    groups = [
        item(FrameVOILUTSequence=item(**FULL))[0],
        item(FrameDisplayShutterSequence=item(ShutterShape="RECTANGULAR", **RECTANGLE))[0],
    ]
    made = dataset(np.stack([BRIGHT, BRIGHT]), **FULL, PerFrameFunctionalGroupsSequence=Sequence(groups))
    instance = read_instance(write(tmp_path / "made.dcm", made))
    assert (render_frame(instance, 1).pixels > 0).all()
    assert ((render_frame(instance, 2).pixels > 0) == IN_RECTANGLE).all()


def region(kind: int, left: int, top: int, right: int, bottom: int) -> Any:
    edges = {
        "RegionLocationMinX0": left,
        "RegionLocationMinY0": top,
        "RegionLocationMaxX1": right,
        "RegionLocationMaxY1": bottom,
    }
    return item(RegionSpatialFormat=kind, **edges)[0]


def test_only_the_two_dimensional_regions_are_seen(tmp_path: Path) -> None:
    """Their edges count from 0 and belong to them; the trace below is none."""
    regions = Sequence([region(1, 2, 3, 9, 12), region(3, 0, 14, 19, 19)])
    colour = np.stack([BRIGHT] * 3, axis=-1)
    made = dataset(BRIGHT, SequenceOfUltrasoundRegions=regions)
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.PixelData = colour.tobytes()
    wanted = np.zeros((SIDE, SIDE), dtype=bool)
    wanted[3:13, 2:10] = True
    frame = shown(tmp_path, made, Look(only_regions=True))
    assert ((frame.pixels.max(-1) > 0) == wanted).all()
    assert "regions" in frame.window
    assert (shown(tmp_path, made).pixels == 200).all()


@pytest.mark.parametrize("regions", [[], [region(3, 0, 0, 5, 5)], [region(1, 30, 30, 40, 40)]])
def test_an_image_without_such_a_region_is_seen_whole(tmp_path: Path, regions: list[Any]) -> None:
    frame = shown(tmp_path, dataset(BRIGHT, **FULL, SequenceOfUltrasoundRegions=Sequence(regions)), Look(only_regions=True))
    assert (frame.pixels > 0).all()


def test_a_window_of_the_rules_replaces_the_files(tmp_path: Path) -> None:
    values = np.array([[-1024, -1350, -600, 150, 151]], dtype=np.int16)
    frame = shown(tmp_path, dataset(values, WindowCenter=40, WindowWidth=400), Look(NamedWindow("lung", -600, 1500)))
    assert frame.pixels.tolist() == [[55, 0, 128, 255, 255]]
    assert frame.window == "lung window (C -600 W 1500)"


def test_an_icc_profile_is_named_and_not_applied(tmp_path: Path) -> None:
    made = dataset(BRIGHT, ICCProfile=b"\0" * 128)
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 1
    made.PixelData = np.stack([BRIGHT, BRIGHT // 2, BRIGHT // 4]).tobytes()
    frame = shown(tmp_path, made)
    assert frame.pixels[4, 4].tolist() == [200, 100, 50]
    assert "ICC profile not applied" in frame.window
