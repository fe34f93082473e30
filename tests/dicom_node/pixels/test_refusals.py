"""Files that lie, end early or are no images give a reason, in little memory."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels import codecs, read_instance, render_frame, syntaxes
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.limits import Limits
from dicom_node.pixels.task import Decode

from .coded import with_syntax
from .made import dataset, write

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
MEMORY = 8 << 20

LIES = {
    "65535 squared with little data": ({"Rows": 65535, "Columns": 65535}, "larger than 256 MiB"),
    "a large frame that is not there": ({"Rows": 16000, "Columns": 16000}, "cut off"),
    "a second frame that is not there": ({"NumberOfFrames": 100000}, "cut off"),
    "no rows": ({"Rows": None}, "lacks Rows"),
    "zero rows": ({"Rows": 0}, "size of 0"),
    "odd bits": ({"BitsAllocated": 12}, "12 Bits Allocated"),
    "more stored than allocated": ({"BitsStored": 16}, "do not fit"),
    "an unknown photometric interpretation": ({"PhotometricInterpretation": "SECRET^NAME"}, "(unknown)"),
    "four samples": ({"SamplesPerPixel": 4}, "4 samples"),
}


@pytest.mark.parametrize(("elements", "reason"), LIES.values(), ids=LIES.keys())
def test_a_lying_header_is_refused_in_little_memory(tmp_path: Path, elements: dict[str, Any], reason: str) -> None:
    instance = read_instance(write(tmp_path / "lie.dcm", dataset(RAMP, **elements)))
    frame = 100000 if "NumberOfFrames" in elements else 1
    tracemalloc.start()
    try:
        with pytest.raises(PixelError) as refused:
            render_frame(instance, frame)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert reason in refused.value.reason
    assert "SECRET" not in refused.value.reason


def jpeg(rows: int, columns: int) -> bytes:
    """A baseline JPEG header of that size, with an end marker and nothing between."""
    frame = b"\xff\xc0\x00\x0b\x08" + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\xff\xd9"


STREAMS = {
    "a stream larger than the header": (jpeg(65500, 65500), JPEGBaseline8Bit, "65500 × 65500"),
    "a stream without its end": (jpeg(16, 16)[:-2] + b"\0" * 80, JPEGBaseline8Bit, "no end marker"),
    "a stream without data": (jpeg(16, 16), JPEGBaseline8Bit, "damaged"),
    "no stream at all": (b"patient letter", JPEGLSLossless, "damaged at their start"),
    "rle far too short": (b"\1" + b"\0" * 63, "1.2.840.10008.1.2.5", "damaged"),
    "video": (b"\0" * 64, "1.2.840.10008.1.2.4.102", "video"),
    "an unknown syntax": (b"\0" * 64, "1.2.840.10008.1.2.4.999", "not supported"),
}


@pytest.mark.parametrize(("coded", "syntax", "reason"), STREAMS.values(), ids=STREAMS.keys())
def test_a_lying_stream_is_refused(tmp_path: Path, coded: bytes, syntax: str, reason: str) -> None:
    made = dataset(RAMP)
    made.PixelData = encapsulate([coded])
    made["PixelData"].is_undefined_length = True
    path = tmp_path / "lie.dcm"
    write(path, made, JPEGBaseline8Bit)
    path.write_bytes(with_syntax(path.read_bytes(), syntax))
    with pytest.raises(PixelError) as refused:
        render_frame(read_instance(path), 1)
    assert reason in refused.value.reason


NO_DICOM = {
    "empty": b"",
    "one byte": b"D",
    "a text": b"Dear colleague, thank you for referring " * 10,
    "only a preamble": b"\0" * 128 + b"DICM",
    "a length of 4 GiB": b"\0" * 128 + b"DICM" + b"\x08\x00\x18\x00UT\0\0\xfe\xff\xff\xff",
}


@pytest.mark.parametrize("content", NO_DICOM.values(), ids=NO_DICOM.keys())
def test_what_is_no_dicom_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(PixelError):
        render_frame(read_instance(path), 1)


def test_a_file_that_is_gone_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_instance(tmp_path / "gone.dcm")
    instance = read_instance(write(tmp_path / "here.dcm", dataset(RAMP)))
    instance.path.unlink()
    with pytest.raises(StorageError):
        render_frame(instance, 1)


def deflated(folder: Path, pieces: Iterable[bytes], whole: bool = True) -> Path:
    """A deflated file whose data set begins with ``pieces``, compressed a thousandfold where they are all alike."""
    path = write(folder / "deflated.dcm", dataset(RAMP), "1.2.840.10008.1.2.1.99")
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    engine = zlib.compressobj(1, wbits=-15)
    packed = b"".join(engine.compress(piece) for piece in (*pieces, zlib.decompress(content[start:], wbits=-15)))
    path.write_bytes(content[:start] + packed + (engine.flush() if whole else b""))
    return path


BOMBS = {
    "one element of 600 MiB": ([b"\x09\0\x10\0OB\0\0\0\0\x80\x25", *[b"\0" * (8 << 20)] * 75], 3, "larger than 512 MiB"),
    "millions of elements": ([b"\x09\0\x10\0SH\0\0" * (1 << 20)] * 16, 1, "computing time|needs more than"),
    "cut off": ([b"\x09\0\x10\0SH\0\0" * 4], 3, "cut off"),
}


@pytest.mark.parametrize(("pieces", "seconds", "reason"), BOMBS.values(), ids=BOMBS.keys())
def test_a_deflated_bomb_is_refused(tmp_path: Path, pieces: list[bytes], seconds: float, reason: str) -> None:
    path = deflated(tmp_path, pieces, whole=reason != "cut off")
    with Decoders(Limits(processes=1, seconds=seconds)) as decoders, little_memory(), pytest.raises(PixelError, match=reason):
        read_instance(path, decoders)


@contextmanager
def little_memory() -> Iterator[None]:
    """What the body does takes this process less than ``MEMORY`` more than it holds, at any moment."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from now
    before = _peak_bytes()
    yield
    assert _peak_bytes() - before < MEMORY


