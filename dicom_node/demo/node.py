"""The node of the demo: the real `wetread serve` and `wetread send`, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.demo.place import NODE_AE, SENDER_AE, Place
from dicom_node.errors import NodeError, RemoteError
from dicom_node.remote.dimse import DicomPeer, echo

START_LIMIT_S: Final = 120.0
STOP_LIMIT_S: Final = 25.0
SEND_LIMIT_S: Final = 60.0
TICK_S: Final = 0.1


class DemoError(NodeError):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A running node, which answers C-ECHO and whose models are loaded."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def peer(self) -> DicomPeer:
        return DicomPeer("127.0.0.1", self.port, NODE_AE, SENDER_AE, 10)

    def check(self) -> None:
        """Raises DemoError where the node has ended."""
        _check(self.process, self.log)


@contextmanager
def running_node(place: Place) -> Iterator[Node]:
    """Start the node, wait until it is ready, and stop it at the end whatever happens.

    Raises DemoError where it ends or is not ready in time.
    """
    with place.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.cli", "serve", "--config", str(place.settings)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )
    before = signal.signal(signal.SIGTERM, _leave)  # by itself SIGTERM would leave the node behind
    try:
        yield _ready(process, place.log)
    finally:
        _stop(process)
        signal.signal(signal.SIGTERM, before)


def send(node: Node, folder: Path) -> None:
    """C-STORE every file under ``folder`` from a process of its own. Raises DemoError where one is not accepted."""
    command = [sys.executable, "-m", "dicom_node.cli", "send", str(folder), "--to", str(node.peer), "--aet", SENDER_AE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SEND_LIMIT_S, env=_environment(), check=False)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"the films could not be sent within {SEND_LIMIT_S:g} s") from error
    if done.returncode:
        raise DemoError(f"the films were not accepted:\n{(done.stderr or done.stdout).strip()}")


def _leave(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _environment() -> dict[str, str]:
    """The demo's own settings stand, whatever the environment sets for a real node; only the device may be chosen."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WETREAD_") or name.startswith("WETREAD_ENGINE")
    }


def _ready(process: subprocess.Popen[bytes], log: Path) -> Node:
    """Listening, answering, and with its models loaded: else the first latency would be the models' start-up."""
    deadline = time.monotonic() + START_LIMIT_S
    port = int(_wait_for(process, log, "listening", deadline)["port"])
    node = Node(process, log, port)
    try:
        echo(node.peer)
    except RemoteError as error:
        raise DemoError(f"the node listens but does not answer C-ECHO: {error}") from error
    _wait_for(process, log, "working", deadline)
    return node


def _wait_for(process: subprocess.Popen[bytes], log: Path, event: str, deadline: float) -> dict[str, Any]:
    """The first line of the log that tells of ``event``."""
    while time.monotonic() < deadline:
        for line in log_lines(log):
            if line.get("event") == event:
                return line
            if line.get("command") == "work" and line.get("status"):
                raise DemoError(f"the node's reading process cannot start; its log is {log}:\n{tail(log)}")
        _check(process, log)
        time.sleep(TICK_S)
    raise DemoError(f"the node was not {event} within {START_LIMIT_S:g} s; its log is {log}:\n{tail(log)}")


def log_lines(log: Path) -> Iterator[dict[str, Any]]:
    """The log's lines that are whole JSON objects."""
    for text in log.read_text("utf-8", "replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def tail(log: Path, lines: int = 6) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])


def _check(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise DemoError(f"the node ended with status {process.returncode}; its log is {log}:\n{tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
