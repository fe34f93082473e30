"""Hostile and damaged headers give a frame or a reason, never anything else, and no patient data."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import RLELossless

from dicom_node.errors import PixelError
from dicom_node.pixels import read_instance, render_frame, select_frames
from dicom_node.pixels.quiet import quiet
from inference.reading import Frame

from .coded import LOSSLESS, LOSSY, coded, with_syntax
from .made import dataset, write

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)


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
    path.write_bytes(with_syntax(path.read_bytes(), said, really))
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
