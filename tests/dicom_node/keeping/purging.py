"""A process that purges a store, over and over, until it is killed: ``python -m … FOLDER NOW``."""

from __future__ import annotations

import sys
from pathlib import Path

from dicom_node.keeping.purge import Purger
from dicom_node.keeping.rules import cutoffs
from dicom_node.retention_settings import RetentionSettings
from tests.dicom_node.keeping.store import open_store


def purge(folder: Path, now: float) -> None:
    store = open_store(folder)
    settings = RetentionSettings(high=None, low=None, documents_days=30)
    Purger(store.db, store.files).by_age(cutoffs(settings, now), now)


if __name__ == "__main__":
    purge(Path(sys.argv[1]), float(sys.argv[2]))
