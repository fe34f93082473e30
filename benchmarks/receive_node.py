"""The node's listener for ``receive.py``: ``receive_node.py PORT FOLDER full|off PROCESSES``; it makes FOLDER/ready."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [str(ROOT), str(ROOT / "benchmarks")]
sys.path[:0] = FOLDERS

from dicom_node.ingest.listener import Listener, ListenerSettings  # noqa: E402
from dicom_node.ingest.policy import AllowedPeer  # noqa: E402
from dicom_node.ingest.processes import Listeners  # noqa: E402
from dicom_node.storage.database import Database  # noqa: E402
from dicom_node.storage.files import FileStore  # noqa: E402


@dataclass(frozen=True)
class Stores:
    db: Database
    files: FileStore


@contextmanager
def open_stores(root: str) -> Iterator[Stores]:
    stores = Stores(Database.open(root + "/node.sqlite"), FileStore(root))
    gc.freeze()
    try:
        yield stores
    finally:
        stores.db.close()


def main(port: int, root: str, durability: str, processes: int) -> None:
    peers = (AllowedPeer("*", ("127.0.0.1",)),)
    many = {"max_associations": 200, "processes": processes}
    settings = ListenerSettings("PEER", port=port, allowed=peers, watermark_bytes=0, durable=durability == "full", **many)
    with open_stores(root) as stores:
        if processes == 1:
            Listener(settings, stores.db, stores.files).start()
        else:
            os.environ["PYTHONPATH"] = os.pathsep.join(FOLDERS)
            listeners = Listeners(settings, partial(open_stores, root))
            listeners.start()
            while len(listeners.running()) < processes:
                time.sleep(0.05)
        Path(root, "ready").touch()
        time.sleep(3600)


if __name__ == "__main__":
    import receive_node  # by its own name, under which a receiving process finds ``open_stores`` too

    receive_node.main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
