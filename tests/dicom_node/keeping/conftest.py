"""A store on SQLite and, where its programs are installed, on a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.storage.database import Database
from tests.dicom_node.keeping.store import Store, open_store
from tests.dicom_node.storage.conftest import new_url as new_url
from tests.dicom_node.storage.conftest import postgres as postgres


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, to be copied: quicker than a migration for each test."""
    path = tmp_path_factory.mktemp("empty") / "node.sqlite"
    Database.open(path).close()
    return path


@pytest.fixture
def store(tmp_path: Path, new_url: Callable[[], str], empty_database: Path) -> Iterator[Store]:
    url = new_url()
    if url.startswith("sqlite:///"):
        shutil.copy(empty_database, url.removeprefix("sqlite:///"))
    made = open_store(tmp_path, url)
    yield made
    made.db.close()
