"""Reading at a part of the resolution: the picture is the whole one made smaller, and no score or decision moves by it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import RLELossless

from dicom_node.choices import engine_options
from dicom_node.pixels import PixelOptions, PixelReader
from dicom_node.pixels.frames import Chosen
from dicom_node.pixels.layout import Layout
from dicom_node.pixels.reduction import averaged, bands_of
from dicom_node.settings import Settings
from inference.engine import load_triage
from inference.phantoms import draw_phantom
from inference.reading import Frame
from inference.triage.contrastive import Triage

from .coded import coded
from .made import dataset, write

NATIVE = "1.2.840.10008.1.2.1"
J2K, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201"
WINDOW = {"WindowCenter": 1900, "WindowWidth": 3600}


@pytest.fixture(scope="module")
def readers() -> Iterator[tuple[PixelReader, PixelReader]]:
    with PixelReader(PixelOptions()) as exact, PixelReader(PixelOptions(fast=True)) as fast:
        yield exact, fast


@cache
def film(size: int, seed: int = 1, largest: int = 4095) -> NDArray[np.uint16]:
    """A drawn film, made large, with grain."""
    drawn = Image.fromarray(draw_phantom(seed, size=512).pixels).resize((size, size), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(seed).normal(0, largest / 500, (size, size))
    return np.clip(np.asarray(drawn) * (largest / 280) + largest / 40 + grain, 0, largest).astype(np.uint16)


def stored(folder: Path, syntax: str, pixels: NDArray[Any], bits: int = 12, **elements: Any) -> Path:
    if syntax == NATIVE:
        return write(folder / "film.dcm", dataset(pixels, BitsStored=bits, HighBit=bits - 1, **elements))
    return coded(folder, syntax, pixels, bits, "film", **elements)


def shown(reader: PixelReader, path: Path) -> Frame:
    return reader.show(Chosen(reader.open(path), 1))


@pytest.mark.parametrize("syntax", [NATIVE, J2K, HTJ2K, str(RLELossless)])
def test_fast_is_the_whole_picture_made_smaller(tmp_path: Path, readers: tuple[PixelReader, PixelReader], syntax: str) -> None:
    path = stored(tmp_path, syntax, film(2048), **WINDOW)
    exact, fast = (shown(reader, path) for reader in readers)
    assert exact.full_size is None
    assert fast.full_size == exact.size == fast.size == (2048, 2048)
    assert fast.pixels.shape == (512, 512)
    assert fast.window == exact.window + ", at 1/4 of its resolution"
    mean = exact.pixels.reshape(512, 4, 512, 4).mean((1, 3))
    assert np.abs(fast.pixels - mean).mean() < 2
    assert np.corrcoef(fast.pixels.ravel(), mean.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("syntax", [J2K, HTJ2K])
@pytest.mark.parametrize("bits", [10, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_fast_keeps_the_scale_of_values(
    tmp_path: Path, readers: tuple[PixelReader, PixelReader], syntax: str, bits: int, signed: bool
) -> None:
    """Pillow spreads them over 16 bits and moves signed ones."""
    if syntax == HTJ2K and bits < 16:
        pytest.skip("the encoder knows whole bytes only")
    values = film(1100, largest=(1 << bits) - 1).astype(np.int32) - (1 << (bits - 1)) * signed
    pixels = values.astype(np.int16 if signed else np.uint16)
    window = {"WindowCenter": float(values.mean()), "WindowWidth": float(np.ptp(values)) / 2}
    path = stored(tmp_path, syntax, pixels, bits, **window)
    exact, fast = (shown(reader, path) for reader in readers)
    assert fast.pixels.shape == (550, 550)
    mean = exact.pixels.reshape(550, 2, 550, 2).mean((1, 3))
    assert np.abs(fast.pixels - mean).mean() < 4


WHOLE = {
    "small": (film(900), WINDOW),
    "no window": (film(2048), {}),
    "padding": (film(2048), {**WINDOW, "PixelPaddingValue": 0}),
    "a shutter": (film(2048), {**WINDOW, "ShutterShape": "RECTANGULAR"}),
}


@pytest.mark.parametrize(("pixels", "elements"), WHOLE.values(), ids=WHOLE.keys())
def test_fast_reads_whole_where_single_pixels_count(
    tmp_path: Path, readers: tuple[PixelReader, PixelReader], pixels: NDArray[np.uint16], elements: dict[str, Any]
) -> None:
    path = stored(tmp_path, NATIVE, pixels, **elements)
    exact, fast = (shown(reader, path) for reader in readers)
    assert (fast.pixels == exact.pixels).all()
    assert fast.full_size is None


@pytest.mark.parametrize(
    ("bits", "high_bit", "signed"), [(12, 11, False), (12, 11, True), (16, 15, False), (16, 15, True), (8, 15, False)]
)
@pytest.mark.parametrize("times", [1, 2])
def test_means_are_those_of_numpy(bits: int, high_bit: int, signed: bool, times: int) -> None:
    """With garbage in the unused bits, and rows and columns that fill no square."""
    layout = Layout(131, 70, 1, "MONOCHROME2", 16, bits, high_bit, signed, 0, 1)
    random = np.random.default_rng(bits + times)
    values = random.integers(-(1 << (bits - 1)) * signed, 1 << (bits - signed), (131, 70))
    low = high_bit + 1 - bits
    used = ((1 << bits) - 1) << low
    cells = ((values << low) & used | random.integers(0, 1 << 16, values.shape) & ~used).astype(np.uint16)
    step = 1 << times
    squares = values[: 131 // step * step, : 70 // step * step].reshape(131 // step, step, 70 // step, step)
    wanted = np.floor(squares.mean((1, 3)) + 0.5).astype(np.int64)
    assert (averaged(bands_of(cells, times), layout, times, right_aligned=False) == (wanted & 0xFFFF)).all()


@pytest.fixture(scope="module")
def triage(tmp_path_factory: pytest.TempPathFactory) -> Triage:
    """The phantom BiomedCLIP."""
    settings = Settings(folder=tmp_path_factory.mktemp("node"))
    return load_triage(engine_options(settings, next(iter(settings.readings))))


def test_scores_do_not_move_and_no_decision_flips(
    tmp_path: Path, readers: tuple[PixelReader, PixelReader], triage: Triage
) -> None:
    """Over drawn films of real size, as they are and in a syntax that is read in part.

    The last film is one in doubt, whose scores move with any change of its grain; its decisions stay.
    """
    probabilities = []
    for seed in range(1, 7):
        for syntax in (NATIVE, HTJ2K):
            path = stored(tmp_path, syntax, film(2048, seed), Modality="DX", **WINDOW)
            probabilities.append(triage.score([shown(reader, path) for reader in readers]))
    whole, part = np.array(probabilities).transpose(1, 0, 2)
    moves = np.abs(whole - part)
    assert moves[:-2].max() < 1e-3
    assert np.median(moves) < 2e-4
    assert moves.max() < 0.05
    assert ((whole >= 0.5) == (part >= 0.5)).all()
    assert 0.02 < np.mean(whole >= 0.5) < 0.98
