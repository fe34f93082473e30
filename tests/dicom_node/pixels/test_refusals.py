"""Files that lie, end early or are no images give a reason, in little memory; damaged bytes never give anything else."""

from __future__ import annotations

import logging
import re
import threading
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels import codecs, read_instance, render_frame, select_frames, syntaxes
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.limits import Limits
from dicom_node.pixels.quiet import quiet
from dicom_node.pixels.task import Decode
from inference.reading import Frame

from .coded import LOSSLESS, LOSSY, coded
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
    path.write_bytes(_with_syntax(path.read_bytes(), syntax))
    with pytest.raises(PixelError) as refused:
        render_frame(read_instance(path), 1)
    assert reason in refused.value.reason


def _with_syntax(content: bytes, syntax: str, really: str = JPEGBaseline8Bit) -> bytes:
    """The file under another transfer syntax UID."""
    old = really.encode()
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    at = content.index(old)
    end = at + len(old) + len(old) % 2
    delta = len(new) - (end - at)
    length = int.from_bytes(content[140:144], "little") + delta
    return (
        content[:140]
        + length.to_bytes(4, "little")
        + content[144 : at - 2]
        + len(new).to_bytes(2, "little")
        + new
        + content[end:]
    )


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


def nested(depth: int, start: bytes, end: bytes) -> bytes:
    """A data set of sequences within sequences."""
    return start * depth + end * depth


_SQ_UNDEFINED = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
_SQ_END = b"\xfe\xff\r\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"


def nested_with_lengths(depth: int) -> bytes:
    """The same with lengths, each true: read one level at a time, as each is asked for."""
    content = b""
    for _ in range(depth):
        content = b"\xfe\xff\0\xe0" + len(content).to_bytes(4, "little") + content
        content = b"\x08\0\x15\x11SQ\0\0" + len(content).to_bytes(4, "little") + content
    return content


HEADERS = {
    "3.6 MB of nested sequences": nested(100_000, _SQ_UNDEFINED, _SQ_END),
    "nested sequences with lengths": nested_with_lengths(900),
    "an element that claims 3 GB": b"\x09\0\x10\0OB\0\0\0\0\0\xc0" + b"\0" * 64,
    "a sequence that claims 3 GB": b"\x08\0\x15\x11SQ\0\0\0\0\0\xc0\xfe\xff\0\xe0\0\0\0\xc0",
    "a text that claims 3 GB": b"\x08\0\x70\0UT\0\0\0\0\0\xc0text",
    "an unknown value representation": b"\x08\0\x70\0??\x04\0abcd",
    "bytes of no order": bytes(range(256)) * 64,
    "a private element of every length": b"".join(b"\x09\0\x10\0LO" + n.to_bytes(2, "little") for n in range(4000)),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_a_hostile_header_gives_a_frame_or_a_reason(tmp_path: Path, content: bytes) -> None:
    """Each stands before the elements of an image, in explicit form."""
    path = write(tmp_path / "hostile.dcm", dataset(RAMP))
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[:start] + content + whole[start:])
    started = time.monotonic()
    result = _frame_or_reason(path)
    assert isinstance(result, Frame) or result.reason.startswith("its header is damaged (") or "no pixel data" in result.reason
    assert time.monotonic() - started < 10


ODD = {
    "a character set that does not exist": {"SpecificCharacterSet": "ISO_IR 9999", "BodyPartExamined": "CHEST"},
    "a character set of another text": {"SpecificCharacterSet": "ISO 2022 IR 149", "PatientName": "x"},
    "a uid with a path": {"SOPInstanceUID": "../../../etc/passwd", "SeriesInstanceUID": "/dev/null"},
    "a uid that is no text": {"SeriesInstanceUID": "\0\x07"},
    "numbers that are none": {"InstanceNumber": ("LO", "1e400"), "WindowCenter": ("LO", "1e999"), "WindowWidth": ("LO", "NaN")},
}


@pytest.mark.parametrize("elements", ODD.values(), ids=ODD.keys())
def test_an_odd_header_is_shown_or_refused(tmp_path: Path, elements: dict[str, Any]) -> None:
    made = dataset(RAMP, **{key: value for key, value in elements.items() if isinstance(value, str)})
    for key, value in elements.items():
        if not isinstance(value, str):
            made.add_new(key, *value)
    result = _frame_or_reason(write(tmp_path / "odd.dcm", made))
    assert isinstance(result, Frame)
    assert (result.pixels == RAMP).all()


WRONG_SYNTAX = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", *LOSSLESS, *LOSSY)


@pytest.mark.parametrize("said", WRONG_SYNTAX)
@pytest.mark.parametrize("really", [str(RLELossless), "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"])
def test_a_syntax_that_is_not_the_real_one_gives_the_right_frame_or_a_reason(tmp_path: Path, said: str, really: str) -> None:
    path = coded(tmp_path, really, RAMP, 8)
    path.write_bytes(_with_syntax(path.read_bytes(), said, really))
    result = _frame_or_reason(path)
    assert isinstance(result, PixelError) or (result.pixels == RAMP).all()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A small image in every form that is read."""
    folder = tmp_path_factory.mktemp("seeds")
    grey = (np.add.outer(np.arange(32), np.arange(32)) * 60).astype(np.uint16)
    lossy = zip(LOSSY, ((grey % 256).astype(np.uint8), grey), (8, 12), strict=True)
    found = [coded(folder, syntax, grey, 12).read_bytes() for syntax in LOSSLESS]
    found += [coded(folder, syntax, pixels, bits).read_bytes() for syntax, pixels, bits in lossy]
    natives = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
    return [*found, *(write(folder / "native.dcm", dataset(grey), syntax).read_bytes() for syntax in natives)]


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_a_frame_or_a_reason(tmp_path: Path, seeds: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(seeds)))
    for place, value in data.draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)):
        content[int(place * len(content))] = value
    keep = data.draw(st.one_of(st.just(1.0), st.floats(0, 1)))
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content[: int(len(content) * keep)])
    assert isinstance(_frame_or_reason(path), Frame | PixelError)


def _frame_or_reason(path: Path) -> Frame | PixelError:
    try:
        instance = read_instance(path)
        select_frames([instance])
        return render_frame(instance, 1)
    except PixelError as error:
        return error


def test_remarks_of_pydicom_do_not_surface_from_any_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = dataset(RAMP)
    made.PixelData = made.PixelData + b"\0" * 512
    instance = read_instance(write(tmp_path / "long.dcm", made))
    filters = list(warnings.filters)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                with quiet():
                    render_frame(instance, 1)
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == filters
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_reasons_hold_no_patient_data(tmp_path: Path) -> None:
    made = dataset(RAMP, PatientName="PLANTED^NAME", PatientID="PLANTED-ID")
    made.add_new("WindowCenter", "LO", "PLANTED")
    made.add_new("Rows", "LO", "PLANTED")
    with pytest.raises(PixelError) as refused:
        render_frame(read_instance(write(tmp_path / "named.dcm", made)), 1)
    assert "PLANTED" not in str(refused.value)


def test_an_empty_data_set_is_no_instance(tmp_path: Path) -> None:
    with pytest.raises(PixelError, match="no DICOM data set"):
        read_instance(write(tmp_path / "empty.dcm", Dataset()))
