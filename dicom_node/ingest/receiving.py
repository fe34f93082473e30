"""A receiving process: takes the connections that its parent has accepted, and serves them as a listener does.

``python -m dicom_node.ingest.receiving CHANNEL COUNTS`` (descriptors). It ends with its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Final, NoReturn

from dicom_node.ingest import channel
from dicom_node.ingest.counts import SharedCounts
from dicom_node.ingest.listener import Listener

BEAT_S: Final = 1.0


def main(parent: socket.socket, counts_descriptor: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends us when it is done with us
        signal.signal(number, signal.SIG_IGN)
    task = channel.assigned(parent)
    counts = SharedCounts(counts_descriptor, task.slot)
    threading.Thread(target=_beat, args=(counts,), name="beat", daemon=True).start()
    with task.opener() as stores:
        turn = counts.turn if task.serial_commits else None
        listener = Listener(task.settings, stores.db, stores.files, services=task.services, counts=counts, turn=turn)
        gate = Gate(parent, counts)
        listener.start(gate)
        parent.send(channel.READY)
        gate.told_to_stop.wait()
        listener.stop(gate.grace_s)


def _beat(counts: SharedCounts) -> None:
    while True:
        counts.beat()
        time.sleep(BEAT_S)


@dataclass
class Gate:
    """Where connections come from: a ``server.Entrance``."""

    parent: socket.socket
    counts: SharedCounts
    told_to_stop: threading.Event = field(default_factory=threading.Event)
    grace_s: float = 0.0

    def fileno(self) -> int:
        return self.parent.fileno()

    def accept(self) -> tuple[socket.socket, str]:
        message = channel.receive(self.parent)
        if message is None:
            _end()
        if message.kind == channel.STOP:
            self.grace_s = float(message.text)
            self.told_to_stop.set()
        if message.connection is None:
            raise BlockingIOError
        self.counts.took()
        return message.connection, message.text

    def over(self) -> None:
        self.counts.ended()

    def close(self) -> None:
        """The parent sees our end."""


def _end() -> NoReturn:
    """The parent is gone: an orphan must not go on receiving beside the restarted node."""
    os._exit(1)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # everything is closed: to take the interpreter down costs seconds of the node's grace on a busy machine
