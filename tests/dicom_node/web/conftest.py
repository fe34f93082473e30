"""A stocked node, its pages, and somebody who is logged in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from dicom_node import app as node
from dicom_node.routing import default_routes
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.web.accounts import Accounts, AccountsFile, Role, User, new_key, new_user, write_accounts
from dicom_node.web.app import build
from dicom_node.web.parts import Parts

from .stocked import Stock, stock

PASSWORD = "correct horse battery"
Client = Callable[..., TestClient]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folders = {name: {"kind": "folder", "path": str(tmp_path / name)} for name in ("pacs", "his")}
    tree = {"data": "data", "destinations": folders, "web": {"users_file": "users.yaml"}, "listener": {"watermark_mb": 1}}
    (tmp_path / "node.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    return load_settings(tmp_path / "node.yaml")


@pytest.fixture(scope="session")
def people() -> dict[str, User]:
    """Hashing a password takes long, as it should."""
    return {"anna": new_user(Role.OPERATOR, PASSWORD), "vic": new_user(Role.VIEWER, PASSWORD)}


@pytest.fixture
def keys(settings: Settings, people: dict[str, User]) -> dict[Role, str]:
    """A users file: anna is an operator, vic a viewer; a key of each role."""
    made = {role: new_key(role) for role in Role}
    write_accounts(settings.path("users.yaml"), Accounts(people, {role.value: key for role, (_, key) in made.items()}))
    return {role: text for role, (text, _) in made.items()}


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows, made once: every test gets a copy."""
    file = tmp_path_factory.mktemp("empty") / "wetread.sqlite"
    Database.open(file, synchronous="OFF").close()
    return file


@pytest.fixture
def db(settings: Settings, empty: Path) -> Iterator[Database]:
    settings.data_folder.mkdir(mode=0o700)
    shutil.copyfile(empty, settings.data_folder / empty.name)
    with closing(Database.open(settings.data_folder / empty.name, synchronous="OFF")) as opened:
        yield opened


@pytest.fixture
def stocked(settings: Settings, db: Database) -> Stock:
    return stock(db, node.open_files(settings))


@pytest.fixture
def parts(settings: Settings, db: Database, keys: dict[Role, str]) -> Parts:
    """With a login."""
    assert keys
    return of(settings, db, AccountsFile(settings.path("users.yaml")))


def of(settings: Settings, db: Database, accounts: AccountsFile | None) -> Parts:
    from dicom_node.app.common import names_of

    names = names_of(settings)
    return Parts(settings, db, node.open_files(settings), lambda: default_routes(names), names, accounts)


@pytest.fixture
def browser(parts: Parts) -> TestClient:
    """Nobody is logged in yet."""
    return TestClient(build(parts), base_url="http://127.0.0.1:8080", follow_redirects=False)


@pytest.fixture
def open_browser(settings: Settings, db: Database) -> TestClient:
    """Of a node without a users file."""
    return TestClient(build(of(settings, db, None)), base_url="http://127.0.0.1:8080", follow_redirects=False)


def log_in(browser: TestClient, name: str = "anna", password: str = PASSWORD) -> None:
    answer = browser.post("/login", data={"name": name, "password": password})
    assert answer.status_code == 303, answer.text


def form_key(browser: TestClient, path: str = "/") -> str:
    """As a browser would send it with a form of the page."""
    found = re.search(r'name="form_key" value="([^"]+)"', browser.get(path).text)
    assert found is not None
    return found[1]
