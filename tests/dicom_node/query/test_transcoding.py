"""Objects in another transfer syntax than they are stored in: pydicom decodes what was stored, and reads what went out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import PixelError, StorageFull
from dicom_node.pixels.limits import Limits
from dicom_node.query.transcoding import Transcoder
from dicom_node.storage.files import FileStore
from tests.dicom_node.pixels.coded import LOSSLESS, LOSSY, coded
from tests.dicom_node.pixels.made import dataset, write

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
RAMP = (np.arange(48 * 33, dtype=np.uint16) * 5 % 4096).reshape(48, 33)
COLOUR = np.random.default_rng(7).integers(0, 256, (24, 31, 3), np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileStore:
    return FileStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def transcoder(files: FileStore) -> Iterator[Transcoder]:
    made = Transcoder(files, Limits(processes=1), 0)
    yield made
    made._decoders.close()


def converted(transcoder: Transcoder, path: Path, syntax: str) -> Dataset:
    with transcoder.converted(path, syntax) as made:
        read = dcmread(made)
        read.decode()
    assert not made.exists()
    assert read.file_meta.TransferSyntaxUID == syntax
    return read


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
@pytest.mark.parametrize(
    ("syntax", "signed"), [*((one, False) for one in LOSSLESS), (RLELossless, True), (JPEG2000Lossless, True)]
)
def test_lossless_pixels_are_those_that_were_coded(
    transcoder: Transcoder, tmp_path: Path, syntax: str, target: str, signed: bool
) -> None:
    pixels = RAMP if not signed else (RAMP.astype(np.int16) - 2048)
    path = coded(tmp_path, str(syntax), pixels, 12, PixelRepresentation=int(signed))
    read = converted(transcoder, path, target)
    assert np.array_equal(read.pixel_array, pixels)
    assert (read.PhotometricInterpretation, read.BitsStored, read.HighBit) == ("MONOCHROME2", 12, 11)
    assert read["PixelData"].VR == "OW"
    assert not read["PixelData"].is_undefined_length


@pytest.mark.parametrize("syntax", LOSSY)
def test_what_was_lossy_stays_marked_as_lossy_and_is_the_same_object(
    transcoder: Transcoder, tmp_path: Path, syntax: str
) -> None:
    bits = 8 if syntax == str(JPEGBaseline8Bit) else 12
    pixels = (RAMP // 16).astype(np.uint8) if bits == 8 else RAMP
    lossy = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "9.5", "LossyImageCompressionMethod": "ISO_10918_1"}
    path = coded(tmp_path, syntax, pixels, bits, **lossy)
    read, stored = converted(transcoder, path, EXPLICIT), dcmread(path)
    assert {name: str(read[name].value) for name in lossy} == lossy
    assert (read.SOPInstanceUID, read.file_meta.MediaStorageSOPInstanceUID) == (stored.SOPInstanceUID,) * 2
    assert np.abs(read.pixel_array.astype(int) - pixels.astype(int)).max() <= 40


def _colour(folder: Path, syntax: str, stream: bytes, photometric: str, **elements: Any) -> Path:
    made = dataset(COLOUR[..., 0], SamplesPerPixel=3, PhotometricInterpretation=photometric, PlanarConfiguration=0, **elements)
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    return write(folder / "colour.dcm", made, syntax)


def test_colour_of_a_lossy_jpeg_becomes_rgb_as_its_photometric_interpretation_then_says(
    transcoder: Transcoder, tmp_path: Path
) -> None:
    stream = imagecodecs.jpeg8_encode(COLOUR, level=95, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")
    path = _colour(tmp_path, str(JPEGBaseline8Bit), stream, "YBR_FULL_422")
    read, stored = converted(transcoder, path, EXPLICIT), dcmread(path)
    stored.decompress(as_rgb=True)
    assert (read.PhotometricInterpretation, read.PlanarConfiguration) == ("RGB", 0)
    assert read.PixelData == stored.PixelData


def test_colour_that_is_stored_without_loss_as_ybr_stays_so(transcoder: Transcoder, tmp_path: Path) -> None:
    """To make RGB of it would round it."""
    path = _colour(tmp_path, str(JPEGLSLossless), imagecodecs.jpegls_encode(COLOUR), "YBR_FULL")
    read = converted(transcoder, path, EXPLICIT)
    assert read.PhotometricInterpretation == "YBR_FULL"
    assert read.PixelData == COLOUR.tobytes()


def test_reversible_colour_of_jpeg_2000_becomes_rgb(transcoder: Transcoder, tmp_path: Path) -> None:
    stream = imagecodecs.jpeg2k_encode(COLOUR, level=0, reversible=True, mct=True, codecformat="j2k")
    read = converted(transcoder, _colour(tmp_path, str(JPEG2000Lossless), stream, "YBR_RCT"), IMPLICIT)
    assert (read.PhotometricInterpretation, read.PixelData) == ("RGB", COLOUR.tobytes())


NATIVE = {
    "implicit": (str(ImplicitVRLittleEndian), EXPLICIT),
    "explicit": (EXPLICIT, IMPLICIT),
    "big endian": (str(ExplicitVRBigEndian), EXPLICIT),
    "deflated": (str(DeflatedExplicitVRLittleEndian), IMPLICIT),
}


@pytest.mark.parametrize(("syntax", "target"), NATIVE.values(), ids=NATIVE)
def test_native_encodings_are_changed_into_each_other(transcoder: Transcoder, tmp_path: Path, syntax: str, target: str) -> None:
    made = dataset(
        RAMP, BitsStored=12, HighBit=11, SmallestImagePixelValue=0, PatientID="P", WindowCenter="40", WindowWidth="400"
    )
    if syntax == str(ExplicitVRBigEndian):
        made.PixelData = RAMP.astype(">u2").tobytes()
    read = converted(transcoder, write(tmp_path / "native.dcm", made, syntax), target)
    assert np.array_equal(read.pixel_array, RAMP)
    assert (read.SmallestImagePixelValue, read.WindowCenter, read.PatientID) == (0, 40, "P")


def test_frames_of_several_and_an_odd_number_of_bytes(transcoder: Transcoder, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 5, 7), np.uint8)
    made = dataset(pixels[0], NumberOfFrames=3)
    made.PixelData = encapsulate([imagecodecs.jpegls_encode(one) for one in pixels])
    made["PixelData"].is_undefined_length = True
    path = write(tmp_path / "clip.dcm", made, str(JPEGLSLossless))
    read = converted(transcoder, path, EXPLICIT)
    assert np.array_equal(read.pixel_array, pixels)
    assert (len(read.PixelData), read["PixelData"].VR) == (106, "OB")


def test_a_compressed_icon_is_left_out_and_a_plain_one_kept(transcoder: Transcoder, tmp_path: Path) -> None:
    def stored(*, compressed: bool) -> Path:
        icon = Dataset(dataset(RAMP[:8, :8].astype(np.uint8)))
        if compressed:
            icon.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
            icon["PixelData"].is_undefined_length = True
        return coded(tmp_path, str(RLELossless), RAMP, 12, name=f"icon{compressed}", IconImageSequence=[icon])

    assert "IconImageSequence" not in converted(transcoder, stored(compressed=True), EXPLICIT)
    assert "IconImageSequence" in converted(transcoder, stored(compressed=False), EXPLICIT)


def test_what_cannot_be_decoded_is_refused_and_leaves_nothing_behind(
    transcoder: Transcoder, files: FileStore, tmp_path: Path
) -> None:
    made = dataset(RAMP)
    made.PixelData = encapsulate([b"\xff\xd8 no stream"])
    made["PixelData"].is_undefined_length = True
    damaged = write(tmp_path / "damaged.dcm", made, str(JPEGLSLossless))
    video = write(tmp_path / "video.dcm", made, "1.2.840.10008.1.2.4.102")
    for path in (damaged, video):
        with pytest.raises(PixelError), transcoder.converted(path, EXPLICIT):
            pass
    with pytest.raises(PixelError), transcoder.converted(damaged, str(JPEGBaseline8Bit)):
        pass
    assert not list((files.root / "spool").iterdir())


def test_nothing_is_converted_where_the_disk_has_no_room_to_spare(files: FileStore, tmp_path: Path) -> None:
    path = coded(tmp_path, str(RLELossless), RAMP, 12)
    full = Transcoder(files, Limits(processes=1), 1 << 60)
    with pytest.raises(StorageFull), full.converted(path, EXPLICIT):
        pass
    full._decoders.close()