def _peak_bytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))[1]) << 10  # type: ignore[index]


def test_a_deflated_image_is_shown(tmp_path: Path) -> None:
    assert (render_frame(read_instance(deflated(tmp_path, [])), 1).pixels == RAMP).all()


def test_only_the_wanted_frame_is_read(tmp_path: Path) -> None:
    pixels = np.zeros((400, 256, 256), dtype=np.uint8)
    pixels[399] = 9
    pixels[399, 0, 0] = 0
    instance = read_instance(write(tmp_path / "many.dcm", dataset(pixels)))
    tracemalloc.start()
    try:
        frame = render_frame(instance, 400)
        assert tracemalloc.get_traced_memory()[1] < MEMORY < pixels.nbytes
    finally:
        tracemalloc.stop()
    assert frame.pixels[5, 5] == 255
    with pytest.raises(PixelError, match="frame 401 does not exist"):
        render_frame(instance, 401)


def test_a_decoder_that_panics_gives_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pylibjpeg-rle panics, which is no Exception, where a segment decodes to more than its share."""
    monkeypatch.setitem(syntaxes.DECODERS, str(RLELossless), ("pylibjpeg",))
    segment = b"\x81\0" * 600
    header = np.array([2, 64, 64 + len(segment), *[0] * 13], dtype="<u4").tobytes()
    made = dataset(np.zeros((16, 16), dtype=np.uint16))
    made.PixelData = encapsulate([header + segment + segment])
    made["PixelData"].is_undefined_length = True
    instance = read_instance(write(tmp_path / "panic.dcm", made, RLELossless))
    assert instance.pixels
    with pytest.raises(PixelError) as refused:
        codecs.decode(Decode(instance.path, instance.transfer_syntax, layout_of(instance), instance.pixels, 0))
    assert type(refused.value.__cause__).__name__ == "PanicException"
