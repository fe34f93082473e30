from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from tests.dicom_node.worker.one_study import Node, one_study
from tests.dicom_node.worker.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Database.open(tmp_path / "node.sqlite", synchronous="OFF")) as db:
        yield Site(db, FileStore(tmp_path))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with one_study(tmp_path) as node:
        yield node
