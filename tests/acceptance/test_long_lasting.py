"""The listening process under what a year brings: a rush of associations, and hours of a load balancer's probes."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.dicom_node.ingest.wire import VERIFICATION, Peer, command, data_set, p_data, pdv, store

from .harness.node import environment
from .harness.processes import Running, free_port, wait_for

RUSH = 100
PROBES = 3000  # one every five seconds for four hours
GROWTH_KB = 4096  # of the process's memory, over all probes after the first


@dataclass(frozen=True, slots=True)
class Listening:
    """`wetread listen` and its port."""

    running: Running
    port: int

    def pids(self) -> list[int]:
        return sorted(self.running.session())

    def usage(self) -> tuple[int, int, int]:
        """Resident kB, threads and open descriptors of all its processes."""
        kb = threads = descriptors = 0
        for pid in self.pids():
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            kb += int(status["VmRSS"].split()[0])
            threads += int(status["Threads"])
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        return kb, threads, descriptors


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder, port = tmp_path_factory.mktemp("listening"), free_port()
    allowed = [{"ae_title": "SENDER", "hosts": ["127.0.0.1"]}]
    listener = {"port": port, "allowed": allowed, "max_associations": RUSH + 20, "watermark_mb": 16}
    config = folder / "node.yaml"
    config.write_text(yaml.safe_dump({"data": "data", "listener": listener, "study": {"quiet_seconds": 3600}}), "utf-8")
    command_line = [sys.executable, "-m", "dicom_node.cli", "listen", "--config", config]
    running = Running("the listener", command_line, folder / "listen.log", environment())

    def up() -> bool:
        running.must_live()
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", port))

    try:
        wait_for("the listener", up, seconds=90)
        yield Listening(running, port)
    finally:
        running.kill_session()


def test_a_hundred_associations_at_once_lose_nothing(listening: Listening) -> None:
    """All are open before the first object goes; then all send at once, and each is answered with success."""
    peers: list[Peer] = []
    lock, ready = threading.Lock(), threading.Barrier(RUSH, timeout=90)
    statuses: list[int] = []

    def sender(number: int) -> None:
        peer = Peer.associated(listening.port)
        ready.wait()
        for image in range(2):
            uid = f"1.2.826.0.1.99.{number + 1}.{image + 1}"
            peer.send(store(uid, data_set(uid, f"1.2.826.0.2.{number + 1}", bytes(range(256)) * 64)))
            status = peer.status()
            with lock:
                statuses.append(status)
        peer.release()
        peers.append(peer)

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(RUSH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert statuses == [0x0000] * (2 * RUSH)
    assert len(peers) == RUSH


def _probe(port: int, number: int) -> None:
    """What monitors do: connect and hang up, connect and reset, send a scrap, or say C-ECHO as they should."""
    if number % 10 == 0:
        peer = Peer.associated(port)
        peer.send(p_data(pdv(3, 3, command(0x0030, VERIFICATION, data=False))))
        assert peer.status() == 0x0000
        peer.release()
        return
    with socket.create_connection(("127.0.0.1", port), timeout=10) as probe:
        if number % 3 == 0:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 4 == 0:
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")


def test_hours_of_probes_leave_memory_threads_and_descriptors_as_they_were(listening: Listening) -> None:
    for number in range(PROBES // 5):
        _probe(listening.port, number)
    before = wait_for("the first probes to be over", lambda: _steady(listening), seconds=30)
    for number in range(PROBES):
        _probe(listening.port, number)

    def as_before() -> tuple[int, int, int] | None:
        now = listening.usage()
        return now if now[1] <= before[1] and now[2] <= before[2] else None

    after = wait_for("threads and descriptors to be as before", as_before, seconds=30)
    print(f"resident kB, threads, descriptors: before {before}, after {after}")
    assert after[0] - before[0] <= GROWTH_KB
    listening.running.must_live()


def _steady(listening: Listening) -> tuple[int, int, int] | None:
    first = listening.usage()
    threading.Event().wait(1.0)
    second = listening.usage()
    return second if first[1:] == second[1:] else None
