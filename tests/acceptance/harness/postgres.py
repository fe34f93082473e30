"""A real PostgreSQL server in a folder of its own, as a user that is not root: it refuses root."""

from __future__ import annotations

import getpass
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .processes import SYSTEM_PATH, Running, free_port, wait_for

_PACKAGE = "postgresql"
_ROLE = "wetread"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """One database of a server. ``url``: with its password; ``settings``: keys for node.yaml, without it."""

    url: str
    settings: dict[str, Any]


class Postgres:
    """The server. Crashed or stopped, it may be started again: what it committed stays. ``remove`` ends and deletes it."""

    def __init__(self) -> None:
        self._bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="wetread-pg-"))  # pytest's own folders are closed to other users
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self.password_file = self.folder / "password"
        self.password_file.write_text(self.password + "\n", "ascii")
        self.password_file.chmod(0o600)
        self.folder.chmod(0o711)
        self._as_user: list[str] = []
        self._running: Running | None = None
        self._make()

    def start(self) -> None:
        """Start, and wait until it takes connections; after a crash it recovers first."""
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder, "max_connections": 200,
            "fsync": "off",  # a crash of the server alone loses nothing that the operating system has
            "shared_buffers": "32MB", "log_min_messages": "warning", "max_worker_processes": 2, "autovacuum_naptime": 60,
        }  # fmt: skip
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [*self._as_user, self._bin / "postgres", "-D", self.folder / "data", *flags]
        self._running = Running("PostgreSQL", command, self.folder / "server.log", cwd=self.folder)
        wait_for("PostgreSQL to take connections", self._up, seconds=60, every=0.05)

    def stop(self) -> None:
        """An orderly, quick end: sessions are cut (SIGINT)."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """An end without a checkpoint (SIGQUIT): the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def pause(self) -> None:
        """Stop answering, with every connection open."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Whatever its state: it runs no more, and its folder is gone."""
        if self._running is not None:
            self.resume()
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, template: str = "template0") -> PostgresDatabase:
        """An empty database of its own, or a copy of ``template``, to which nobody may be connected then."""
        name = f"node{next(_numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.database(name)

    def database(self, name: str) -> PostgresDatabase:
        address = f"127.0.0.1:{self.port}/{name}"
        keys = {"database": f"postgresql://{_ROLE}@{address}", "database_password_file": str(self.password_file)}
        return PostgresDatabase(f"postgresql://{_ROLE}:{self.password}@{address}", keys)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement as the superuser; its rows, if it gives some."""
        with self._connect(database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def cut_sessions(self, database: str) -> None:
        """End every session of a database, as a restart of a firewall does."""
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{database}' AND pid<>pg_backend_pid()")

    def _make(self) -> None:
        for_initdb = self.folder / "initial-password"
        shutil.copyfile(self.password_file, for_initdb)
        self._as_user = _as_user(self.folder, for_initdb)
        made = subprocess.run(
            [*self._as_user, self._bin / "initdb", "-D", self.folder / "data", "-U", _ROLE, "-A", "scram-sha-256",
             f"--pwfile={for_initdb}", "-E", "UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    def _connect(self, database: str) -> Any:
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=_ROLE, password=self.password, dbname=database, autocommit=True,
            connect_timeout=5,
        )  # fmt: skip

    def _up(self) -> bool:
        import psycopg

        assert self._running is not None
        self._running.must_live()
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        if self._running is None:
            return
        if self._running.alive:
            os.kill(self._running.pid, number)
        self._running.process.wait(60)
        wait_for("PostgreSQL's processes to end", lambda: not self._sessions(), seconds=30)
        self._running = None

    def _sessions(self) -> list[int]:
        """The server and its children, each of which leads a session of its own."""
        assert self._running is not None
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != "Z" and self._running.pid in (int(entry.name), int(parent)):
                found.append(int(entry.name))
        return found

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._sessions() if self._running is not None else []:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(pid, number)


def binaries() -> Path:
    """Where initdb and postgres lie: on the PATH, or the newest of Debian's. Skips where there is none, fails in CI."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra `postgres`): tests on PostgreSQL skip")
    found = shutil.which("initdb", path=SYSTEM_PATH)
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    why = f"PostgreSQL is not installed (Debian package {_PACKAGE}); run tests/acceptance/install_peers.sh as root"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"in CI, but {why}")
    pytest.skip(why)


def _as_user(*owned: Path) -> list[str]:
    """What stands before a command so that it runs as a user who is not root; ``owned`` become that user's."""
    if os.geteuid() != 0:
        return []
    names = {one.pw_name for one in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in names), getpass.getuser())
    account = pwd.getpwnam(user)
    for path in owned:
        os.chown(path, account.pw_uid, account.pw_gid)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


@contextmanager
def running() -> Iterator[Postgres]:
    """A started server, removed at the end."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
