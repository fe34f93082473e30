"""Every file of the corpus: shown as the outside tool (DCMTK, GDCM) shows it, or refused with a reason.

Where the standard and the outside tool differ is told from the header, never from the name of a file: another folder of the
same form is tested alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from dicom_node.errors import PixelError
from dicom_node.pixels import read_instance, render_frame
from dicom_node.pixels.codestream import parse
from inference.reading import Frame

from . import standard
from .corpus import FOLDER, Row, difference, fragments, needs_corpus, rows

pytestmark = needs_corpus
TOLERANCE = 1.5  # grey levels of 255: the outside tool rounds down, we round to nearest
DIFFERS: tuple[Callable[[Dataset, int], bool], ...] = (
    standard.is_windowed_by_group,
    standard.is_stretched_over_padding,
    standard.is_shuttered,
)


@cache
def header_of(row: Row) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(row.path, stop_before_pixels=True, force=True)
        header.walk(lambda scope, element: scope[element.tag])  # converted here, where remarks are silenced
    return header


def differs(row: Row, frame_number: int) -> bool:
    header = header_of(row)
    return "PhotometricInterpretation" in header and any(rule(header, frame_number - 1) for rule in DIFFERS)


ROWS = rows()
PICTURES = [(row, 1) for row in ROWS if row.golden] + [(row, row.last_frame) for row in ROWS if row.golden_last]
ALIKE = [(row, number) for row, number in PICTURES if not differs(row, number)]
DIFFERENT = [(row, number) for row, number in PICTURES if differs(row, number)]
ONLY_PYDICOM = [row for row in ROWS if not row.golden and row.pydicom == "ok"]
NOBODY = [row for row in ROWS if not row.golden and row.pydicom != "ok"]


def _named(cases: list[tuple[Row, int]]) -> list[object]:
    return [pytest.param(row, number, id=f"{row.file} frame {number}") for row, number in cases]


def _golden(row: Row, frame_number: int) -> str:
    return row.golden if frame_number == 1 else row.golden_last


def stored_pixels(row: Row, index: int) -> NDArray[Any]:
    """As pydicom decodes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.pixels.pixel_array(pydicom.dcmread(row.path), index=index)


@pytest.mark.parametrize(("row", "frame_number"), _named(ALIKE))
def test_render_as_the_outside_tool(row: Row, frame_number: int) -> None:
    frame = render_frame(read_instance(row.path), frame_number)
    assert frame.pixels.dtype == np.uint8
    assert difference(frame.pixels, _golden(row, frame_number)) <= TOLERANCE
    assert frame.source.frame_number == frame_number
    assert frame.window
    if frame_number == 1:
        assert float(frame.pixels.mean()) == pytest.approx(float(row.mean), abs=TOLERANCE)


@pytest.mark.parametrize(("row", "frame_number"), _named(DIFFERENT))
def test_render_by_the_standard_where_the_outside_tool_differs(row: Row, frame_number: int) -> None:
    """Ours is the standard's formula, and the golden picture is the outside tool's departure from it, not something else."""
    header, stored = header_of(row), stored_pixels(row, frame_number - 1)
    frame = render_frame(read_instance(row.path), frame_number)
    assert np.abs(frame.pixels - standard.by_the_standard(header, stored, frame_number - 1)).max() <= 1
    departed = np.rint(standard.by_the_outside_tool(header, stored, frame_number - 1)).astype(np.uint8)
    assert difference(departed, _golden(row, frame_number)) <= TOLERANCE


@pytest.mark.parametrize("row", [pytest.param(row, id=row.file) for row in ONLY_PYDICOM])
def test_render_what_only_pydicom_decodes(row: Row) -> None:
    """The outside tool has no picture: compare with pydicom's own pixels and the standard's formula."""
    frame = render_frame(read_instance(row.path), 1)
    header, stored = header_of(row), stored_pixels(row, 0)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        shown = pydicom.pixels.apply_color_lut(stored, header)
        shown = shown / (257.0 if shown.dtype == np.uint16 else 1.0)
    elif header.SamplesPerPixel == 1:
        shown = standard.by_the_standard(header, stored, 0)
    else:
        shown = stored * (255 / (2**header.BitsStored - 1))
    assert frame.pixels.shape == shown.shape
    assert np.abs(frame.pixels - shown).max() <= 1


def frame_or_reason(row: Row) -> Frame | str:
    try:
        return render_frame(read_instance(row.path), 1)
    except PixelError as refused:
        return refused.reason


@pytest.mark.parametrize("row", [pytest.param(row, id=row.file) for row in NOBODY])
def test_render_refuses_what_nobody_decodes(row: Row) -> None:
    """Or shows it, where each frame is whole and only the end of the pixel data is missing: then a codec alone is the judge."""
    frame = frame_or_reason(row)
    if isinstance(frame, str):
        assert frame.startswith("it")
        return
    coded, header = fragments(row.path.read_bytes()), header_of(row)
    assert len(coded) == int(header.NumberOfFrames)
    assert all(stream is not None and stream.ended for stream in map(parse, coded))
    stored = imagecodecs.jpeg2k_decode(coded[0])
    assert np.abs(frame.pixels - standard.by_the_standard(header, stored, 0)).max() <= 1


def test_render_cases_cover_the_whole_manifest() -> None:
    tested = {row.file for row, _ in PICTURES} | {row.file for row in (*ONLY_PYDICOM, *NOBODY)}
    assert tested == {row.file for row in ROWS}
    assert len(ALIKE) > 3 * len(DIFFERENT)  # the outside tool stays the judge of most


def negatives() -> list[tuple[Row, Row]]:
    """Pairs of one picture stored in both polarities, as the means, spreads and sizes of their golden pictures tell."""
    greys = [row for row in ROWS if row.golden and header_of(row).get("PhotometricInterpretation", "").startswith("MONO")]
    return [
        (one, other)
        for one, other in combinations(greys, 2)
        if header_of(one).PhotometricInterpretation != header_of(other).PhotometricInterpretation
        and (header_of(one).Rows, header_of(one).Columns) == (header_of(other).Rows, header_of(other).Columns)
        and abs(float(one.mean) + float(other.mean) - 255) < TOLERANCE
        and one.spread == other.spread
    ]


@pytest.mark.parametrize(("one", "other"), negatives())
def test_render_monochrome1_is_the_negative_of_its_pair(one: Row, other: Row) -> None:
    plain, negative = (render_frame(read_instance(row.path), 1).pixels.astype(np.int16) for row in (one, other))
    assert np.abs(plain + negative - 255).max() <= 1


def test_render_golden_pictures_can_tell_images_apart() -> None:
    """The comparison fails for another picture of the same size, and for the negative: it is no rubber stamp."""
    sized: dict[tuple[int, ...], list[Row]] = {}
    for row, number in ALIKE:
        if number == 1:
            with Image.open(FOLDER / row.golden) as image:
                picture = np.asarray(image)
            if picture.std() > 30:
                assert difference(255 - picture, row.golden) > TOLERANCE
            sized.setdefault(picture.shape, []).append(row)
    others = [(a, b) for alike in sized.values() for a, b in combinations(alike, 2) if abs(float(a.mean) - float(b.mean)) > 20]
    assert others
    for one, other in others[:10]:
        assert difference(render_frame(read_instance(one.path), 1).pixels, other.golden) > 10 * TOLERANCE
