"""Traces for OpenTelemetry: one for each revision of a study, over all processes and machines.

A trace is named by a keyed hash of the study's UID: a collector outside the node learns no UID, and every process finds the
same trace without being told by another. Its root is ``ROOT``, the time from the first image until the study was complete.
Until ``configure`` is called nothing is imported and nothing is kept. Like a logger there is one for each process.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from dicom_node.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ROOT: Final = "receive"
_SCOPE: Final = "wetread"
_NANOSECONDS: Final = 1_000_000_000
Value = str | int | float | bool
_root_ids: ContextVar[tuple[int, int] | None] = ContextVar("root_ids", default=None)


class Tracing:
    """``key``: of the hash; the same on all machines of a node."""

    def __init__(self, provider: TracerProvider, key: bytes) -> None:
        self.provider, self._key = provider, key
        self._tracer = provider.get_tracer(_SCOPE)

    def step(self, name: str, study_uid: str, revision: int, began: float, ended: float, values: Mapping[str, Value]) -> None:
        from opentelemetry.trace import Status, StatusCode

        told = {**self._told(study_uid, revision), **values}
        trace_id, span_id = self._ids(study_uid, revision)
        token = _root_ids.set((trace_id, span_id) if name == ROOT else None)
        try:
            context = None if name == ROOT else _below(trace_id, span_id)
            span = self._tracer.start_span(name, context, attributes=told, start_time=int(began * _NANOSECONDS))
        finally:
            _root_ids.reset(token)
        if values.get("wetread.error"):
            span.set_status(Status(StatusCode.ERROR))
        span.end(int(ended * _NANOSECONDS))

    def running(self, name: str, study_uid: str, revision: int) -> AbstractContextManager[object]:
        return self._span(name, _below(*self._ids(study_uid, revision)), self._told(study_uid, revision))

    def stage(self, name: str) -> AbstractContextManager[object]:
        return self._span(name, None, {})

    @contextmanager
    def _span(self, name: str, context: Context | None, told: Mapping[str, Value]) -> Iterator[None]:
        """An error is told by its kind alone: the words of foreign ones may quote a header."""
        from opentelemetry.trace import Status, StatusCode

        begun = self._tracer.start_as_current_span(
            name, context, attributes=told, record_exception=False, set_status_on_exception=False
        )
        with begun as span:
            try:
                yield
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def _told(self, study_uid: str, revision: int) -> dict[str, Value]:
        digest = hmac.new(self._key, study_uid.encode(), hashlib.sha256).hexdigest()
        return {"wetread.study": digest[:32], "wetread.revision": revision}

    def _ids(self, study_uid: str, revision: int) -> tuple[int, int]:
        made = hmac.new(self._key, f"{study_uid}\0{revision}".encode(), hashlib.sha256).digest()
        return int.from_bytes(made[:16], "big") or 1, int.from_bytes(made[16:24], "big") or 1


class _State:
    tracing: Tracing | None = None


def configure(exporter: SpanExporter, key: bytes, role: str, *, at_once: bool = False) -> None:
    """Trace from now on. ``role``: of this process. ``at_once``: each span leaves as it ends, for tests."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            given = _root_ids.get()
            return given[0] if given else super().generate_trace_id()

        def generate_span_id(self) -> int:
            given = _root_ids.get()
            return given[1] if given else super().generate_span_id()

    resource = Resource.create({"service.name": "wetread", "wetread.role": role})
    provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
    _State.tracing = Tracing(provider, key)


def configure_otlp(endpoint: str, headers: Mapping[str, str], timeout_s: float, key: bytes, role: str) -> None:
    """The same, to a collector (OTLP/HTTP, protobuf). Raises SettingsError where OpenTelemetry is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise SettingsError(f"key 'tracing.endpoint' needs the Python package {error.name}; install wetread[otel]") from error
    configure(OTLPSpanExporter(endpoint=endpoint, headers=dict(headers), timeout=timeout_s), key, role)


def stop() -> None:
    """Send what is left, and trace no more."""
    tracing, _State.tracing = _State.tracing, None
    if tracing is not None:
        tracing.provider.shutdown()


def step(name: str, study_uid: str, revision: int, began: float, ended: float, **values: Value) -> None:
    """What was done to a study, from ``began`` to ``ended`` (seconds since 1970 UTC). ``values``: without patient data."""
    if _State.tracing is not None:
        _State.tracing.step(name, study_uid, revision, began, ended, {f"wetread.{key}": one for key, one in values.items()})


def on() -> bool:
    """Whether anything is kept: what a step alone would be looked up for need not be."""
    return _State.tracing is not None


def running(name: str, study_uid: str, revision: int) -> AbstractContextManager[object]:
    """What the body does to a study; ``stage`` inside it tells the parts."""
    return nullcontext() if _State.tracing is None else _State.tracing.running(name, study_uid, revision)


def stage(name: str) -> AbstractContextManager[object]:
    """A part of what is running."""
    return nullcontext() if _State.tracing is None else _State.tracing.stage(name)


def _below(trace_id: int, span_id: int) -> Context:
    """As a child of the trace's root, which another process has made or will make (W3C Trace Context)."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    root = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(root))
