"""Frames by DICOMweb: dicomweb-client and httpx ask, pydicom and independent decoders judge."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import imagecodecs
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_node.pixels.made import dataset, write

from .served import EXPLICIT, GREY, RAMP, Node, clip, get, jls, parts_of, serving

BITS = np.random.default_rng(6).integers(0, 2, (3, 5, 5), np.uint8)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("web")) as made:
        yield made


def octets(pixels: NDArray[Any]) -> list[bytes]:
    return [one.tobytes() for one in pixels]


NATIVE = "multipart/related; type=application/octet-stream"


@pytest.mark.parametrize("syntax", [EXPLICIT, "1.2.840.10008.1.2", ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_frames_are_little_endian_cells(node: Node, syntax: str) -> None:
    image = dataset(GREY, BitsStored=12, HighBit=11)
    if syntax == ExplicitVRBigEndian:
        image.PixelData = GREY.astype(">u2").tobytes()
    url = node.made(f"native{syntax}", image, str(syntax))
    answer = get(f"{url}/frames/2,1,6", NATIVE)
    told = parts_of(answer)
    assert [content for _, content in told] == octets(GREY[[1, 0, 5]])
    assert {kind for kind, _ in told} == {f"application/octet-stream; transfer-syntax={EXPLICIT}"}
    assert 'type="application/octet-stream"' in answer.headers["content-type"]


def test_frames_of_single_bits_begin_at_a_byte_of_their_own(node: Node) -> None:
    image = dataset(BITS, BitsAllocated=1, BitsStored=1, HighBit=0)
    image.PixelData = np.packbits(BITS.reshape(-1), bitorder="little").tobytes()
    url = node.made("bits", image)
    for number, cells in enumerate(BITS, 1):
        ((_, content),) = parts_of(get(f"{url}/frames/{number}"))
        assert content == np.packbits(cells.reshape(-1), bitorder="little").tobytes()


@pytest.mark.parametrize("table", [True, False], ids=["offset table", "none"])
def test_coded_frames_go_out_as_they_are_stored(node: Node, table: bool) -> None:
    url = node.made(f"jls{table}", jls(table=table), str(JPEGLSLossless))
    stored = list(generate_frames(dcmread(node.folder / f"jls{table}.dcm").PixelData, number_of_frames=6))
    for accept in (
        'multipart/related; type="image/jls"',
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80',
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        "image/png;q=0.1, image/*",
    ):
        assert parts_of(get(f"{url}/frames/3,4", accept)) == [
            (f"image/jls; transfer-syntax={JPEGLSLossless}", one) for one in stored[2:4]
        ]


def test_coded_frames_are_decoded_for_who_takes_octets(node: Node) -> None:
    url = node.made("decoded", jls(table=True), str(JPEGLSLossless))
    for accept in ("*/*", NATIVE, f"{NATIVE}; transfer-syntax={EXPLICIT}"):
        assert [content for _, content in parts_of(get(f"{url}/frames/1,6", accept))] == octets(GREY[[0, 5]])
    alone = get(f"{url}/frames/6", "application/octet-stream")
    assert (alone.content, alone.headers["content-type"].split(";")[0]) == (GREY[5].tobytes(), "application/octet-stream")


def test_the_reference_client_gets_frames(node: Node) -> None:
    url = node.made("client", jls(table=True), str(JPEGLSLossless))
    study, series, instance = url.split("/")[-5::2]
    client = DICOMwebClient(node.url)
    assert client.retrieve_instance_frames(study, series, instance, [1, 3]) == octets(GREY[[0, 2]])
    wished = (("image/jls", str(JPEGLSLossless)),)
    (coded,) = client.retrieve_instance_frames(study, series, instance, [2], media_types=wished)
    assert np.array_equal(imagecodecs.jpegls_decode(coded), GREY[1])
    picture = client.retrieve_instance_rendered(study, series, instance, media_types=("image/png",))
    assert Image.open(BytesIO(picture)).size == (10, 8)


def test_kinds_of_high_throughput_jpeg_2000(node: Node) -> None:
    image = clip([imagecodecs.htj2k_encode(one) for one in GREY[:1]], GREY[:1])
    url = node.made("ht", image, str(HTJ2KLossless))
    for asked in ("image/jphc", "image/jph"):
        ((kind, _),) = parts_of(get(f"{url}/frames/1", f'multipart/related; type="{asked}"'))
        assert kind.split(";")[0] == asked


REFUSED = {
    "beyond the last": ("/frames/7", "*/*", 404),
    "one of them beyond": ("/frames/1,7", "*/*", 404),
    "none": ("/frames/0", "*/*", 400),
    "no list": ("/frames/1,,2", "*/*", 400),
    "no number": ("/frames/x", "*/*", 400),
    "coded otherwise": ("/frames/1", 'multipart/related; type="image/jp2"', 406),
    "in another transfer syntax": (
        "/frames/1",
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.81',
        406,
    ),
    "of weight 0": ("/frames/1", "application/octet-stream;q=0", 406),
    "pictures in a form that is not made": ("/rendered", "image/gif", 406),
    "a picture beyond the last": ("/frames/7/rendered", "*/*", 404),
    "no window": ("/rendered?window=1,2", "*/*", 400),
    "a window without width": ("/rendered?window=40,0,linear", "*/*", 400),
    "no function": ("/rendered?window=40,400,other", "*/*", 400),
    "not finite": ("/rendered?window=nan,400,linear", "*/*", 400),
    "no viewport": ("/rendered?viewport=0,5", "*/*", 400),
    "a viewport that is too large": ("/rendered?viewport=99999,99999", "*/*", 400),
    "a region outside": ("/rendered?viewport=9,9,0,0,99,99", "*/*", 406),
    "no quality": ("/rendered?quality=0", "*/*", 400),
}


@pytest.mark.parametrize(("path", "accept", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(node: Node, path: str, accept: str, status: int) -> None:
    url = node.made("refused", jls(table=True), str(JPEGLSLossless))
    answer = httpx.get(f"{url}{path}", headers={"Accept": accept}, trust_env=False, timeout=60)
    assert answer.status_code == status, answer.text


def test_an_object_without_pixels_has_neither_frames_nor_pictures(node: Node) -> None:
    url = node.made("document", dataset(Modality="SR"))
    assert [get(f"{url}/{what}").status_code for what in ("frames/1", "rendered", "thumbnail")] == [404, 406, 406]


def test_a_hostile_object_costs_only_its_own_picture(node: Node) -> None:
    image = clip([b"\xff\xd8\xff\xf7\x00\x0b\x10\xff\xff\xff\xff\x01\x01\x11\x00\xff\xd9"], GREY[:1])
    hostile = node.made("hostile", image, str(JPEGLSLossless))
    cut = node.made("cut", dataset(GREY, NumberOfFrames=4000))
    sound = node.made("sound", jls(table=True), str(JPEGLSLossless))
    for url in (hostile, cut):
        assert {get(f"{url}/{what}").status_code for what in ("frames/1", "rendered", "thumbnail")} <= {406, 200}
        assert get(f"{sound}/rendered").status_code == 200
    assert get(f"{hostile}/rendered").status_code == 406
    assert get(f"{cut}/frames/4000").status_code == 406


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit], ids=["RLE", "JPEG"])
def test_a_frame_needs_no_more_memory_than_itself(node: Node, syntax: str) -> None:
    """A sparse file of 3 GiB beside the frame: who read it whole would show it."""
    streams = [imagecodecs.jpeg8_encode(RAMP.astype(np.uint8))] * 2
    image = clip(streams, np.stack([RAMP.astype(np.uint8)] * 2))
    path = write(node.folder / f"long{syntax}.dcm", image, str(syntax))
    with path.open("r+b") as file:
        file.truncate(3 << 30)
    url = node.add(f"long{syntax}", path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ((_, content),) = parts_of(get(f"{url}/frames/2", f"{NATIVE}; transfer-syntax=*"))
    assert content.startswith(streams[0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB
