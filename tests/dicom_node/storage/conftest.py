"""Each test of the storage runs on SQLite and, where its programs are installed, on a real PostgreSQL server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dicom_node.storage.database import Database
from dicom_node.storage.tables import metadata

if TYPE_CHECKING:
    from tests.acceptance.harness.postgres import Postgres

_EMPTIED = "emptied"  # one database for all tests, emptied before each: far quicker than a new one


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this session's own."""
    from tests.acceptance.harness.postgres import running

    with running() as server:
        server.run(f"CREATE DATABASE {_EMPTIED} TEMPLATE template0")
        Database.open(server.database(_EMPTIED).url).close()
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the address of an empty database at each call; what an earlier call gave may be gone then."""
    if request.param == "sqlite":
        numbers = itertools.count()
        return lambda: f"sqlite:///{tmp_path / f'node{next(numbers)}.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return lambda: _emptied(server)


@pytest.fixture
def db_url(new_url: Callable[[], str]) -> str:
    """An empty database's address."""
    return new_url()


@pytest.fixture
def db(db_url: str) -> Iterator[Database]:
    database = Database.open(db_url)
    yield database
    database.close()


def _emptied(server: Postgres) -> str:
    names = ", ".join(metadata.tables)
    server.cut_sessions(_EMPTIED)
    server.run(f"TRUNCATE {names} RESTART IDENTITY CASCADE", _EMPTIED)
    return server.database(_EMPTIED).url
