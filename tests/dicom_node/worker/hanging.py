"""A worker as a process of its own whose model hangs: `python -m tests.dicom_node.worker.hanging FOLDER LIMIT_S`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.owner import current_owner
from dicom_node.worker.worker import Worker
from inference.stages import Study, Triaged
from tests.dicom_node.worker.site import DraftingReader, Site


class Hanging(DraftingReader):
    def triage(self, _: Sequence[Study]) -> list[Triaged]:
        threading.Event().wait()
        return []


def main(folder: Path, limit_s: float) -> None:
    site = Site(Database.open(folder / "node.sqlite"), FileStore(folder))
    own = site.worker(Hanging(), owner=current_owner("work"), step_seconds=limit_s, watched=True)
    assert isinstance(own, Worker)
    own.run(threading.Event())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
