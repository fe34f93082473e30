"""CPU time from a stored film to what a model sees: ``python benchmarks/decode.py [--quick]``.

A drawn film of 2500 × 2500 pixels of 12 bits, in four transfer syntaxes, is read, decoded, windowed and made 224 × 224: by
WetRead as it is by default (exact), by WetRead with ``pixels.fast`` and ``engine.resizing: fast``, and by pydicom in the usual
way (``pixel_array``, ``apply_modality_lut``, ``apply_voi_lut``, float, then the model's own preprocessing). All take turns in
one run on one thread, and the best of each is kept: a busy machine disturbs all alike. Counted is CPU time, of this process and
of the decoder process; ``isolation`` is what the decoder's being a process of its own adds. The last line is one JSON object.

The bar, in ms: uncompressed 40 exact and 12 fast; JPEG lossless 150; JPEG 2000 95 and High-Throughput JPEG 2000 25, both fast.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from open_clip.transform import image_transform  # noqa: E402

from dicom_node.pixels import PixelOptions, PixelReader  # noqa: E402
from dicom_node.pixels.codecs import decode  # noqa: E402
from dicom_node.pixels.frames import Chosen  # noqa: E402
from dicom_node.pixels.layout import layout_of  # noqa: E402
from dicom_node.pixels.limits import Limits  # noqa: E402
from dicom_node.pixels.look import Look  # noqa: E402
from dicom_node.pixels.task import Decode  # noqa: E402
from inference.phantoms import draw_phantom  # noqa: E402
from inference.triage.preparation import Preparation  # noqa: E402

SIDE: Final = 2500
BITS: Final = 12
SLOW_S: Final = 0.5  # a way that takes longer is measured twice only
SYNTAXES: Final[dict[str, tuple[str, Callable[[NDArray[np.uint16]], bytes] | None]]] = {
    "uncompressed": ("1.2.840.10008.1.2.1", None),
    "jpeg_lossless": ("1.2.840.10008.1.2.4.70", lambda film: imagecodecs.jpeg8_encode(film, lossless=True, bitspersample=BITS)),
    "jpeg_2000": (
        "1.2.840.10008.1.2.4.90",
        lambda film: imagecodecs.jpeg2k_encode(film, level=0, reversible=True, codecformat="j2k", bitspersample=BITS),
    ),
    "htj2k": ("1.2.840.10008.1.2.4.201", imagecodecs.htj2k_encode),
}
BARS: Final = {
    ("uncompressed", "exact"): 40, ("uncompressed", "fast"): 12, ("jpeg_lossless", "exact"): 150,
    ("jpeg_2000", "fast"): 95, ("htj2k", "fast"): 25,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five rounds instead of twenty")
    rounds = 5 if parser.parse_args().quick else 20
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, readers() as (exact, fast):
        table = {name: measured(file, exact, fast, rounds) for name, file in written(Path(folder)).items()}
    print(f"{'CPU ms':16}" + "".join(f"{column:>12}" for column in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:16}" + "".join(f"{value:12.1f}" for value in row.values()))
    met = {f"{name}, {way}": table[name][way] <= bar for (name, way), bar in BARS.items()}
    print(json.dumps({"cpu_ms": table, "bars_ms": {f"{n}, {w}": bar for (n, w), bar in BARS.items()}, "met": met}))


@contextmanager
def readers() -> Iterator[tuple[PixelReader, PixelReader]]:
    one = Limits(processes=1)
    with PixelReader(PixelOptions(one)) as exact, PixelReader(PixelOptions(one, fast=True)) as fast:
        yield exact, fast


def written(folder: Path) -> dict[str, Path]:
    """The film in each syntax."""
    drawn = Image.fromarray(draw_phantom(1, size=SIDE // 2).pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).normal(0, 8, (SIDE, SIDE))
    film = np.clip(np.asarray(drawn) * 15.0 + grain, 0, (1 << BITS) - 1).astype(np.uint16)
    files = {}
    for name, (syntax, encode) in SYNTAXES.items():
        made = _dataset(film)
        if encode:
            made.PixelData = encapsulate([encode(film)])
            made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = syntax
        files[name] = folder / f"{name}.dcm"
        made.save_as(files[name], enforce_file_format=True)
    return files


def _dataset(film: NDArray[np.uint16]) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "2.25.1"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = "2.25.2", "2.25.3", "DX"
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = SIDE, SIDE, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, BITS, BITS - 1, 0
    made.WindowCenter, made.WindowWidth, made.RescaleSlope, made.RescaleIntercept = 1900, 3600, 1, 0
    made.PixelData = film.tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def measured(file: Path, exact: PixelReader, fast: PixelReader, rounds: int) -> dict[str, float]:
    """CPU ms of each way, and of decoding alone in this process and in the decoder's."""
    transform = image_transform(224, is_train=False)
    as_published, by_areas = Preparation(transform, "exact"), Preparation(transform, "fast")
    task = task_of(exact, file)
    ways: dict[str, Callable[[], Any]] = {
        "exact": lambda: as_published.pixels(shown(exact, file)),
        "fast": lambda: by_areas.pixels(shown(fast, file)),
        "pydicom": lambda: transform(usual(file)),
        "decode here": lambda: decode(task),
        "decode apart": lambda: exact.decoders.decode(task),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number, name in enumerate([*ways] * (1 + rounds)):
        if number > 2 * len(ways) and min(spent[name]) > SLOW_S:
            continue
        before = cpu_seconds(exact, fast)
        ways[name]()
        spent[name].append(cpu_seconds(exact, fast) - before)
    figures = {name: round(1000 * min(times[1:]), 1) for name, times in spent.items()}
    return figures | {"isolation": round(figures["decode apart"] - figures["decode here"], 1)}


def shown(reader: PixelReader, file: Path) -> Any:
    return reader.show(Chosen(reader.open(file), 1, Look()))


def task_of(reader: PixelReader, file: Path) -> Decode:
    instance = reader.open(file)
    assert instance.pixels is not None
    return Decode(instance.path, instance.transfer_syntax, layout_of(instance), instance.pixels, 0)


def usual(file: Path) -> Image.Image:
    """As most programs around pydicom do it."""
    header = pydicom.dcmread(file)
    values = apply_voi_lut(apply_modality_lut(header.pixel_array, header), header).astype(np.float32)
    low, high = values.min(), values.max()
    return Image.fromarray(((values - low) / (high - low) * 255).astype(np.uint8))


def cpu_seconds(*readers: PixelReader) -> float:
    """Of this process, and of the decoder processes of ``readers``."""
    pids = [pid for reader in readers for pid in reader.decoders.pids]
    apart = sum(int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) for pid in pids)
    return time.process_time() + apart / 1e9


if __name__ == "__main__":
    main()
