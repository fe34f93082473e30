"""`wetread listen` with several receiving processes: DCMTK sends, one process is killed, the port stays, SIGTERM ends all."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import yaml

from dicom_node.storage.database import Database
from dicom_node.storage.instances import instances_of

from .harness import dcmtk, films
from .harness.node import environment
from .harness.peers import SENDER
from .harness.processes import Running, free_port, wait_for


def test_one_receiving_process_may_die(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "node.yaml"
    listener = {"port": port, "allowed": [{"ae_title": SENDER, "hosts": ["127.0.0.1"]}], "watermark_mb": 0, "processes": 2}
    config.write_text(yaml.safe_dump({"data": "data", "listener": listener, "log": {"form": "json"}}), "utf-8")
    command = [sys.executable, "-m", "dicom_node.cli", "listen", "--config", str(config)]
    node = Running("the node", command, tmp_path / "node.log", environment())
    (first, one), (second, two) = (films.film(tmp_path, seed, [], number=1) for seed in (1, 2))

    def receiving() -> list[int]:
        return [pid for pid, line in node.session().items() if "dicom_node.ingest.receiving" in line]

    try:
        wait_for("the node to listen", lambda: '"listening"' in node.output, seconds=120)
        before = wait_for("both processes", lambda: receiving() if len(receiving()) == 2 else None, seconds=60)
        assert dcmtk.accepted(dcmtk.dcmsend(port, [one])) == 1
        os.kill(before[0], signal.SIGKILL)
        assert dcmtk.accepted(dcmtk.dcmsend(port, [two])) == 1
        wait_for("another process", lambda: len(receiving()) == 2 and before[0] not in receiving(), seconds=60)
        assert node.stop() == 0
        assert node.session() == {}
    finally:
        node.kill_session()
    database = Database.open(tmp_path / "data" / "wetread.sqlite")
    with database.read() as conn:
        assert [len(instances_of(conn, uid)) for uid in (first, second)] == [1, 1]
        counted = conn.exec_driver_sql("SELECT sum(value) FROM measures WHERE name LIKE '%instances%'").scalar()
    database.close()
    assert 1 <= counted <= 2  # what the killed one had not yet told is gone, nothing else
