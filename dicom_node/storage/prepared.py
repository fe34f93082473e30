"""Statements for the path of every image, compiled once: SQLAlchemy's work for each execution costs more than SQLite's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Delete, Dialect, Insert, Select, Update

Statement = Insert | Update | Delete | Select[Any]


@lru_cache(maxsize=64)
def _compiled(statement: Statement, dialect: Dialect, names: tuple[str, ...]) -> tuple[str, tuple[str, ...] | None]:
    """The text, and the order of its parameters where they go by position."""
    compiled = statement.compile(dialect=dialect, column_keys=list(names), for_executemany=True)
    order = compiled.positiontup
    return str(compiled), tuple(order) if order is not None else None


def run(conn: Connection, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
    """Execute ``statement`` for each of ``rows``, whose keys are its parameters. No value is converted on its way."""
    text, order = _compiled(statement, conn.dialect, tuple(rows[0]))
    values: Any = list(rows) if order is None else [tuple(row[name] for name in order) for row in rows]
    return conn.exec_driver_sql(text, values if len(rows) > 1 else values[0])
