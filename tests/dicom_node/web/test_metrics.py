"""`/metrics` as Prometheus reads it, and boards and alerts that ask for nothing it does not tell."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from dicom_node import measures
from dicom_node.errors import StorageBusy
from dicom_node.measures import Measures
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind
from dicom_node.storage.measures import add_measures, set_gauges
from dicom_node.web.metrics import scrape

from .stocked import Stock

ROOT = Path(__file__).parents[3]
BOARD, ALERTS = ROOT / "deploy" / "grafana" / "wetread.json", ROOT / "deploy" / "prometheus" / "alerts.yml"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def page(settings: Settings, db: Database) -> str:
    return scrape(settings, db, "")[0].decode()


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_queues_destinations_and_processes_stand_as_in_the_database(settings: Settings, db: Database, stocked: Stock) -> None:
    assert stocked
    found = samples(page(settings, db))
    assert value(found, "wetread_jobs", kind="read", priority="STAT", state="queued") == 1
    assert value(found, "wetread_jobs_oldest_seconds", kind="read", priority="STAT", state="queued") == pytest.approx(
        15, abs=60
    )
    assert value(found, "wetread_jobs", kind="deliver", priority="ROUTINE", state="dead") == 1
    assert value(found, "wetread_destination_up", destination="his") == 0
    assert value(found, "wetread_destination_up", destination="pacs") == 1
    assert value(found, "wetread_destination_jobs", destination="his", state="queued") == 4
    assert value(found, "wetread_destination_failures", destination="his") == 12
    assert value(found, "wetread_processes", role="work") == 1
    assert value(found, "wetread_processes", role="web") == 0
    assert value(found, "wetread_database_up") == 1


def test_counts_add_up_over_processes_and_restarts(settings: Settings, db: Database) -> None:
    for seconds in ((0.004, 0.3), (0.3, 5000.0)):
        one = Measures()  # of one process, in one of its lives
        for value_s in seconds:
            one.observe(measures.STEP, value_s, step="decode")
        one.count(measures.INSTANCES, 3, outcome="stored")
        with db.write() as conn:
            add_measures(conn, one.take())
    found = samples(page(settings, db))
    assert value(found, "wetread_instances_total", outcome="stored") == 6
    assert value(found, "wetread_instances_total", outcome="refused") == 0
    bounds = {dict(labels)["le"]: number for (name, labels), number in found.items()
              if name == "wetread_step_seconds_bucket" and ("step", "decode") in labels}  # fmt: skip
    assert (bounds["0.005"], bounds["0.25"], bounds["0.5"], bounds["1800"], bounds["7200"], bounds["+Inf"]) == (
        1,
        1,
        3,
        3,
        4,
        4,
    )
    assert value(found, "wetread_step_seconds_sum", step="decode") == pytest.approx(5000.604)
    assert value(found, "wetread_step_seconds_count", step="decode") == 4


def test_gauges_are_told_by_living_processes_only(settings: Settings, db: Database) -> None:
    one = Measures()
    one.gauge(measures.ASSOCIATIONS_OPEN, 3)
    with db.write() as conn:
        set_gauges(conn, "host-a~x~y:1:2:listen", one.gauges(), db.now())
        set_gauges(conn, "host-a~x~y:3:4:listen", one.gauges(), db.now())
        set_gauges(conn, "host-b~x~y:1:2:listen", one.gauges(), db.now() - 120)
    found = samples(page(settings, db))
    assert {
        dict(labels)["host"]: number for (name, labels), number in found.items() if name == "wetread_associations_open"
    } == {"host-a": 6}


def test_a_database_that_does_not_answer_is_a_metric_of_its_own(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Database) -> None:
        raise StorageBusy("locked")

    monkeypatch.setattr(Database, "read", fail)
    found = samples(page(settings, db))
    assert value(found, "wetread_database_up") == 0


def test_no_label_holds_a_uid_an_address_or_a_patient(settings: Settings, db: Database, stocked: Stock) -> None:
    text = page(settings, db)
    for told in (stocked.delivered, stocked.dead, "10.1.2.3", "MODALITY1", "ACC-4711", "PHANTOM"):
        assert told not in text


@pytest.mark.parametrize("labels", [{}, {"step": "coffee"}, {"step": "decode", "study": "1.2.3"}, {"study": "1.2.3"}], ids=str)
def test_a_label_that_was_not_declared_cannot_be_used(labels: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        Measures().observe(measures.STEP, 1, **labels)


def test_the_page_is_what_openmetrics_and_prometheus_expect(browser: TestClient, keys: Mapping[Any, str]) -> None:
    key = {"authorization": f"Bearer {keys['metrics']}"}
    assert browser.get("/metrics", headers=key).headers["content-type"].startswith("text/plain; version=")
    wished = {**key, "accept": "application/openmetrics-text; version=1.0.0"}
    answer = browser.get("/metrics", headers=wished)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert browser.get("/metrics").status_code == 401


def test_promtool_finds_nothing_wrong_with_the_page(settings: Settings, db: Database, stocked: Stock) -> None:
    assert stocked
    told = promtool("check", "metrics", text=page(settings, db))
    assert told.returncode == 0, told.stderr


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and what it asks."""
    for panel in json.loads(BOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield f"board: {panel['title']}", target["expr"]
    for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield f"alert: {rule['alert']}", rule["expr"]


@pytest.fixture
def told(settings: Settings, db: Database, stocked: Stock) -> dict[str, dict[str, set[str]]]:
    """Every metric of a page with the values of its labels; those of drift and GPUs are told in by hand."""
    assert stocked
    one = Measures()
    one.gauge(measures.ASSOCIATIONS_OPEN, 1)
    for metric in (measures.GPU_BUSY, measures.GPU_MEMORY_USED, measures.GPU_MEMORY_TOTAL):
        one.gauge(metric, 1, gpu="0")
    with db.write() as conn:
        set_gauges(conn, "host:1:2:work", one.gauges(), db.now())
    found: dict[str, dict[str, set[str]]] = {
        name: {"reading": set(), "scanner": set(), "signal": set()} for name in ("wetread_drift_alarm", "wetread_drift_effect")
    }
    for name, labels in samples(page(settings, db)):
        for label, value in labels:
            found.setdefault(name, {}).setdefault(label, set()).add(value)
        found.setdefault(name, {})
    families = [family.name for family in text_string_to_metric_families(page(settings, db))]
    assert {"wetread_drift_alarm", "wetread_drift_effect"} <= set(families)
    return found


def test_boards_and_alerts_ask_only_for_what_is_told(told: dict[str, dict[str, set[str]]]) -> None:
    asked = list(expressions())
    assert len(asked) > 40
    for where, expression in asked:
        selectors = re.findall(r"(wetread_\w+)(?:\{([^}]*)\})?", expression)
        assert selectors, where
        for name, matchers in selectors:
            assert name in told, f"{where}: there is no {name}"
            for label, operator, wanted in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
                if label == "instance":
                    continue
                assert label in told[name], f"{where}: {name} has no label {label}"
                for value in wanted.split("|"):
                    assert operator == "=~" or value in told[name][label], f"{where}: no {name} with {label} {value}"
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            known = set().union(*(told[name] for name, _ in selectors))
            assert {label.strip() for label in grouped.split(",")} <= known, where


def test_every_metric_that_is_declared_is_on_the_page(told: dict[str, dict[str, set[str]]]) -> None:
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    assert {metric.name + suffix[metric.kind] for metric in measures.declared()} <= set(told)
    assert told["wetread_events_total"]["kind"] == {kind.value for kind in EventKind}


def test_promtool_can_read_every_expression_of_the_board(tmp_path: Path) -> None:
    rules = [{"record": f"board:{at}", "expr": _with_values(expr)} for at, (_, expr) in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}), "utf-8")
    told = promtool("check", "rules", str(file))
    assert told.returncode == 0, told.stderr
    told = promtool("check", "rules", str(ALERTS))
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize(
    ("alert", "series", "minutes"),
    [
        ("WetReadGivenUp", {'wetread_jobs{kind="read",priority="STAT",state="dead",instance="a"}': "2x60"}, 5),
        ("WetReadStatWaits", {'wetread_jobs_oldest_seconds{kind="read",priority="STAT",state="queued"}': "0+60x60"}, 10),
        ("WetReadDestinationDown", {'wetread_destination_up{destination="pacs"}': "0x60"}, 12),
        ("WetReadPartMissing", {'wetread_processes{role="work"}': "0x60"}, 3),
        ("WetReadRefusesImages", {'wetread_instances_total{outcome="refused"}': "0+1x60"}, 12),
        ("WetReadDiskShort", {"wetread_disk_free_bytes": "10x60", "wetread_disk_watermark_bytes": "8x60"}, 8),
        ("WetReadDatabaseDown", {"wetread_database_up": "0x60"}, 3),
    ],
)
def test_an_alert_fires_when_it_should_and_only_then(tmp_path: Path, alert: str, series: dict[str, str], minutes: int) -> None:
    quiet = {name: re.sub(r"^.*x", "1e9x", values) if "up" in name or "processes" in name or "free" in name else "0x60"
             for name, values in series.items()}  # fmt: skip
    tests = [_unit(series, alert, minutes, fires=True), _unit(quiet, alert, minutes, fires=False)]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}), "utf-8")
    told = promtool("test", "rules", str(file))
    assert told.returncode == 0, told.stdout + told.stderr


def _unit(series: dict[str, str], alert: str, minutes: int, *, fires: bool) -> dict[str, Any]:
    """By `promtool test rules`: how many of the alert fire after so many minutes."""
    count = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": count, "eval_time": f"{minutes}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
        ],
    }


def _with_values(expression: str) -> str:
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Prometheus' own checker. Skips where it is not installed."""
    program = shutil.which("promtool", path=f"{os.environ['PATH']}:{ROOT / '.venv' / 'promtool' / 'usr' / 'bin'}")
    if program is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=False, timeout=60)
