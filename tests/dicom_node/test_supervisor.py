"""The node's children are kept running, whatever keeps them from it for a while."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node import supervisor


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"  # as while the node's own programs are being replaced
    monkeypatch.setattr(supervisor, "_command", lambda *_: [str(program), "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"])
    again = threading.Event()
    with capture_logs() as logs, supervisor.children(tmp_path / "node.yaml", threading.Event(), ("work",)):
        again.wait(0.3)
        program.symlink_to(sys.executable)
        for _ in range(100):
            if (tmp_path / "ran").exists():
                break
            again.wait(0.1)
    assert (tmp_path / "ran").exists()
    assert [line["event"] for line in logs][:2] == [
        "a process of the node cannot be started",
        "a process of the node ended; it will be started again",
    ]
