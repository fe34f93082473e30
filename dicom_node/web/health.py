"""`/livez`, `/healthz`, `/readyz`: for whoever restarts processes or sends traffic. No login; only names of parts are told."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any, Final

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from dicom_node.errors import NodeError, describe
from dicom_node.storage.nodes import list_nodes
from dicom_node.storage.owner import host_name
from dicom_node.storage.readiness import at_head
from dicom_node.views.status import NEEDED, Process, disk_of, processes_of
from dicom_node.web.parts import Parts

LONGEST_S: Final = 3.0  # for all parts together: whoever asks waits no longer
_KEPT_S: Final = 1.0  # the same answer to all who ask within
READY: Final = "ready"  # what a process says of itself when it can do its work
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One part. ``reason``: a plain sentence part without addresses, paths or names of machines."""

    part: str
    ok: bool
    reason: str


Check = Callable[[], Verdict]


def router(parts: Parts) -> APIRouter:
    routes, answers = APIRouter(), {"/healthz": _Kept(parts, _health_checks), "/readyz": _Kept(parts, _ready_checks)}

    @routes.get("/livez")
    async def livez() -> JSONResponse:
        return JSONResponse({"ok": True, "parts": {"web": {"ok": True, "reason": "answers"}}})

    @routes.get("/healthz")
    def healthz() -> JSONResponse:
        return _answer(answers["/healthz"].verdicts())

    @routes.get("/readyz")
    def readyz() -> JSONResponse:
        return _answer(answers["/readyz"].verdicts())

    return routes


def _answer(verdicts: Iterable[Verdict]) -> JSONResponse:
    told = {one.part: {"ok": one.ok, "reason": one.reason} for one in verdicts}
    good = all(one["ok"] for one in told.values())
    return JSONResponse({"ok": good, "parts": told}, 200 if good else 503)


class _Kept:
    """Checks at most once a second, whoever asks; all at once, none for longer than ``LONGEST_S``."""

    def __init__(self, parts: Parts, checks: Callable[[Parts], dict[str, Check]]) -> None:
        self._checks = checks(parts)
        self._pool = ThreadPoolExecutor(max_workers=2 * len(self._checks), thread_name_prefix="health")
        self._lock = threading.Lock()
        self._pending: dict[str, Future[Verdict]] = {}
        self._verdicts: tuple[Verdict, ...] = ()
        self._until = 0.0

    def verdicts(self) -> tuple[Verdict, ...]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._verdicts = tuple(self._run())
                self._until = time.monotonic() + _KEPT_S
            return self._verdicts

    def _run(self) -> Iterable[Verdict]:
        for name, check in self._checks.items():
            if name not in self._pending:  # one that hangs is waited for, not asked again and again
                self._pending[name] = self._pool.submit(_guarded, name, check)
        end = time.monotonic() + LONGEST_S
        for name in self._checks:
            try:
                yield self._pending[name].result(timeout=max(end - time.monotonic(), 0.0))
                del self._pending[name]
            except TooLate:
                yield Verdict(name, False, f"no answer within {LONGEST_S:g} s")


def _guarded(name: str, check: Check) -> Verdict:
    try:
        return check()
    except NodeError as error:
        return Verdict(name, False, f"failed ({type(error).__name__})")
    except OSError as error:
        return Verdict(name, False, f"failed ({error.strerror or type(error).__name__})")
    except Exception as error:  # noqa: BLE001  whatever one check does, whoever asks gets an answer, and the next one is made
        _log.error("a health check failed", kind=name, error=describe(error))
        return Verdict(name, False, f"failed ({type(error).__name__})")


def _health_checks(parts: Parts) -> dict[str, Check]:
    """This process and the others of the node live."""
    checks: dict[str, Check] = {"web": lambda: Verdict("web", True, "answers")}
    for role in NEEDED:
        checks[role] = lambda role=role: _lives(parts, role)  # type: ignore[misc]
    return checks


def _ready_checks(parts: Parts) -> dict[str, Check]:
    """Studies can come in, be read and go out."""
    return {
        "database": lambda: _database(parts),
        "files": lambda: _files(parts),
        "listener": lambda: _listener(parts),
        "worker": lambda: _worker(parts),
        "deliverer": lambda: _renamed(_lives(parts, "deliver"), "deliverer"),
    }


def _processes(parts: Parts) -> tuple[Process, ...]:
    with parts.db.read() as conn:
        return processes_of(list_nodes(conn), parts.db.now())


def _lives(parts: Parts, role: str) -> Verdict:
    number = sum(one.alive for one in _processes(parts) if one.role == role)
    return Verdict(role, number > 0, f"{number} alive" if number else "no living process")


def _renamed(verdict: Verdict, part: str) -> Verdict:
    return Verdict(part, verdict.ok, verdict.reason)


def _database(parts: Parts) -> Verdict:
    with parts.db.read() as conn:
        current = at_head(conn)
    return Verdict("database", current, "answers" if current else "is of another version of the node")


def _files(parts: Parts) -> Verdict:
    settings = parts.settings
    disk = disk_of(settings.data_folder, settings.listener.watermark_mb)
    if disk.full:
        return Verdict("files", False, "less room than the watermark: images are refused")
    with tempfile.TemporaryFile(dir=settings.data_folder) as probe:
        probe.write(b"x")
        probe.flush()
    return Verdict("files", True, "can be written")


def _listener(parts: Parts) -> Verdict:
    """Where it runs on this machine it must take a connection; elsewhere its word is taken."""
    alive = [one for one in _processes(parts) if one.role == "listen" and one.alive]
    if not alive:
        return Verdict("listener", False, "no living process")
    if host_name() not in {one.host for one in alive}:
        return Verdict("listener", True, f"{len(alive)} alive, on other machines")
    wished: Any = parts.settings.listener
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(wished.host, wished.host)
    try:
        socket.create_connection((host, wished.port), timeout=LONGEST_S / 2).close()
    except OSError as error:
        return Verdict("listener", False, f"takes no connection ({os.strerror(error.errno) if error.errno else 'no answer'})")
    return Verdict("listener", True, "takes connections")


def _worker(parts: Parts) -> Verdict:
    alive = [one for one in _processes(parts) if one.role == "work" and one.alive]
    ready = [one for one in alive if one.state == READY]
    if ready:
        return Verdict("worker", True, f"{len(ready)} with models loaded")
    return Verdict("worker", False, "its models are not loaded yet" if alive else "no living process")
