"""Logging with an allow-list of keys: what is not named here never reaches a log, so patient data cannot."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from dicom_node.errors import describe

_REPEAT_S: Final = 30.0
_REMEMBERED: Final = 1000  # different lines
ALLOWED_KEYS: Final = frozenset(
    {
        "event", "level", "timestamp", "ae_title", "attempts", "calling_ae", "command", "count", "destination", "device",
        "document", "duration_ms", "error", "file", "findings", "host", "job", "kind", "mode", "model", "not_before", "path",
        "pid", "port", "positive", "priority", "reading", "reason", "revision", "route", "seconds", "state", "status",
        "study_uid",
    }
)  # fmt: skip


def configure(level: str, form: str) -> None:
    """Send log lines to standard error: coloured text for a terminal, or one JSON object a line."""
    last: Any = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_allowed_keys,
            NoRepeats(),
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    for library in ("pydicom", "pynetdicom"):  # their messages may quote element values
        logging.getLogger(library).setLevel(logging.CRITICAL)
    for library in ("uvicorn", "asyncio"):
        logger = logging.getLogger(library)
        logger.handlers, logger.propagate = [_Retold(logging.WARNING)], False


class _Retold(logging.Handler):
    """A library's warnings as lines of ours: without the traceback and the words of the exception, which may quote a header."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = {} if error is None else {"error": describe(error)}
        said = record.getMessage().partition("\n")[0]
        structlog.get_logger().log(record.levelno, f"{record.name.partition('.')[0]}: {said}", **told)


class NoRepeats:
    """Of the same warning or error, word for word, one line in half a minute: an outage must not fill the disk.

    The next line that is written says in ``count`` how many were left out, where it counts nothing itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._said: dict[tuple[tuple[str, str], ...], tuple[float, int]] = {}

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if entry.get("level") not in ("warning", "error"):
            return entry
        key = tuple(sorted((name, str(value)) for name, value in entry.items() if name != "timestamp"))
        with self._lock:
            now = self._clock()
            at, left_out = self._said.get(key, (now - _REPEAT_S, 0))
            if now - at < _REPEAT_S:
                self._said[key] = (at, left_out + 1)
                raise structlog.DropEvent
            if len(self._said) >= _REMEMBERED:
                self._said.clear()
            self._said[key] = (now, 0)
        return {"count": left_out, **entry} if left_out else entry


def only_allowed_keys(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every key that is not on the list, and say that something was dropped."""
    dropped = [key for key in entry if key not in ALLOWED_KEYS]
    kept = {key: value for key, value in entry.items() if key in ALLOWED_KEYS}
    return {**kept, "reason": f"{len(dropped)} keys withheld"} if dropped else kept
