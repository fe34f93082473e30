"""`wetread drift`: streams and their signals, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from dicom_node import app
from dicom_node.drift import fold
from dicom_node.drift.stream import Stream
from dicom_node.errors import SettingsError
from dicom_node.settings import load_settings
from dicom_node.storage.drift import DriftSignal, StreamRow, drift_signals_of, streams
from dicom_node.terminal import console


def show(config: Path, scanner: str, reading: str, *, as_json: bool) -> int:
    """Print streams and signals. Returns 1 where one is in alarm. Raises SettingsError, StorageError."""
    settings = load_settings(config)
    with closing(app.open_database(settings)) as db:
        fold.fold(db, settings.drift, db.now())
        with db.read() as conn:
            rows, signals = _chosen(streams(conn), scanner, reading), drift_signals_of(conn)
    mine = [one for one in signals if any(_is_of(one, row) for row in rows)]
    if as_json:
        print(json.dumps([asdict(one) for one in mine], indent=2))
    else:
        _print(rows, mine, settings.drift.baseline_studies)
    return int(any(one.alarm for one in mine))


def set_baseline(config: Path, scanner: str, reading: str, *, everything: bool) -> int:
    """Returns 1 where a stream has too few studies. Raises SettingsError, StorageError."""
    settings = load_settings(config)
    with closing(app.open_database(settings)) as db:
        fold.fold(db, settings.drift, db.now())
        with db.read() as conn:
            rows = _named(streams(conn), scanner, reading, everything=everything)
        made = fold.set_baseline(db, tuple(row.id for row in rows), settings.drift, db.now())
    for row in rows:
        count = made.get(row.id, 0)
        told = f"baseline of its newest {count} studies" if count else f"too few studies; it needs {settings.drift.minimum}"
        console().print(f"{row.scanner}, {row.reading_name}: {told}", soft_wrap=True)
    return int(not all(made.get(row.id) for row in rows))


def reset(config: Path, scanner: str, reading: str, *, everything: bool) -> int:
    """Raises SettingsError, StorageError."""
    settings = load_settings(config)
    with closing(app.open_database(settings)) as db:
        with db.read() as conn:
            rows = _named(streams(conn), scanner, reading, everything=everything)
        fold.reset(db, tuple(row.id for row in rows))
    console().print(f"{len(rows)} streams forgotten")
    return 0


def _named(rows: Sequence[StreamRow], scanner: str, reading: str, *, everything: bool) -> list[StreamRow]:
    if not (scanner or reading or everything):
        raise SettingsError("say which streams: --scanner, --reading or --all")
    return _chosen(rows, scanner, reading)


def _chosen(rows: Sequence[StreamRow], scanner: str, reading: str) -> list[StreamRow]:
    return [row for row in rows if scanner.upper() in row.scanner.upper() and reading in ("", row.reading_name)]


def _is_of(one: DriftSignal, row: StreamRow) -> bool:
    return (one.reading, one.model, one.scanner) == (row.reading_name, row.model, row.scanner)


def _print(rows: Sequence[StreamRow], signals: Sequence[DriftSignal], wanted: int) -> None:
    out = console()
    for row in rows:
        stream = Stream.unpacked(row.content)
        how = f"baseline {len(stream.baseline)}, window {len(stream.window)}"
        state = how if stream.complete else f"baseline {len(stream.baseline)} of {wanted}"
        name = f"{row.scanner} · {row.reading_name} · {row.model}"
        out.print(f"{name}: {row.studies} studies, {state}", soft_wrap=True, markup=False)
        mine = [one for one in signals if _is_of(one, row)]
        if mine:
            out.print(_table(mine))
    if not rows:
        out.print("no stream yet: one begins within ten minutes of the first reading of a scanner's images")


def _table(signals: Sequence[DriftSignal]) -> Table:
    table = Table("signal", "effect", "p", "", box=None)
    for one in sorted(signals, key=lambda one: (not one.alarm, one.p_value)):
        table.add_row(one.signal, f"{one.effect:.3f}", f"{one.p_value:.1e}", "ALARM" if one.alarm else "")
    return table
