"""`/metrics`, as Prometheus reads it: what stands in the database at that moment, and what all processes have counted.

Every machine's page tells the same of the whole node; its disk and its processes are its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dicom_node import measures
from dicom_node.errors import StorageError
from dicom_node.measures import ABOVE, SUM, Delta, MetricKind
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.drift import DriftSignal, drift_signals_of
from dicom_node.storage.events import EventKind
from dicom_node.storage.job_counts import UNFINISHED, QueueDepth, queue_depths
from dicom_node.storage.jobs import JobKind, JobState, Priority
from dicom_node.storage.measures import GaugeRow, all_measures, fresh_gauges
from dicom_node.version import software_version
from dicom_node.views.status import STALE_S, Destination, NodeStatus, look
from dicom_node.views.words import priority_name

ROLES: Final = ("listen", "work", "deliver", "web")
_STATES: Final = tuple(state.value for state in (*UNFINISHED, JobState.DEAD))


def scrape(settings: Settings, db: Database, accept: str) -> tuple[bytes, str]:
    """The page and its media type. A database that does not answer is told by a metric of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(lambda: list(_families(settings, db))))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Scrape(Collector):
    def __init__(self, families: Callable[[], list[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        return ()


def _families(settings: Settings, db: Database) -> Iterator[Metric]:
    yield _one("build_info", "Which WetRead answers.", 1, version=software_version())
    try:
        status = look(settings, db)
        with db.read() as conn:
            depths, counted = queue_depths(conn, status.at), all_measures(conn)
            gauges, drift = fresh_gauges(conn, status.at - STALE_S), drift_signals_of(conn)
    except StorageError:
        yield _one("database_up", "1 where the database answers.", 0)
        return
    yield _one("database_up", "1 where the database answers.", 1)
    yield from _standing(status)
    yield from _queues(depths, status.at)
    yield from _destinations(status.destinations)
    yield from _counted(counted, settings)
    yield from _gauges(gauges)
    yield from _drift(drift)


def _standing(status: NodeStatus) -> Iterator[Metric]:
    processes = GaugeMetricFamily("wetread_processes", "Living processes of the node, by role.", labels=("role",))
    ready = GaugeMetricFamily("wetread_processes_ready", "Those that can do their work.", labels=("role",))
    for role in ROLES:
        alive = [one for one in status.processes if one.role == role and one.alive]
        processes.add_metric((role,), len(alive))
        ready.add_metric((role,), sum(one.state == "ready" for one in alive))
    yield from (processes, ready)
    yield _one("studies_receiving", "Studies whose images still come.", status.receiving)
    yield _one("problems", "What needs a hand, as `wetread status` tells it.", len(status.problems))
    yield _one("disk_free_bytes", "Room on the disk of the data folder.", status.disk.free)
    yield _one("disk_total_bytes", "Size of the disk of the data folder.", status.disk.total)
    yield _one("disk_watermark_bytes", "With less room, images are refused.", status.disk.watermark)


def _queues(depths: Sequence[QueueDepth], now: float) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("wetread_jobs", "Work that is not done.", labels=("kind", "priority", "state"))
    oldest = GaugeMetricFamily("wetread_jobs_oldest_seconds", "Age of the oldest.", labels=("kind", "priority", "state"))
    for kind, priority, state in product(JobKind, Priority, (*UNFINISHED, JobState.DEAD)):
        mine = [d for d in depths if (d.kind, class_of(d.priority), d.state) == (kind, priority, state)]
        labels = (kind.value, priority_name(priority), state.value)
        jobs.add_metric(labels, sum(one.count for one in mine))
        oldest.add_metric(labels, max((now - one.oldest_created_at for one in mine), default=0.0))
    yield from (jobs, oldest)


def class_of(priority: int) -> Priority:
    """The named priority that a number belongs to."""
    return max((one for one in Priority if one <= priority), default=Priority.STAT)


def _destinations(destinations: Sequence[Destination]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "wetread_destination_up", "1 where deliveries flow, 0 where they are held back.", labels=("destination",)
    )
    known = GaugeMetricFamily("wetread_destination_known", "1 where the settings name it.", labels=("destination",))
    jobs = GaugeMetricFamily("wetread_destination_jobs", "Deliveries that are not done.", labels=("destination", "state"))
    oldest = GaugeMetricFamily("wetread_destination_oldest_seconds", "Age of the oldest.", labels=("destination",))
    failures = GaugeMetricFamily(
        "wetread_destination_failures", "Failures in a row, the most of any machine.", labels=("destination",)
    )
    for one in destinations:
        up.add_metric((one.name,), one.state == "closed")
        known.add_metric((one.name,), one.known)
        for state, number in zip(_STATES, (one.queued, one.leased, one.awaiting, one.dead), strict=True):
            jobs.add_metric((one.name, state), number)
        oldest.add_metric((one.name,), one.oldest_s)
        failures.add_metric((one.name,), max((host.failures for host in one.hosts), default=0))
    yield from (up, known, jobs, oldest, failures)


def _counted(rows: Sequence[Delta], settings: Settings) -> Iterator[Metric]:
    by_name: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        by_name.setdefault(row.name, {}).setdefault(row.labels, {})[row.bucket] = row.amount
    for metric in measures.declared():
        found = {**{text: {} for text in _expected(metric, settings)}, **by_name.get(metric.name, {})}
        if metric.kind is MetricKind.COUNTER:
            yield _counter(metric, found)
        elif metric.kind is MetricKind.HISTOGRAM:
            yield _histogram(metric, found)


def _expected(metric: measures.Metric, settings: Settings) -> Iterator[str]:
    """Labels of which nought is told too, so that a first event is seen as a rise."""
    open_sets = {"destination": tuple(sorted(settings.destinations)), "kind": tuple(kind.value for kind in EventKind)}
    sets = [open_sets.get(name, ()) if values is None else values for name, values in metric.labels.items()]
    for chosen in product(*sets):
        yield measures.labels_text(metric, dict(zip(metric.labels, chosen, strict=True)))


def _counter(metric: measures.Metric, found: Mapping[str, Mapping[str, float]]) -> Metric:
    family = CounterMetricFamily(metric.name, metric.help, labels=tuple(metric.labels))
    for text, values in sorted(found.items()):
        family.add_metric(_values(metric, text), values.get("", 0.0))
    return family


def _histogram(metric: measures.Metric, found: Mapping[str, Mapping[str, float]]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=tuple(metric.labels))
    for text, values in sorted(found.items()):
        total, buckets = 0.0, []
        for bound in (*(f"{one:g}" for one in metric.buckets), ABOVE):
            total += values.get(bound, 0.0)
            buckets.append((bound, total))
        family.add_metric(_values(metric, text), buckets, values.get(SUM, 0.0))
    return family


def _gauges(rows: Sequence[GaugeRow]) -> Iterator[Metric]:
    """What processes tell of themselves, the sum of those of one machine; GPUs are of a machine, not of a process."""
    for metric in measures.declared():
        if metric.kind is not MetricKind.GAUGE:
            continue
        family = GaugeMetricFamily(metric.name, metric.help, labels=("host", *metric.labels))
        sums: dict[tuple[str, ...], list[float]] = {}
        for row in rows:
            if row.name == metric.name:
                sums.setdefault((row.owner.split("~")[0].split(":")[0], *_values(metric, row.labels)), []).append(row.value)
        for labels, values in sorted(sums.items()):
            family.add_metric(labels, max(values) if "gpu" in metric.labels else sum(values))
        yield family


def _drift(signals: Sequence[DriftSignal]) -> Iterator[Metric]:
    names = ("reading", "scanner", "signal")
    effect = GaugeMetricFamily("wetread_drift_effect", "How far a signal is from its baseline.", labels=names)
    alarm = GaugeMetricFamily("wetread_drift_alarm", "1 where it is over its limit.", labels=names)
    for one in signals:
        effect.add_metric((one.reading, one.scanner, one.signal), one.effect)
        alarm.add_metric((one.reading, one.scanner, one.signal), one.alarm)
    yield from (effect, alarm)


def _values(metric: measures.Metric, text: str) -> tuple[str, ...]:
    told: Mapping[str, Any] = json.loads(text)
    return tuple(str(told.get(name, "")) for name in metric.labels)


def _one(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(f"wetread_{name}", text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family
