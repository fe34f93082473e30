"""The stream: phantom films of many studies, some with a late image, some sent twice, some STAT; sent by DCMTK until answered.

What storescu reports as answered with success is written down outside the node: that, and only that, counts as acknowledged.
"""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.uid import generate_uid

from dicom_node.phantom_dicom import phantom_dx

from ..films import write
from ..peers import SENDER
from ..processes import require

LATE_S: Final = 6.0  # after the study's first images: later than its quiet time
_AGAIN_S: Final = 0.5
_ANSWER: Final = re.compile(r"Sending file: (\S+)|Received Store Response \(Success\)")


@dataclass(frozen=True, slots=True)
class Film:
    """One image to be sent at ``at_s`` seconds after the start; a duplicate names the file of another."""

    at_s: float
    study_uid: str
    sop_uid: str
    path: Path


@dataclass
class Told:
    """What the sender was told. Written by its threads."""

    acknowledged: dict[str, set[str]] = field(default_factory=dict)  # study to the SOP Instance UIDs answered 0x0000
    lines: list[tuple[float, str, str]] = field(default_factory=list)  # time, study, what

    def note(self, study: str, what: str) -> None:
        self.lines.append((time.time(), study, what))


def stream(seed: int, seconds: float, folder: Path, per_second: float = 0.8) -> tuple[Film, ...]:
    """Films of about ``per_second`` studies a second; the same seed draws the same, under UIDs of its own each time."""
    chance = random.Random(f"stream {seed}")
    films: list[Film] = []
    for _ in range(max(3, int(seconds * per_second))):
        films += _study(chance, chance.uniform(0, seconds * 0.9), folder)
    return tuple(sorted(films, key=lambda film: film.at_s))


def _study(chance: random.Random, at: float, folder: Path) -> list[Film]:
    uid, count = generate_uid(), chance.choice([1, 1, 2, 3])
    times = [at + 0.1 * index for index in range(count)]
    if chance.random() < 0.3:
        times.append(at + LATE_S)
    priority = "STAT" if chance.random() < 0.2 else "ROUTINE"
    made = [_film(folder, chance.randrange(10_000), uid, priority, index + 1, when) for index, when in enumerate(times)]
    if chance.random() < 0.2:
        again = chance.choice(made)
        made.append(Film(again.at_s + chance.uniform(0.5, 4), uid, again.sop_uid, again.path))
    return made


def _film(folder: Path, seed: int, uid: str, priority: str, number: int, at: float) -> Film:
    drawn = phantom_dx(
        seed, [], size=96, patient_id=f"PHANTOM-{uid[-12:]}", study_uid=uid, priority=priority, instance_number=number
    )
    return Film(round(at, 2), uid, str(drawn.SOPInstanceUID), write(drawn, folder))


class Sender:
    """Sends each film when its time has come, over and over until it is acknowledged. ``ports``: the node's, in turn."""

    def __init__(self, ports: Sequence[int], stop: threading.Event) -> None:
        self.told = Told()
        self._ports, self._stop = tuple(ports), stop
        self._lock = threading.Lock()

    def run(self, films: Sequence[Film], lanes: int = 3) -> None:
        """Return when all are acknowledged, or when told to stop."""
        started, waiting = time.monotonic(), list(films)
        threads = [threading.Thread(target=self._lane, args=(waiting, started, n), name=f"send-{n}") for n in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _lane(self, waiting: list[Film], started: float, lane: int) -> None:
        turn = lane
        while not self._stop.is_set():
            with self._lock:
                due = [film for film in waiting if film.at_s <= time.monotonic() - started][:4]
                for film in due:
                    waiting.remove(film)
                if not waiting and not due:
                    return
            if not due:
                self._stop.wait(0.05)
                continue
            turn += 1
            left = self._send(due, self._ports[turn % len(self._ports)])
            with self._lock:
                waiting.extend(left)
            if left:
                self._stop.wait(_AGAIN_S)

    def _send(self, films: Sequence[Film], port: int) -> list[Film]:
        """Those that were not acknowledged."""
        files = {str(film.path): film for film in films}
        command = [
            require("storescu", "dcmtk"),
            "-v",
            "-R",
            "-aet",
            SENDER,
            "-aec",
            "WETREAD",
            "-to",
            "5",
            "-ta",
            "8",
            "-td",
            "8",
        ]
        done = subprocess.run(
            [*command, "127.0.0.1", str(port), *files], capture_output=True, text=True, check=False, timeout=120
        )
        good = [files[path] for path in answered(done.stdout + done.stderr) if path in files]
        with self._lock:
            for film in good:
                self.told.acknowledged.setdefault(film.study_uid, set()).add(film.sop_uid)
                self.told.note(film.study_uid, f"…{film.sop_uid[-8:]} acknowledged")
        return [film for film in files.values() if film not in good]


def answered(output: str) -> list[str]:
    """Files that storescu says were answered with success."""
    found, current = [], ""
    for match in _ANSWER.finditer(output):
        if match[1]:
            current = match[1]
        elif current:
            found.append(current)
            current = ""
    return found
