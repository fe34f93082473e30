"""The drift watch's rows: observations that wait, streams with their statistics, and how each signal stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy import Connection as Connection
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.storage.tables import drift_observations, drift_signals, drift_streams


@dataclass(frozen=True, slots=True)
class NewObservation:
    """One reading, as the watch sees it. ``model`` and ``scanner``: bounded labels. ``content``: packed, at most some KB."""

    study_uid: str
    revision: int
    reading_name: str
    model: str
    scanner: str
    content: bytes


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Which studies are compared with each other."""

    reading_name: str
    model: str
    scanner: str


@dataclass(frozen=True, slots=True)
class StreamRow:
    """``content``: the packed statistics, empty at first. ``studies``: folded so far. ``updated_at``: the last fold."""

    id: int
    reading_name: str
    model: str
    scanner: str
    studies: int
    content: bytes
    updated_at: float

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.reading_name, self.model, self.scanner)


@dataclass(frozen=True, slots=True)
class SignalRow:
    """How one signal of a stream stands. ``streak``: looks in a row that speak against ``alarm``. ``since``: it stands so."""

    stream_id: int
    signal: str
    effect: float
    p_value: float
    alarm: bool
    streak: int
    since: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class DriftSignal:
    """A signal with its stream, for a gauge. All labels are bounded. ``studies``: how many the stream has folded."""

    reading: str
    model: str
    scanner: str
    signal: str
    effect: float
    p_value: float
    alarm: bool
    studies: int
    updated_at: float


def add_observation(conn: Connection, new: NewObservation, now: float) -> None:
    """One row for a study, revision and reading; one that still waits is replaced."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    latest = {"model": new.model, "scanner": new.scanner, "content": new.content}
    row = make(drift_observations).values(**asdict(new), at=now)
    key = ["study_uid", "revision", "reading_name"]
    conn.execute(row.on_conflict_do_update(index_elements=key, set_=latest))


def waiting_keys(conn: Connection) -> tuple[tuple[StreamKey, int, float], ...]:
    """Streams for which observations wait: how many, and since when."""
    key = (drift_observations.c.reading_name, drift_observations.c.model, drift_observations.c.scanner)
    query = select(*key, func.count().label("held"), func.min(drift_observations.c.at).label("since")).group_by(*key)
    return tuple((StreamKey(r.reading_name, r.model, r.scanner), r.held, r.since) for r in conn.execute(query.order_by(*key)))


def hold_stream(conn: Connection, key: StreamKey, now: float) -> StreamRow:
    """The stream, made where it is missing, held until the transaction ends."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    fresh = make(drift_streams).values(**asdict(key), studies=0, content=b"", updated_at=now)
    conn.execute(fresh.on_conflict_do_nothing(index_elements=["reading_name", "model", "scanner"]))
    query = select(drift_streams).where(*_stream(key)).with_for_update()
    return StreamRow(**conn.execute(query).mappings().one())


def take_observations(conn: Connection, key: StreamKey, limit: int) -> tuple[bytes, ...]:
    """The oldest that wait for a stream, taken out in the caller's transaction, in order."""
    mine = (
        drift_observations.c.reading_name == key.reading_name,
        drift_observations.c.model == key.model,
        drift_observations.c.scanner == key.scanner,
    )
    query = select(drift_observations.c.id, drift_observations.c.content).where(*mine).order_by(drift_observations.c.id)
    rows = conn.execute(query.limit(limit)).all()
    conn.execute(delete(drift_observations).where(drift_observations.c.id.in_([row.id for row in rows])))
    return tuple(bytes(row.content) for row in rows)


def save_stream(conn: Connection, stream_id: int, studies: int, content: bytes, now: float) -> None:
    values = {"studies": studies, "content": content, "updated_at": now}
    conn.execute(update(drift_streams).where(drift_streams.c.id == stream_id).values(**values))


def streams(conn: Connection) -> tuple[StreamRow, ...]:
    query = select(drift_streams).order_by(drift_streams.c.reading_name, drift_streams.c.scanner, drift_streams.c.model)
    return tuple(StreamRow(**row) for row in conn.execute(query).mappings())


def known_scanners(conn: Connection) -> frozenset[StreamKey]:
    found = conn.execute(select(drift_streams.c.reading_name, drift_streams.c.model, drift_streams.c.scanner))
    return frozenset(StreamKey(*row) for row in found)


def signals_of(conn: Connection, stream_id: int) -> dict[str, SignalRow]:
    query = select(drift_signals).where(drift_signals.c.stream_id == stream_id)
    return {row["signal"]: SignalRow(**row) for row in conn.execute(query).mappings()}


def save_signals(conn: Connection, stream_id: int, rows: Iterable[SignalRow]) -> None:
    """Replace all signals of a stream."""
    conn.execute(delete(drift_signals).where(drift_signals.c.stream_id == stream_id))
    values = [asdict(row) for row in rows]
    if values:
        conn.execute(insert(drift_signals), values)


def forget_stream(conn: Connection, stream_id: int) -> None:
    """Its statistics and its signals; its next studies make a new baseline."""
    conn.execute(delete(drift_signals).where(drift_signals.c.stream_id == stream_id))
    conn.execute(delete(drift_streams).where(drift_streams.c.id == stream_id))


def move_observations(conn: Connection, key: StreamKey, scanner: str) -> None:
    """What waits for a stream that is one too many waits for another ``scanner``'s instead."""
    columns = drift_observations.c
    mine = (columns.reading_name == key.reading_name, columns.model == key.model, columns.scanner == key.scanner)
    conn.execute(update(drift_observations).where(*mine).values(scanner=scanner))


def drift_signals_of(conn: Connection) -> tuple[DriftSignal, ...]:
    """Every signal of every stream, for gauges and for ``wetread drift show``."""
    joined = drift_signals.join(drift_streams, drift_streams.c.id == drift_signals.c.stream_id)
    columns = (
        drift_streams.c.reading_name.label("reading"),
        drift_streams.c.model,
        drift_streams.c.scanner,
        drift_signals.c.signal,
        drift_signals.c.effect,
        drift_signals.c.p_value,
        drift_signals.c.alarm,
        drift_streams.c.studies,
        drift_signals.c.updated_at,
    )
    order = (drift_streams.c.reading_name, drift_streams.c.scanner, drift_streams.c.model, drift_signals.c.signal)
    return tuple(DriftSignal(**row) for row in conn.execute(select(*columns).select_from(joined).order_by(*order)).mappings())


def _stream(key: StreamKey) -> tuple[ColumnElement[bool], ...]:
    columns = drift_streams.c
    return (columns.reading_name == key.reading_name, columns.model == key.model, columns.scanner == key.scanner)
