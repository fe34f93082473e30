"""Pictures and thumbnails by DICOMweb: the outside tool's renders and the formulas of PS3.3 C.11.2 judge."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from dicom_node.pixels.quiet import quiet
from tests.dicom_node.pixels.corpus import difference, needs_corpus, rows
from tests.dicom_node.pixels.made import dataset

from .served import RAMP, Node, get, jls, parts_of, serving


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("web")) as made:
        yield made


def picture(url: str, accept: str = "image/png", **parameters: Any) -> NDArray[np.uint8]:
    answer = get(url, accept, **parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == accept
    return np.asarray(Image.open(BytesIO(answer.content)))


@needs_corpus
def test_pictures_are_those_of_the_outside_tool(node: Node) -> None:
    """One of each modality and photometric interpretation that the corpus has: MONOCHROME1, MR, US in colour, MG, palettes."""
    wanted = ("MONOCHROME1", "YBR_FULL", "RGB", "PALETTE COLOR", "MONOCHROME2")
    chosen: dict[str, Any] = {}
    for row in rows():
        if row.golden and row.pydicom == "ok" and row.path.stat().st_size < 4 << 20:
            with quiet():
                told = dcmread(row.path, stop_before_pixels=True, force=True)
                photometric = str(told.get("PhotometricInterpretation", ""))
            if any(photometric.startswith(one) for one in wanted) and not told.get("PixelPaddingValue"):
                chosen.setdefault(f"{told.get('Modality', '')} {photometric}", row)
    assert chosen
    for name, row in chosen.items():
        copy = node.folder / f"corpus{len(name)}{sum(map(ord, name))}.dcm"
        copy.write_bytes(row.path.read_bytes())
        with quiet():
            url = node.add(name, copy)
        assert difference(picture(f"{url}/rendered"), row.golden) < 1.5, (name, row.file)


def test_a_window_is_that_which_is_asked_for(node: Node) -> None:
    url = node.made("ramp", dataset(RAMP, WindowCenter="0", WindowWidth="1", RescaleIntercept="-1000", RescaleSlope="1"))
    values = RAMP.astype(float) - 1000
    linear = np.clip((values - (100 - 0.5)) / (500 - 1) + 0.5, 0, 1)
    exact = np.clip((values - 100) / 500 + 0.5, 0, 1)
    sigmoid = 1 / (1 + np.exp(-4 * (values - 100) / 500))
    for function, brightness in (("linear", linear), ("linear-exact", exact), ("SIGMOID", sigmoid)):
        shown = picture(f"{url}/rendered", window=f"100,500,{function}").astype(float)
        assert np.abs(shown - brightness * 255).max() <= 0.51, function


def test_a_viewport_scales_cuts_and_mirrors(node: Node) -> None:
    url = node.made("viewport", dataset(RAMP, WindowCenter="1275", WindowWidth="2551"))
    assert picture(f"{url}/rendered", viewport="64,64").shape == (16, 64)
    assert picture(f"{url}/rendered", viewport="512,512").shape == (128, 512)
    cut = picture(f"{url}/rendered", viewport="64,64,64,0,64,64")
    assert np.array_equal(cut, picture(f"{url}/rendered")[:, 64:128])
    assert np.array_equal(picture(f"{url}/rendered", viewport="64,64,64,0,-64,64"), cut[:, ::-1])
    assert np.array_equal(picture(f"{url}/rendered", viewport="64,64,64,0,64,-64"), cut[::-1])


def test_jpeg_and_several_frames(node: Node) -> None:
    url = node.made("several", jls(table=True), str(JPEGLSLossless))
    assert get(f"{url}/rendered", "*/*").headers["content-type"] == "image/jpeg"
    assert picture(f"{url}/rendered", "image/jpeg", quality=100).shape == (8, 10)
    told = parts_of(get(f"{url}/frames/1,6/rendered", "image/png"))
    assert [kind for kind, _ in told] == ["image/png"] * 2
    for number, (_, content) in zip((1, 6), told, strict=True):
        assert np.array_equal(np.asarray(Image.open(BytesIO(content))), picture(f"{url}/frames/{number}/rendered"))
    assert "annotation" in get(f"{url}/rendered", annotation="patient").headers["Warning"]
    assert get(f"{url}/rendered?accept=image/png", "text/html").headers["content-type"] == "image/png"


def test_thumbnails_of_object_series_and_study(node: Node) -> None:
    url = node.made("thumbs", dataset(RAMP))
    series, study = url.rsplit("/", 2)[0], url.rsplit("/", 4)[0]
    for one in (url, series, study):
        answer = get(f"{one}/thumbnail")
        assert (answer.status_code, Image.open(BytesIO(answer.content)).size) == (200, (200, 50))
    assert Image.open(BytesIO(get(f"{url}/thumbnail", viewport="32,32").content)).size == (32, 8)
