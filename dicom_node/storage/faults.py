"""What a database's errors mean for the node: ``StorageBusy`` where another try may help, ``StorageError`` where none does."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from sqlalchemy import exc as sa_exc

from dicom_node.errors import StorageBusy, StorageError

_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSING: Final = (
    "08",
    "40",
    "53",
    "55",
    "57",
    "58",
)  # PostgreSQL's classes of what may pass: connection, rollback, resources, …
_CUT_WHILE_IDLE: Final = {"25P03", "25P04"}  # the server ended a transaction of ours that stood still
_NO_ROOM: Final = "53100"
# How libpq's words for a refused connection begin (it gives no SQLSTATE then), and what the operator is to do
_REFUSALS: Final = (
    ("password authentication failed", "the user or the password is wrong; see `database` and `database_password_file`"),
    ("no password supplied", "it wants a password; name its file in `database_password_file`"),
    ("does not exist", "there is no such database or user; create it, or correct `database`"),
    ("no pg_hba.conf entry", "it does not let this machine in; add it to the server's pg_hba.conf"),
    ("permission denied", "the user may not connect to this database; GRANT CONNECT"),
    ("certificate verify failed", "its certificate is not signed by whom you trust; see `sslrootcert` in `database`"),
    ("server does not support SSL", "it takes no TLS, which `sslmode` in `database` wants"),
    ("Name or service not known", "its host has no address; correct `database`"),
    ("unrecognized configuration parameter", "it does not know a setting in `options` of `database`"),
    ("invalid", "its address has a part that is no connection parameter; correct `database`"),
)


def translate(error: sa_exc.SQLAlchemyError, name: str) -> StorageError:
    """``name``: the database's address without a password. Nothing of a statement or its values gets into the message."""
    original: Any = getattr(error, "orig", None)
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
    if code:
        return _of_sqlite(error, code, name)
    if isinstance(error, sa_exc.TimeoutError):
        return StorageBusy(f"The database {name} stayed locked by another process")
    if isinstance(error, sa_exc.IntegrityError):
        return _doubled(name)
    return _of_server(error, original, name)


def refused(error: sa_exc.SQLAlchemyError) -> str | None:
    """Why a server takes no connection from us, with what to do; None where it may only be away."""
    text = str(getattr(error, "orig", "")) if isinstance(error, sa_exc.OperationalError | sa_exc.ProgrammingError) else ""
    return next((advice for begin, advice in _REFUSALS if begin.lower() in text.lower()), None)


def _of_sqlite(error: sa_exc.SQLAlchemyError, code: int, name: str) -> StorageError:
    if code in _DAMAGED:
        return StorageError(f"The database {name} is damaged or is not a database; restore it from a backup")
    if code == sqlite3.SQLITE_FULL:
        return StorageBusy(f"There is no room left on the disk of the database {name}")
    if code in _BUSY:
        return StorageBusy(f"The database {name} stayed locked by another process")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageError(f"The database {name} cannot be opened; check the path and its permissions")
    if code == sqlite3.SQLITE_READONLY:
        return StorageError(f"The database {name} cannot be written; check its permissions")
    if isinstance(error, sa_exc.IntegrityError):
        return _doubled(name)
    if code == sqlite3.SQLITE_IOERR:
        return StorageBusy(f"The disk of the database {name} reports an error")
    return StorageError(f"The database {name} refused a statement ({type(error).__name__})")


def _of_server(error: sa_exc.SQLAlchemyError, original: Any, name: str) -> StorageError:
    state = getattr(original, "sqlstate", None) or ""
    if state == _NO_ROOM:
        return StorageBusy(f"There is no room left on the disk of the database {name}")
    if state.startswith("08") or (not state and isinstance(error, sa_exc.OperationalError | sa_exc.InterfaceError)):
        return StorageBusy(f"The database {name} cannot be reached")
    if state.startswith(_PASSING) or state in _CUT_WHILE_IDLE or getattr(error, "connection_invalidated", False):
        return StorageBusy(
            f"The database {name} ended or refused the transaction for the moment ({state or 'connection lost'})"
        )
    if state == "42501":
        return StorageError(f"The database {name}: the user lacks a permission; GRANT ALL ON SCHEMA public to it")
    return StorageError(f"The database {name} refused a statement ({type(error).__name__}{f', {state}' if state else ''})")


def _doubled(name: str) -> StorageBusy:
    return StorageBusy(f"Two processes wrote the same row of the database {name} at once")
