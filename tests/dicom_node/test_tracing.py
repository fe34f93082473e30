"""Traces: one for each revision of a study, named by nothing that could be traced back; sent by real HTTP."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicom_node import tracing
from dicom_node.app.common import traced
from dicom_node.errors import SettingsError
from dicom_node.settings import Settings

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

STUDY = "1.2.840.113619.2.55.3.1234567890"


@pytest.fixture
def kept() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure(exporter, b"of this node", "listen", at_once=True)
    yield exporter
    tracing.stop()


def by_name(kept: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in kept.get_finished_spans()}


def tell(revision: int = 1) -> None:
    """As three processes would, in the order in which they come to it."""
    tracing.step(tracing.ROOT, STUDY, revision, 100.0, 110.5, because="quiet")
    with tracing.running("read", STUDY, revision), tracing.stage("decode"):
        pass
    tracing.step("deliver", STUDY, revision, 112.0, 113.0, destination="pacs")


def test_all_processes_find_the_same_trace(kept: InMemorySpanExporter) -> None:
    tell()
    spans = by_name(kept)
    root = spans["receive"]
    assert root.parent is None
    assert {span.context.trace_id for span in spans.values()} == {root.context.trace_id}
    for name, parent in (("read", root), ("deliver", root), ("decode", spans["read"])):
        below = spans[name].parent
        assert below is not None
        assert below.span_id == parent.context.span_id, name
    assert (root.end_time or 0) - (root.start_time or 0) == 10.5e9
    assert (root.attributes or {})["wetread.because"] == "quiet"


def test_another_revision_is_another_trace_of_the_same_study(kept: InMemorySpanExporter) -> None:
    tell(1)
    tell(2)
    roots = [span for span in kept.get_finished_spans() if span.name == tracing.ROOT]
    assert len({span.context.trace_id for span in roots}) == 2
    assert len({(span.attributes or {})["wetread.study"] for span in roots}) == 1


def test_nothing_that_leaves_holds_the_uid(kept: InMemorySpanExporter) -> None:
    tell()
    assert all(STUDY not in span.to_json() for span in kept.get_finished_spans())
    first = (by_name(kept)["receive"].attributes or {})["wetread.study"]
    tracing.stop()
    again = InMemorySpanExporter()
    tracing.configure(again, b"of another node", "listen", at_once=True)
    tell()
    assert (by_name(again)["receive"].attributes or {})["wetread.study"] != first  # a list of UIDs alone gives nobody away


def test_an_error_is_marked_without_its_text(kept: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="DOE"), tracing.running("read", STUDY, 1):
        raise ValueError("DOE^JANE")
    span = by_name(kept)["read"]
    assert not span.status.is_ok
    assert "DOE" not in span.to_json()


def test_it_costs_nothing_where_it_is_off() -> None:
    tracing.stop()
    began = time.perf_counter()
    for _ in range(20_000):
        tracing.step("deliver", STUDY, 1, 1.0, 2.0, destination="pacs")
        with tracing.stage("decode"):
            pass
    assert (time.perf_counter() - began) / 20_000 < 50e-6  # seconds; a few microseconds on an idle machine


class Collector:
    """An OTLP/HTTP collector: decodes what it is sent (opentelemetry-proto, trace service)."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.headers: list[str | None] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append(self.headers.get("x-team"))
                collector.bodies.append(body)
                request = ExportTraceServiceRequest.FromString(body)
                collector.spans += [s.name for r in request.resource_spans for o in r.scope_spans for s in o.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def site(folder: Path, **section: object) -> Settings:
    return Settings.model_validate({"folder": folder, "data": "data", "tracing": section})


def test_a_collector_gets_every_span_by_the_time_the_process_ends(tmp_path: Path, collector: Collector) -> None:
    (tmp_path / "headers").write_text("x-team: radiology\n")
    with traced(site(tmp_path, endpoint=collector.url, headers_file="headers"), "work"):
        tell()
    assert sorted(collector.spans) == ["decode", "deliver", "read", "receive"]
    assert set(collector.headers) == {"radiology"}
    assert all(STUDY.encode() not in body for body in collector.bodies)


def test_without_an_endpoint_nothing_is_traced(tmp_path: Path, collector: Collector) -> None:
    with traced(site(tmp_path), "work"):
        tell()
    assert collector.spans == []


def test_headers_that_cannot_be_used_are_told_without_quoting_them(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("secret")
    with (
        pytest.raises(SettingsError, match="name: value") as told,
        traced(site(tmp_path, endpoint="http://127.0.0.1:1/v1/traces", headers_file="headers"), "work"),
    ):
        pass
    assert "secret" not in str(told.value)
