"""Values, windows, polarity and colour on pixels whose right answer is known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.errors import PixelError
from dicom_node.pixels import read_instance, render_frame
from inference.reading import Frame

from .made import dataset, item, write

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
WIDE = np.array([[-1024, -160, 40], [239, 240, 3000]], dtype=np.int16)


def shown(folder: Path, made: Dataset, frame_number: int = 1, syntax: str = "1.2.840.10008.1.2.1") -> Frame:
    return render_frame(read_instance(write(folder / "made.dcm", made, syntax)), frame_number)


# Expected values are worked out from the formulas of PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2.
WINDOWS = {
    "linear, ct abdomen": ({"WindowCenter": 40, "WindowWidth": 400}, [[0, 0, 128], [255, 255, 255]]),
    "linear exact": (
        {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
        [[0, 0, 128], [254, 255, 255]],
    ),
    "sigmoid": (
        {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"},
        [[0, 30, 128], [224, 225, 255]],
    ),
    "a linear window of width 1 is a threshold": ({"WindowCenter": 40, "WindowWidth": 1}, [[0, 0, 255], [255, 255, 255]]),
    "the first of several windows": (
        {"WindowCenter": [40, -600], "WindowWidth": [400, 1600]},
        [[0, 0, 128], [255, 255, 255]],
    ),
    "a first window without width is passed over": (
        {"WindowCenter": [7, 40], "WindowWidth": [0, 400]},
        [[0, 0, 128], [255, 255, 255]],
    ),
    "no window: minimum to maximum": ({}, [[0, 55, 67], [80, 80, 255]]),
    "padding is no minimum, and black": ({"PixelPaddingValue": -1024}, [[0, 0, 16], [32, 32, 255]]),
    "monochrome1": (
        {"WindowCenter": 40, "WindowWidth": 400, "PhotometricInterpretation": "MONOCHROME1"},
        [[255, 255, 127], [0, 0, 0]],
    ),
    "monochrome1 and inverse shape: inverted once": (
        {
            "WindowCenter": 40,
            "WindowWidth": 400,
            "PhotometricInterpretation": "MONOCHROME1",
            "PresentationLUTShape": "INVERSE",
        },
        [[255, 255, 127], [0, 0, 0]],
    ),
    "rescale before the window": (
        {"WindowCenter": -984, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": -1024},
        [[0, 0, 128], [255, 255, 255]],
    ),
}


@pytest.mark.parametrize(("elements", "expected"), WINDOWS.values(), ids=WINDOWS.keys())
def test_render_window(tmp_path: Path, elements: dict[str, Any], expected: list[list[int]]) -> None:
    frame = shown(tmp_path, dataset(WIDE, **elements))
    assert np.abs(frame.pixels.astype(int) - np.array(expected)).max() <= 1


def test_render_padding_of_signed_pixels_written_as_unsigned(tmp_path: Path) -> None:
    made = dataset(WIDE)
    made.add_new("PixelPaddingValue", "US", 64512)  # -1024
    assert shown(tmp_path, made).pixels[0].tolist() == [0, 0, 16]


def test_render_labels_say_how_values_were_mapped(tmp_path: Path) -> None:
    assert shown(tmp_path, dataset(WIDE, WindowCenter=40, WindowWidth=400)).window == "window 1 of file (C 40 W 400)"
    assert shown(tmp_path, dataset(WIDE)).window == "minimum to maximum (-1024 to 3000)"


def test_render_voi_lut(tmp_path: Path) -> None:
    lut = item(LUTDescriptor=[256, 0, 8], LUTData=bytes(range(255, -1, -1)))
    lut[0]["LUTData"].VR = "OW"
    frame = shown(tmp_path, dataset(RAMP, VOILUTSequence=lut))
    assert (frame.pixels == 255 - RAMP).all()
    assert frame.window == "VOI LUT 1 of file"


def test_render_modality_lut_goes_before_the_window(tmp_path: Path) -> None:
    lut = item(LUTDescriptor=[256, 0, 16], LUTData=[2 * value for value in range(256)], ModalityLUTType="US")
    lut[0]["LUTData"].VR = "US"
    frame = shown(tmp_path, dataset(RAMP, ModalityLUTSequence=lut, WindowCenter=256, WindowWidth=512))
    assert np.abs(frame.pixels.astype(int) - RAMP).max() <= 1


def test_render_ignores_an_overlay_in_the_unused_bits(tmp_path: Path) -> None:
    plain = RAMP.astype(np.uint16)
    overlaid = plain | 0xF000
    elements = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 128, "WindowWidth": 256}
    assert (shown(tmp_path, dataset(overlaid, **elements)).pixels == shown(tmp_path, dataset(plain, **elements)).pixels).all()


def test_render_reads_left_aligned_bits_by_high_bit(tmp_path: Path) -> None:
    left = (RAMP.astype(np.uint16) << 8) | 0x0F
    made = dataset(left, BitsStored=8, HighBit=15, WindowCenter=128, WindowWidth=256)
    assert np.abs(shown(tmp_path, made).pixels.astype(int) - RAMP).max() <= 1


def test_render_extends_the_sign_of_few_stored_bits(tmp_path: Path) -> None:
    cells = np.array([[0x0800, 0x0000, 0x07FF]], dtype=np.uint16)  # -2048, 0, 2047 in 12 bits
    frame = shown(tmp_path, dataset(cells, BitsStored=12, HighBit=11, PixelRepresentation=1))
    assert frame.pixels.tolist() == [[0, 128, 255]]


def test_render_each_frame_by_its_own_groups(tmp_path: Path) -> None:
    pixels = np.stack([WIDE, WIDE])
    groups = [item(FrameVOILUTSequence=item(WindowCenter=center, WindowWidth=400))[0] for center in (40, 100000)]
    shared = item(PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.25]))
    made = dataset(pixels, PerFrameFunctionalGroupsSequence=Sequence(groups), SharedFunctionalGroupsSequence=shared)
    first, second = shown(tmp_path, made, 1), shown(tmp_path, made, 2)
    assert first.pixels.max() == 255
    assert second.pixels.max() == 0
    assert first.pixel_spacing_mm == (0.5, 0.25)


def test_render_big_endian_as_little_endian(tmp_path: Path) -> None:
    elements = {"WindowCenter": 40, "WindowWidth": 400}
    little = shown(tmp_path, dataset(WIDE, **elements))
    made = dataset(WIDE, **elements)
    made.PixelData = WIDE.astype(">i2").tobytes()
    assert (shown(tmp_path, made, syntax=ExplicitVRBigEndian).pixels == little.pixels).all()


def palette(prefix: str, data: tuple[bytes, bytes, bytes], entries: int, bits: int) -> dict[str, Any]:
    made: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(("Red", "Green", "Blue"), data, strict=True):
        made[f"{colour}PaletteColorLookupTableDescriptor"] = [entries, 0, bits]
        made[f"{prefix}{colour}PaletteColorLookupTableData"] = table
    return made


def test_render_palette(tmp_path: Path) -> None:
    up, down, flat = bytes(range(256)), bytes(range(255, -1, -1)), bytes([7] * 256)
    frame = shown(tmp_path, dataset(RAMP, **palette("", (up, down, flat), 256, 8)))
    assert frame.pixels[0, 3].tolist() == [3, 252, 7]
    assert frame.pixels.shape == (16, 16, 3)


# Words of a segmented table, and the levels they stand for (PS3.3 C.7.9.2); offsets of indirect segments count bytes.
SEGMENTS = {
    "8 bits, discrete then linear": (8, [0, 2, 0, 16, 1, 4, 80], [0, 16, 32, 48, 64, 80]),
    "8 bits, indirect": (8, [0, 2, 1, 2, 1, 2, 4, 2, 2, 0, 0, 0, 0], [1, 2, 3, 4, 1, 2, 3, 4]),
    "16 bits, discrete then linear": (16, [0, 2, 0, 4112, 1, 4, 20560], [0, 16, 32, 48, 64, 80]),
    "16 bits, indirect from the third word": (16, [0, 1, 257, 0, 1, 514, 2, 1, 6, 0], [1, 2, 2]),
}


@pytest.mark.parametrize(("bits", "words", "expected"), SEGMENTS.values(), ids=SEGMENTS.keys())
def test_render_segmented_palette(tmp_path: Path, bits: int, words: list[int], expected: list[int]) -> None:
    data = np.array(words, dtype="u1" if bits == 8 else "<u2").tobytes()
    data += b"\0" * (len(data) % 2)
    pixels = np.arange(len(expected), dtype=np.uint8).reshape(1, -1)
    frame = shown(tmp_path, dataset(pixels, **palette("Segmented", (data,) * 3, len(expected), bits)))
    assert frame.pixels[0, :, 0].tolist() == expected


BROKEN_PALETTES = {
    "missing": {"PhotometricInterpretation": "PALETTE COLOR"},
    "too short": palette("", (b"\1\2",) * 3, 256, 8),
    "segments end early": palette("Segmented", (b"\0\4\1\1",) * 3, 256, 8),
    "segments refer to themselves": palette("Segmented", (b"\2\1\0\0\0\0",) * 3, 256, 8),
    "unknown segment": palette("Segmented", (b"\7\1\0\0",) * 3, 256, 8),
}


@pytest.mark.parametrize("elements", BROKEN_PALETTES.values(), ids=BROKEN_PALETTES.keys())
def test_render_refuses_a_broken_palette(tmp_path: Path, elements: dict[str, Any]) -> None:
    with pytest.raises(PixelError):
        shown(tmp_path, dataset(RAMP, **elements))


def view_code(value: str, scheme: str, meaning: str) -> Sequence:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


WORDS = {
    "as sent, upper case": ({"ViewPosition": "pa", "BodyPartExamined": "Chest"}, ("PA", "CHEST")),
    "view by code": ({"ViewCodeSequence": view_code("399348003", "SCT", "antero-posterior")}, ("AP", "")),
    "view by the code's meaning": ({"ViewCodeSequence": view_code("1", "99X", "swimmer")}, ("SWIMMER", "")),
    "region by code": ({"AnatomicRegionSequence": view_code("51185008", "SCT", "Chest")}, ("", "CHEST")),
    "nothing": ({}, ("", "")),
}


@pytest.mark.parametrize(("elements", "expected"), WORDS.values(), ids=WORDS.keys())
def test_render_says_view_and_body_part(tmp_path: Path, elements: dict[str, Any], expected: tuple[str, str]) -> None:
    frame = shown(tmp_path, dataset(RAMP, **elements))
    assert (frame.view, frame.body_part) == expected
    assert frame.modality == "CT"
