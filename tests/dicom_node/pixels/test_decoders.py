"""What a decoder does to its process costs one frame: a reason is given, and the next frame is decoded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from dicom_node.errors import PixelError, StorageError
from dicom_node.pixels import read_instance, render_frame
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.limits import Limits
from dicom_node.pixels.task import Answer, Outcome

from .made import dataset, write

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
LIMITS = Limits(processes=2, memory_mb=256, seconds=1, patience=4)
UNRULY = (str(Path(__file__).with_name("unruly.py")),)


@pytest.fixture(scope="module")
def unruly() -> Iterator[Decoders]:
    with Decoders(LIMITS, (*UNRULY, "60")) as decoders:
        yield decoders


def rle(folder: Path, name: str = "film") -> Path:
    """A compressed image, so that it is decoded in another process."""
    segment = b"".join(bytes([15]) + bytes(row) for row in RAMP)
    made = dataset(RAMP)
    made.PixelData = encapsulate([np.array([1, 64, *[0] * 14], dtype="<u4").tobytes() + segment])
    made["PixelData"].is_undefined_length = True
    return write(folder / f"{name}.dcm", made, RLELossless)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone_within(pids: tuple[int, ...], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


DEEDS = {
    "segfault": "its decoder crashed on it (SIGSEGV)",
    "abort": "its decoder crashed on it (SIGABRT)",
    "loop": "longer than the 1 s of computing time",
    "native loop": "longer than the 1 s of computing time",
    "hang": "longer than the 1 s of computing time",
    "grow": "needs more than the 256 MiB",
    "reserve": "needs more than the 256 MiB",
    "nonsense": "gave no sensible answer",
    "killed": "killed by the system",
    "write": "damaged (OSError)",
}


@pytest.mark.parametrize(("deed", "reason"), DEEDS.items(), ids=DEEDS.keys())
def test_a_decoder_that_fails_costs_its_frame_only(tmp_path: Path, unruly: Decoders, deed: str, reason: str) -> None:
    instance = read_instance(rle(tmp_path, deed))
    started = time.monotonic()
    with pytest.raises(PixelError) as refused:
        render_frame(instance, 1, unruly)
    assert time.monotonic() - started < 15
    assert reason in refused.value.reason
    assert not instance.path.with_suffix(".written").exists() or not instance.path.with_suffix(".written").read_bytes()
    assert (render_frame(read_instance(rle(tmp_path)), 1, unruly).pixels == RAMP).all()
    assert len(unruly.pids) <= 2


def test_a_frame_is_tried_again_when_its_decoder_was_killed_from_outside(tmp_path: Path, unruly: Decoders) -> None:
    instance = read_instance(rle(tmp_path))
    instance.path.with_suffix(".once").touch()
    assert (render_frame(instance, 1, unruly).pixels == RAMP).all()
    assert not instance.path.with_suffix(".once").exists()


def test_the_signal_that_stops_the_node_does_not_spoil_the_frame_in_work(tmp_path: Path, unruly: Decoders) -> None:
    assert (render_frame(read_instance(rle(tmp_path, "stopped")), 1, unruly).pixels == RAMP).all()


def test_decoders_that_never_start_are_no_fault_of_the_file(tmp_path: Path) -> None:
    with Decoders(LIMITS, ("-c", "raise SystemExit(3)")) as broken, pytest.raises(StorageError, match="exit status 3"):
        render_frame(read_instance(rle(tmp_path)), 1, broken)


def test_an_idle_decoder_ends_and_the_next_frame_gets_another(tmp_path: Path) -> None:
    instance = read_instance(rle(tmp_path))
    with Decoders(LIMITS, (*UNRULY, "0.2")) as decoders:
        render_frame(instance, 1, decoders)
        assert gone_within(decoders.pids, 5)
        assert (render_frame(instance, 1, decoders).pixels == RAMP).all()


def test_frames_are_decoded_side_by_side_in_no_more_processes_than_allowed(tmp_path: Path) -> None:
    instance = read_instance(rle(tmp_path))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                assert (render_frame(instance, 1, decoders).pixels == RAMP).all()
                assert len(decoders.pids) <= 2
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    with Decoders(Limits(processes=2)) as decoders:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pids = decoders.pids
    assert not failures
    assert gone_within(pids, 3)


def test_closing_ends_a_decoder_in_the_middle_of_its_work(tmp_path: Path) -> None:
    instance = read_instance(rle(tmp_path, "hang"))
    decoders = Decoders(Limits(processes=1, seconds=60), (*UNRULY, "60"))
    told: list[BaseException] = []

    def work() -> None:
        try:
            render_frame(instance, 1, decoders)
        except StorageError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not decoders.pids:
        time.sleep(0.02)
    pids = decoders.pids
    decoders.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in told] == [StorageError]
    assert gone_within(pids, 3)
    with pytest.raises(StorageError):
        render_frame(instance, 1, decoders)


@pytest.mark.parametrize("deed", ["native loop", "film"])
def test_decoders_end_with_a_node_that_is_killed(tmp_path: Path, deed: str) -> None:
    """Busy in native code, or idle."""
    script = tmp_path / "node.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, threading, time
        from pathlib import Path
        from dicom_node.pixels import read_instance, render_frame
        from dicom_node.pixels.decoders import Decoders
        from dicom_node.pixels.limits import Limits
        decoders = Decoders(Limits(processes=1, seconds=60), {(*UNRULY, "60")!r})
        work = threading.Thread(target=render_frame, args=(read_instance(Path({str(rle(tmp_path, deed))!r})), 1, decoders))
        work.start()
        if {deed == "film"}:
            work.join()
        else:
            time.sleep(2.5)
        print(*decoders.pids, flush=True)
        time.sleep(60)
        """),
        encoding="utf-8",
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env) as node:
        assert node.stdout is not None
        pids = tuple(int(pid) for pid in node.stdout.readline().split())
        assert pids
        assert all(is_alive(pid) for pid in pids)
        node.send_signal(signal.SIGKILL)
    assert gone_within(pids, 3)


def test_a_forked_process_has_decoders_of_its_own(tmp_path: Path) -> None:
    instance = read_instance(rle(tmp_path))
    with Decoders(LIMITS) as decoders:
        render_frame(instance, 1, decoders)
        child = os.fork()
        if not child:
            shown = render_frame(instance, 1, decoders).pixels
            decoders.close()
            os._exit(0 if (shown == RAMP).all() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (render_frame(instance, 1, decoders).pixels == RAMP).all()


NO_ANSWERS = {
    "nothing": b"",
    "too short": b"\0" * 8,
    "an unknown outcome": b"\x09" + b"\0" * 13 + b"u1",
    "seven dimensions": b"\0\x07" + b"\0" * 12 + b"u1",
    "objects": b"\0\0" + b"\0" * 12 + b"O8",
}


@pytest.mark.parametrize("content", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_an_answer_that_is_none_is_not_believed(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer|Outcome"):
        Answer.decode(content)


ANSWERS = (Answer(Outcome.DONE, (2, 3), "u2"), Answer(Outcome.DONE, (2, 3, 3), "f8"), Answer(Outcome.REFUSED, reason="é"))


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_comes_back_as_it_was_given(answer: Answer) -> None:
    assert Answer.decode(answer.encode()) == answer
