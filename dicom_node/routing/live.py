"""Routes that follow their file: a change takes effect without a restart, a mistake leaves the last good routes in force."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from dicom_node.errors import SettingsError
from dicom_node.routing.files import Names, Routes, load_routes

LOOK_S = 2.0  # how often the file's time and size are looked at
_log = structlog.get_logger()

Tell = Callable[[str], None]


class LiveRoutes:
    """``file`` None: ``routes`` never change. ``tell`` hears of each mistake, once for each state of the file."""

    def __init__(self, routes: Routes, file: Path | None, names: Names, tell: Tell = lambda _: None) -> None:
        self._routes, self._file, self._names, self._tell = routes, file, names, tell
        self._seen = self._state()
        self._looked_at = time.monotonic()

    def current(self) -> Routes:
        """The routes in force. Raises nothing."""
        if self._file is not None and time.monotonic() - self._looked_at >= LOOK_S:
            self._look()
        return self._routes

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        state = self._state()
        if state == self._seen or self._file is None:
            return
        self._seen = state
        try:
            self._routes = load_routes(self._file, self._names)
        except SettingsError as error:
            _log.error("the changed routes cannot be used; the last good ones stay in force", error=str(error))
            self._tell(f"The changed routes cannot be used; the last good ones stay in force. {error}")
        else:
            _log.info("routes read anew", count=len(self._routes.routes))

    def _state(self) -> tuple[int, int, int] | None:
        """What changes when the file does; None while it is away."""
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)
