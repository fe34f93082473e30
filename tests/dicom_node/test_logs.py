"""Logs: what is not on the list does not come out, whatever it is called."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["json", "console"])
def test_only_listed_keys_come_out(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure("info", form)
    structlog.get_logger().info("stored", study_uid="1.2.3", patient_name="DOE^JANE", PatientID="4711", count=2)
    out = capsys.readouterr()
    assert out.out == ""
    assert "1.2.3" in out.err
    assert "stored" in out.err
    assert "DOE" not in out.err
    assert "4711" not in out.err
    assert "2 keys withheld" in out.err


def test_bound_and_context_keys_are_held_back_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger().bind(accession="A-17").info("read", job=4)
    entry = json.loads(capsys.readouterr().err)
    assert entry["job"] == 4
    assert "A-17" not in json.dumps(entry)


def test_an_exception_brings_no_traceback_with_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("DOE^JANE")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "DOE" not in capsys.readouterr().err


def test_a_json_line_is_one_object_with_level_and_utc_time(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger().warning("first\nsecond", job=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    entry = json.loads(lines[0])
    assert (entry["event"], entry["level"]) == ("first\nsecond", "warning")
    assert entry["timestamp"].endswith("Z")


LEVELS = {"debug": 4, "info": 3, "warning": 2, "error": 1}


@pytest.mark.parametrize(("level", "count"), LEVELS.items())
def test_the_level_decides_what_comes_out(capsys: pytest.CaptureFixture[str], level: str, count: int) -> None:
    logs.configure(level, "json")
    log = structlog.get_logger()
    for name in LEVELS:
        getattr(log, name)("said")
    assert len(capsys.readouterr().err.splitlines()) == count


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text()))
def test_nothing_but_listed_keys_passes(entry: dict[str, str]) -> None:
    passed = logs.only_allowed_keys(None, "info", dict(entry))
    assert set(passed) <= logs.ALLOWED_KEYS
    assert all(passed[key] == entry[key] for key in set(entry) & logs.ALLOWED_KEYS - {"reason"})


@pytest.mark.parametrize(
    "key", ["patient_name", "patient_id", "birth_date", "accession", "accession_number", "mrn", "exc_info"]
)
def test_no_key_of_a_person_is_on_the_list(key: str) -> None:
    assert key not in logs.ALLOWED_KEYS


def test_the_same_warning_is_written_once_in_half_a_minute_and_then_counted() -> None:
    now = 100.0
    without = logs.NoRepeats(lambda: now)

    def write(**entry: str) -> dict[str, object] | None:
        try:
            return dict(without(None, "", {"level": "warning", "timestamp": str(now), **entry}))
        except structlog.DropEvent:
            return None

    assert write(event="away") is not None
    assert [write(event="away") for _ in range(3)] == [None] * 3
    assert write(event="away", destination="pacs") is not None
    assert write(event="away", level="info") is not None
    assert write(event="away", level="info") is not None
    now += 31
    told = write(event="away")
    assert told is not None
    assert told["count"] == 3
    assert write(event="away") is None


@pytest.mark.parametrize("library", ["uvicorn.error", "asyncio"])
def test_a_librarys_fault_is_told_without_the_words_of_its_exception(capsys: pytest.CaptureFixture[str], library: str) -> None:
    """What would otherwise be a traceback amid lines of JSON."""
    logs.configure("info", "json")
    try:
        raise ValueError("DOE^JANE")
    except ValueError as error:
        logging.getLogger(library).error("Exception in a task\nfuture: %r", error, exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["event"] == f"{library.partition('.')[0]}: Exception in a task"
    assert entry["error"].startswith("ValueError in test_logs.py:")
    assert "DOE" not in line
