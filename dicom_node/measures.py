"""What the processes of a node count and time. Like a logger there is one for each process; the table `measures` adds them up.

Labels come from closed sets: no UID, address or patient can become one. A name of the settings (``None`` as its set) may.
"""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
SUM: Final = "sum"
ABOVE: Final = "+Inf"
_LONGEST_NAME: Final = 64  # characters of a label's value


class MetricKind(StrEnum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """``labels``: the values each may have; None: names of the settings. ``buckets``: upper bounds of a histogram."""

    name: str
    kind: MetricKind
    help: str
    labels: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, **labels: tuple[str, ...] | None) -> Metric:
    return Metric(f"wetread_{name}", MetricKind.COUNTER, text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], **labels: tuple[str, ...] | None) -> Metric:
    return Metric(f"wetread_{name}", MetricKind.HISTOGRAM, text, labels, buckets)


def _gauge(name: str, text: str, **labels: tuple[str, ...] | None) -> Metric:
    return Metric(f"wetread_{name}", MetricKind.GAUGE, text, labels)


# receive: first image → complete · wait: job made → claimed · read: the whole reading · delivery: document made → delivered ·
# first_result: last image → first document delivered · total: last image → each document delivered
STEPS: Final = ("receive", "wait", "decode", "triage", "draft", "documents", "read", "delivery", "first_result", "total")
_MODELS: Final = ("triage", "drafting")

STEP: Final = _histogram("step_seconds", "How long each step takes.", SECONDS, step=STEPS)
MODEL_PASS: Final = _histogram("model_pass_seconds", "One pass of a model over a batch.", SECONDS, model=_MODELS)
BATCH_SIZE: Final = _histogram("model_batch_size", "Images or drafts of a pass.", SIZES, model=_MODELS)
ASSOCIATIONS: Final = _counter(
    "associations", "Associations, by how they went.", outcome=("accepted", "rejected", "aborted", "released")
)
INSTANCES: Final = _counter(
    "instances",
    "C-STOREs, by what became of them.",
    outcome=("stored", "duplicate", "conflict", "refused", "quarantined"),
)
BYTES_RECEIVED: Final = _counter("received_bytes", "Bytes of data sets received.")
COMPLETED: Final = _counter(
    "studies_completed", "Revisions of studies that were opened, by why.", because=("archive", "series", "association", "quiet")
)
STUDIES_READ: Final = _counter(
    "studies_read", "Readings, by how they went.", outcome=("read", "not_assessable", "failed", "dead")
)
GPU_OOM: Final = _counter("gpu_out_of_memory", "Passes that the GPU had no memory for.")
WORKERS_REPLACED: Final = _counter("workers_replaced", "Workers that hung or died and were replaced.")
DELIVERIES: Final = _counter("deliveries", "Tries of deliveries.", destination=None, outcome=("delivered", "retried", "dead"))
EVENTS: Final = _counter(
    "events", "Events for an operator.", kind=None, severity=("info", "warning", "alert")
)  # kinds: storage.events.EventKind
PURGED: Final = _counter("purged", "What retention has removed.", what=("instances", "documents", "bytes"))
AUDIT: Final = _counter("audit_messages", "Audit messages.", outcome=("sent", "failed", "spooled"))
ASSOCIATIONS_OPEN: Final = _gauge("associations_open", "Associations open now.")
GPU_MEMORY_USED: Final = _gauge("gpu_memory_used_bytes", "GPU memory in use, by all programs.", gpu=None)
GPU_MEMORY_TOTAL: Final = _gauge("gpu_memory_total_bytes", "GPU memory.", gpu=None)
GPU_BUSY: Final = _gauge("gpu_busy_ratio", "Share of the last second in which the GPU worked.", gpu=None)


def declared() -> tuple[Metric, ...]:
    """Every metric above, by name."""
    return tuple(sorted((one for one in globals().values() if isinstance(one, Metric)), key=lambda one: one.name))


@dataclass(frozen=True, slots=True)
class Delta:
    """So much more of one number. ``labels``: JSON, sorted. ``bucket``: empty for a counter; a bound, "+Inf" or "sum"."""

    name: str
    labels: str
    bucket: str
    amount: float


class Measures:
    """Adds up until somebody takes what has gathered. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str, str], float] = {}
        self._gauges: dict[tuple[str, str], float] = {}

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        self._add(metric, labels, {"": amount})

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        at = bisect_left(metric.buckets, value)
        bound = f"{metric.buckets[at]:g}" if at < len(metric.buckets) else ABOVE
        self._add(metric, labels, {bound: 1, SUM: max(value, 0.0)})

    def gauge(self, metric: Metric, value: float, **labels: str) -> None:
        key = (metric.name, labels_text(metric, labels))
        with self._lock:
            self._gauges[key] = value

    def take(self) -> tuple[Delta, ...]:
        """What has gathered since the last time, in a fixed order; it is the caller's to keep."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return tuple(Delta(*key, amount) for key, amount in sorted(sums.items()))

    def give_back(self, deltas: Iterable[Delta]) -> None:
        """What could not be kept counts with the next."""
        with self._lock:
            for one in deltas:
                key = (one.name, one.labels, one.bucket)
                self._sums[key] = self._sums.get(key, 0.0) + one.amount

    def gauges(self) -> tuple[tuple[str, str, float], ...]:
        """Name, labels as in ``Delta`` and value."""
        with self._lock:
            return tuple((name, labels, value) for (name, labels), value in sorted(self._gauges.items()))

    def _add(self, metric: Metric, labels: Mapping[str, str], parts: Mapping[str, float]) -> None:
        text = labels_text(metric, labels)
        with self._lock:
            for bucket, amount in parts.items():
                key = (metric.name, text, bucket)
                self._sums[key] = self._sums.get(key, 0.0) + amount


def labels_text(metric: Metric, labels: Mapping[str, str]) -> str:
    """Raises KeyError for a label or a value that the metric does not have."""
    if labels.keys() != metric.labels.keys():
        raise KeyError(f"{metric.name} has the labels {sorted(metric.labels)}, not {sorted(labels)}")
    for name, value in labels.items():
        allowed = metric.labels[name]
        if len(value) > _LONGEST_NAME or (allowed is not None and value not in allowed):
            raise KeyError(f"{metric.name}: label {name} is not one of {allowed or 'the names of the settings'}")
    return json.dumps(labels, sort_keys=True)


OWN: Final = Measures()  # of this process
count, observe, gauge = OWN.count, OWN.observe, OWN.gauge
take, give_back, gauges = OWN.take, OWN.give_back, OWN.gauges


@contextmanager
def timed(metric: Metric, **labels: str) -> Iterator[None]:
    """Observe how long the body takes, in seconds, unless it raises."""
    began = time.perf_counter()
    yield
    observe(metric, time.perf_counter() - began, **labels)
