"""Folding what waits into its streams, judging them, and raising or ending alarms. Run by one process, now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicom_node.drift.observation import Observation
from dicom_node.drift.statistics import Verdict
from dicom_node.drift.stream import Stream
from dicom_node.drift_settings import DriftSettings
from dicom_node.storage.database import Database
from dicom_node.storage.drift import (
    Connection,
    SignalRow,
    StreamKey,
    StreamRow,
    forget_stream,
    hold_stream,
    known_scanners,
    move_observations,
    save_signals,
    save_stream,
    signals_of,
    streams,
    take_observations,
    waiting_keys,
)
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event

OTHER: Final = "other"  # the stream of scanners that are too many to be told apart
_LOOKS: Final = 8  # how often a window is looked at while it is filled once
_WAIT_S: Final = 600.0  # fewer studies than a look needs are folded after so long
_RAISE_AFTER: Final = 2  # looks in a row
_END_AFTER: Final = 4
_CALM: Final = 1e-3  # the p-value above which a look speaks for the end of an alarm
_DISTANCE: Final = 0.5  # the effect of "embedding mean", in standard deviations
_RATE: Final = 0.1  # the effect of a rate
_RATES: Final = frozenset({"draft omissions", "unread"})
_FORGOTTEN_S: Final = 400 * 86400.0  # a stream without a study for so long (a model that was replaced, a scanner sold)
_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class Folded:
    """What one run did. ``alarms``: those it raised."""

    studies: int = 0
    alarms: int = 0


def fold(db: Database, settings: DriftSettings, now: float) -> Folded:
    """Fold every stream that has enough waiting. Killed at any instant, it has folded a stream wholly or not at all.

    Raises StorageError, StorageBusy.
    """
    with db.read() as conn:
        waiting = waiting_keys(conn)
    step = max(settings.window // _LOOKS, 1)
    due = [key for key, count, since in waiting if count >= step or now - since >= _WAIT_S]
    done = [_fold_one(db, key, settings, now) for key in due]
    _forget_old(db, now)
    return Folded(sum(one.studies for one in done), sum(one.alarms for one in done))


def _fold_one(db: Database, key: StreamKey, settings: DriftSettings, now: float) -> Folded:
    """Look by look, so that a thousand studies that waited are judged as if they had come one by one."""
    step = max(settings.window // _LOOKS, 1)
    with db.write() as conn:
        known = known_scanners(conn)
        if key not in known and len(known) >= settings.streams and key.scanner != OTHER:
            move_observations(conn, key, OTHER)
            return Folded()
        row = hold_stream(conn, key, now)
        stream, studies, alarms = Stream.unpacked(row.content), row.studies, 0
        taken = [Observation.unpacked(content) for content in take_observations(conn, key, _AT_ONCE)]
        signals = signals_of(conn, row.id)
        for first in range(0, len(taken), step):
            stream = stream.folded(taken[first : first + step], settings.baseline_studies, settings.window)
            if stream.complete and stream.fresh >= step:
                found = _judge(conn, row, stream, signals, settings, now)
                alarms += sum(
                    one.alarm and not signals[name].alarm if name in signals else False for name, one in found.items()
                )
                signals, stream = found, stream.judged()
        save_signals(conn, row.id, signals.values())
        save_stream(conn, row.id, studies + len(taken), stream.packed(), now)
    return Folded(len(taken), alarms)


def _judge(
    conn: Connection, row: StreamRow, stream: Stream, before: dict[str, SignalRow], settings: DriftSettings, now: float
) -> dict[str, SignalRow]:
    after = {
        name: _moved(row.id, name, verdict, before.get(name), settings, now)
        for name, verdict in stream.verdicts(settings.minimum).items()
    }
    for name, one in after.items():
        if name in before and one.alarm is not before[name].alarm:
            record_event(conn, _event(row, one), now)
    return after


def _moved(
    stream_id: int, name: str, verdict: Verdict, held: SignalRow | None, settings: DriftSettings, now: float
) -> SignalRow:
    """Hysteresis: two looks in a row raise an alarm, four calm ones end it."""
    alarm, streak, since = (held.alarm, held.streak, held.since) if held else (False, 0, now)
    beyond = verdict.p_value < settings.p_value and verdict.effect >= _least(name, settings)
    against = verdict.p_value > _CALM if alarm else beyond
    streak = streak + 1 if against else 0
    if streak >= (_END_AFTER if alarm else _RAISE_AFTER):
        alarm, streak, since = not alarm, 0, now
    return SignalRow(stream_id, name, verdict.effect, verdict.p_value, alarm, streak, since, now)


def _least(name: str, settings: DriftSettings) -> float:
    return _DISTANCE if name == "embedding mean" else _RATE if name in _RATES else settings.effect


def _event(row: StreamRow, one: SignalRow) -> NewEvent:
    where = f"{one.signal} of {row.scanner} (reading {row.reading_name}, {row.model})"
    if not one.alarm:
        return NewEvent(EventKind.DRIFT, f"{where} is again as its baseline", Severity.INFO)
    text = f"{where} is no longer as its baseline: effect {one.effect:.2f}, p {one.p_value:.1e}; see `wetread drift show`"
    return NewEvent(EventKind.DRIFT, text, Severity.ALERT)


def _forget_old(db: Database, now: float) -> None:
    with db.read() as conn:
        old = [row.id for row in streams(conn) if now - row.updated_at > _FORGOTTEN_S]
    if old:
        with db.write() as conn:
            for stream_id in old:
                forget_stream(conn, stream_id)


def set_baseline(db: Database, chosen: tuple[int, ...], settings: DriftSettings, now: float) -> dict[int, int]:
    """Make the newest studies of each chosen stream its baseline; how many studies each then has, 0 where too few."""
    made: dict[int, int] = {}
    with db.write() as conn:
        for row in (row for row in streams(conn) if row.id in chosen):
            stream = Stream.unpacked(row.content).as_baseline(settings.baseline_studies)
            made[row.id] = len(stream.baseline) if len(stream.baseline) >= settings.minimum else 0
            if made[row.id]:
                save_stream(conn, row.id, row.studies, stream.packed(), now)
                save_signals(conn, row.id, ())
    return made


def reset(db: Database, chosen: tuple[int, ...]) -> None:
    """Forget the chosen streams; their next studies make new baselines."""
    with db.write() as conn:
        for stream_id in chosen:
            forget_stream(conn, stream_id)
