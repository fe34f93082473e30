"""kill -9 of the listener at random instants while DCMTK sends over several associations.

The node's own code listens in a process that is forked off a loaded one, so that a start costs milliseconds and hundreds of
deaths fit into a minute. What storescu reports as answered with success is written down outside the node, and compared.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import find_instance
from tests.dicom_node.ingest.wire import CT, EXPLICIT, data_set

from .peers import SENDER
from .processes import ROOT, free_port, require

SENDERS = 3
_LONGEST_RUN_S = 0.25
_BLIND = 0.1  # share of the kills that come at any moment, be something under way or not
_ANSWER = re.compile(r"Sending file: (\S+)|Received Store Response \(Success\)")

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from dicom_node import app
from dicom_node.app import listening
from dicom_node.ingest.configured import listener_settings
from dicom_node.ingest.listener import Listener
from dicom_node.settings import load_settings
import dicom_node.storage.migrate
settings, parent = load_settings(Path(sys.argv[1])), os.getpid()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the node's log goes elsewhere than the numbers of its processes
for _ in sys.stdin:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        db, files = app.open_database(settings), app.open_files(settings)
        listening.clear_after_crash(db, files)
        listener = Listener(listener_settings(settings), db, files)
        listener.start()
        os.write(theirs, b"x")
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    print(child, file=told, flush=True)
"""


@dataclass
class Outcome:
    """What happened. ``acknowledged``: SOP Instance UIDs that a sender was told are stored."""

    seed: int
    kills: int = 0
    in_flight: int = 0  # kills between an object's first byte and its answer
    acknowledged: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@dataclass
class Sent:
    """An object on its way: its file, and the data set in it."""

    uid: str
    path: Path
    content: bytes


class Killing:
    """One node, killed again and again. ``folder`` should be on a disk: that is where durability is."""

    def __init__(self, folder: Path, seed: int, objects: int) -> None:
        self.outcome = Outcome(seed)
        self._chance = random.Random(seed)
        self._folder = folder
        self._port = free_port()
        self._waiting = self._make_objects(objects)
        self._all = {str(one.path): one for one in self._waiting}
        config = folder / "node.yaml"
        listener = {"port": self._port, "allowed": [{"ae_title": SENDER, "hosts": ["127.0.0.1"]}], "watermark_mb": 0}
        config.write_text(yaml.safe_dump({"data": "data", "listener": listener}), "utf-8")
        with (folder / "node.log").open("wb") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )

    def run(self, kills: int) -> Outcome:
        """Kill ``kills`` times, then send what is left, and compare."""
        try:
            for _ in range(kills):
                self._one_death()
            self._send_the_rest()
        finally:
            self._nursery.kill()
            self._nursery.communicate()
        self._compare()
        return self.outcome

    def _make_objects(self, count: int) -> list[Sent]:
        folder = self._folder / "sent"
        folder.mkdir()
        made = []
        for number in range(count):
            uid, study = f"1.2.826.0.1.{number + 1}", f"1.2.827.{number % 20 + 1}"
            pixels = number.to_bytes(4, "big") * self._chance.choice([10, 3000, 30_000, 200_000])
            content = data_set(uid, study, pixels)
            path = folder / f"{number}.dcm"
            path.write_bytes(_file_head(uid) + content)
            made.append(Sent(uid, path, content))
        return made

    def _birth(self) -> int:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        print(file=self._nursery.stdin, flush=True)
        return int(self._nursery.stdout.readline())

    def _one_death(self) -> None:
        child = self._birth()
        senders = [self._send(self._waiting[at::SENDERS][:12]) for at in range(SENDERS)]
        if self._chance.random() > _BLIND:
            self._wait_for_the_first_bytes()
        time.sleep(self._chance.uniform(0.0, _LONGEST_RUN_S))
        os.kill(child, signal.SIGKILL)
        self.outcome.kills += 1
        self.outcome.in_flight += self._note(senders)

    def _wait_for_the_first_bytes(self) -> None:
        """On a busy machine senders take longer to start than a node is given to live."""
        spool, end = self._folder / "data" / "spool", time.monotonic() + 5
        while time.monotonic() < end and not any(spool.iterdir()):
            time.sleep(0.002)

    def _send(self, objects: Sequence[Sent]) -> subprocess.Popen[str]:
        command = [require("storescu", "dcmtk"), "-v", "-R", "-xe", "-aet", SENDER, "-aec", "WETREAD", "-ta", "20", "-td", "20"]
        files = [str(one.path) for one in objects]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        return subprocess.Popen(
            [*command, "127.0.0.1", str(self._port), *files],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def _note(self, senders: list[subprocess.Popen[str]]) -> bool:
        """Write down what was acknowledged; whether an object was sent and not answered."""
        unanswered = False
        for sender in senders:
            told, _ = sender.communicate(timeout=60)
            current = ""
            for match in _ANSWER.finditer(told):
                if match[1]:
                    current = match[1]
                else:
                    self.outcome.acknowledged.add(self._all[current].uid)
                    current = ""
            unanswered |= bool(current)
        self._waiting = [one for one in self._waiting if one.uid not in self.outcome.acknowledged]
        return unanswered

    def _send_the_rest(self) -> None:
        child = self._birth()
        left = -1
        while self._waiting and left != len(self._waiting):
            left = len(self._waiting)
            self._note([self._send(self._waiting[at : min(left, 600) : SENDERS]) for at in range(SENDERS)])
        os.kill(child, signal.SIGKILL)
        self.outcome.faults += [f"{one.uid} could not be sent in peace" for one in self._waiting]

    def _compare(self) -> None:
        data = self._folder / "data"
        database, files = Database.open(data / "wetread.sqlite"), FileStore(data)
        known = set()
        for one in self._all.values():
            with database.read() as connection:
                rows = find_instance(connection, one.uid)
            known.update(row.path for row in rows)
            stored = [files.path(row.path).read_bytes()[-row.size :] for row in rows]
            if one.uid in self.outcome.acknowledged and stored != [one.content]:
                self.outcome.faults.append(f"{one.uid} was acknowledged and is there {len(rows)} times, or otherwise")
            if any(content != one.content for content in stored):
                self.outcome.faults.append(f"{one.uid} is there with other bytes")
        whole = {one.content for one in self._all.values()}
        for path in data.glob("instances/**/*.dcm"):
            if str(path.relative_to(data)) not in known and not any(path.read_bytes().endswith(c) for c in whole):
                self.outcome.faults.append(f"{path.name} is half an object, and no row knows it")
        files.clean_spool()
        self.outcome.faults += [f"{path.name} is left in the spool" for path in (data / "spool").iterdir()]
        database.close()


def _file_head(uid: str) -> bytes:
    from dicom_node.ingest.part10 import file_head

    return file_head(CT, uid, EXPLICIT, SENDER)
