"""The cable is cut in the middle of an object: the node frees what the sender held, and nothing acknowledged is lost.

Needs root, for a network namespace; skips elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import yaml

from dicom_node.storage.database import Database
from dicom_node.storage.events import list_events
from dicom_node.storage.instances import find_instance
from tests.dicom_node.ingest.wire import data_set

from .harness.cable import cable
from .harness.node import environment
from .harness.processes import ROOT, Running, free_port, wait_for

IDLE_S = 2.0
SENDER = """
import sys, time
from tests.dicom_node.ingest.wire import Peer, data_set, store
import socket
real = socket.create_connection
socket.create_connection = lambda address, timeout: real((sys.argv[1], address[1]), timeout)
peer = Peer.associated(int(sys.argv[2]))
for uid in sys.argv[3].split(","):
    sent = store(uid, data_set(uid, pixels=bytes(4_000_000)))
    if uid == sys.argv[4]:
        peer.send(sent[: len(sent) // 2])
        print("half", flush=True)
        time.sleep(600)
    peer.send(sent)
    print(uid, peer.status(), flush=True)
peer.release()
"""


def _sender(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment())


def test_a_cut_cable_costs_only_what_was_not_acknowledged(tmp_path: Path) -> None:
    with cable() as line:
        port = free_port()
        config = tmp_path / "node.yaml"
        allowed = [{"ae_title": "SENDER", "hosts": [f"{line.there}"]}]
        listener = {"host": line.here, "port": port, "allowed": allowed, "watermark_mb": 0, "idle_timeout_s": IDLE_S}
        config.write_text(yaml.safe_dump({"data": "data", "listener": listener, "log": {"form": "json"}}), "utf-8")
        command = [sys.executable, "-m", "dicom_node.cli", "listen", "--config", str(config)]
        node = Running("the node", command, tmp_path / "node.log", environment())
        senders: list[subprocess.Popen[str]] = []

        def far(uids: str, half: str = "none") -> subprocess.Popen[str]:
            senders.append(_sender(line.far([sys.executable, "-c", SENDER, line.here, str(port), uids, half])))
            return senders[-1]

        try:
            wait_for("the node to listen", lambda: '"listening"' in node.output, seconds=90)
            first = far("1.2.1,1.2.2", half="1.2.2")
            assert first.stdout is not None
            assert [first.stdout.readline().strip() for _ in range(2)] == ["1.2.1 0", "half"]
            spool = tmp_path / "data" / "spool"
            wait_for("the half object to come", lambda: any(spool.iterdir()))
            line.cut()
            cut_at = time.monotonic()
            wait_for("the node to give the sender up", lambda: not any(spool.iterdir()), seconds=30, every=0.05)
            assert time.monotonic() - cut_at < IDLE_S + 10
            line.mend()
            again = far("1.2.1,1.2.2,1.2.3")
            told, _ = again.communicate(timeout=90)
            assert told.split() == ["1.2.1", "0", "1.2.2", "0", "1.2.3", "0"]
            assert node.stop() == 0
        finally:
            for sender in senders:
                sender.kill()
                sender.communicate()
            node.kill_session()
    _compare(tmp_path / "data")


def _compare(data: Path) -> None:
    database = Database.open(data / "wetread.sqlite")
    with database.read() as conn:
        for uid in ("1.2.1", "1.2.2", "1.2.3"):
            (row,) = find_instance(conn, uid)
            assert (data / row.path).read_bytes()[-row.size :] == data_set(uid, pixels=bytes(4_000_000))
        texts = [event.text for event in list_events(conn)]
    database.close()
    assert len(list(data.glob("instances/**/*.dcm"))) == 3
    assert sum("Aborted" in text or "in the middle of an object" in text for text in texts) == 1, texts
