"""kill -9 of the listener in the middle of many stores: whatever was acknowledged is there, byte for byte."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE

from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import find_instance

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see gc.collect

PROGRAM = """
import sys, time
from dicom_node.ingest.listener import Listener, ListenerSettings
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
root = sys.argv[1]
settings = ListenerSettings(port=0, allowed=(AllowedPeer("*", ("127.0.0.1",)),), watermark_bytes=0)
listener = Listener(settings, Database.open(root + "/node.sqlite"), FileStore(root))
listener.start()
print(listener.port, flush=True)
time.sleep(600)
"""


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], int]]]:
    children: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], int]:
        child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        return child, int(child.stdout.readline())

    yield start
    for child in children:
        child.kill()
        child.communicate()
    gc.collect()


@pytest.mark.parametrize("acknowledged_before", [1, 25])
def test_nothing_acknowledged_is_lost(
    launch: Any, make: Callable[..., Dataset], encode: Callable[..., bytes], tmp_path: Path, acknowledged_before: int
) -> None:
    child, port = launch()
    acknowledged: dict[str, bytes] = {}
    enough = threading.Event()

    def send(sender: int) -> None:
        ae = AE(f"SENDER{sender}")
        ae.dimse_timeout = ae.network_timeout = 10
        ae.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", port, ae_title="WETREAD")
        with association.dul.socket.socket:  # which pynetdicom leaves open where the peer has died
            send_until_killed(association, sender)
            association.join(60)

    def send_until_killed(association: Any, sender: int) -> None:
        for number in range(500):
            ds = make(f"1.2.{sender}.{number}", f"1.{sender}", pixels=bytes([sender, number % 256]) * 20_000)
            try:
                status = association.send_c_store(ds)
            except (RuntimeError, ValueError):
                return
            if status.get("Status") != 0x0000:
                return
            acknowledged[ds.SOPInstanceUID] = encode(ds)
            if len(acknowledged) >= acknowledged_before:
                enough.set()

    senders = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(1, 4)]
    for thread in senders:
        thread.start()
    assert enough.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    for thread in senders:
        thread.join(60)

    db, files = Database.open(tmp_path / "node.sqlite"), FileStore(tmp_path)
    assert len(acknowledged) >= acknowledged_before
    for sop_uid, sent in acknowledged.items():
        with db.read() as conn:
            (row,) = find_instance(conn, sop_uid)
        assert files.path(row.path).read_bytes().endswith(sent)
        assert row.size == len(sent)
    files.clean_spool()
    assert list((tmp_path / "spool").iterdir()) == []
    db.close()
    _, port = launch()
