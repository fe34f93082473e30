"""The demo's node process: what its log tells, and a start that fails."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dicom_node.demo import node
from dicom_node.demo.node import DemoError, log_lines, running_node
from dicom_node.demo.place import make_place


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_log_lines_passes_over_what_is_no_whole_object(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    log.write_text('{"event": "listening", "port": 7}\nTraceback …\n["list"]\n\n{"event": "wor', "utf-8")
    assert list(log_lines(log)) == [{"event": "listening", "port": 7}]


def test_waiting_finds_the_event(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / "log").write_text('{"event": "listening", "port": 7}\n', "utf-8")
    assert node._wait_for(sleeper, tmp_path / "log", "listening", time.monotonic() + 1)["port"] == 7


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param('{"event": "x", "command": "work", "status": 2}', "reading process cannot start", id="its worker ends"),
        pytest.param('{"event": "x", "reason": "slow"}', "was not working within", id="too slow"),
    ],
)
def test_waiting_in_vain_says_why(tmp_path: Path, sleeper: subprocess.Popen[bytes], log: str, said: str) -> None:
    (tmp_path / "log").write_text(log + "\n", "utf-8")
    with pytest.raises(DemoError, match=said) as raised:
        node._wait_for(sleeper, tmp_path / "log", "working", time.monotonic() + 0.3)
    assert log in str(raised.value)


def test_a_node_that_cannot_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    place = make_place(tmp_path / "out")
    tree = yaml.safe_load(place.settings.read_text("utf-8"))
    tree["readings"]["chest_xray"]["triage"] = "nowhere"
    place.settings.write_text(yaml.safe_dump(tree), "utf-8")
    with pytest.raises(DemoError, match="status 2") as raised, running_node(place):
        pytest.fail("a node without its model must not run")
    assert "nowhere: no model bundle here" in str(raised.value)


def test_settings_in_the_environment_do_not_reach_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WETREAD_LISTENER__PORT", "104")
    monkeypatch.setenv("WETREAD_ENGINE__DEVICE", "cpu")
    environment = node._environment()
    assert "WETREAD_LISTENER__PORT" not in environment
    assert environment["WETREAD_ENGINE__DEVICE"] == "cpu"
