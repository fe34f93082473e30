"""`wetread web` as a process: over TLS, told to stop, and not where others could listen in."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.nodes import list_nodes
from tests.acceptance.harness.processes import ROOT, free_port

from .certificates import certificate


def test_pages_over_tls_until_told_to_stop(settings: Settings, db: Database, tmp_path: Path) -> None:
    certificate(tmp_path)
    port = free_port()
    tree = yaml.safe_load((tmp_path / "node.yaml").read_text())
    tree["web"] = {"port": port, "tls": {"certificate_file": "node.pem", "key_file": "node.key"}}
    (tmp_path / "tls.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    command = [sys.executable, "-m", "dicom_node.cli", "web", "--config", str(tmp_path / "tls.yaml")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            context = ssl.create_default_context(cafile=str(tmp_path / "node.pem"))
            answer = _answer(f"https://localhost:{port}/livez", context, process)
            assert answer.json()["ok"] is True
            assert "max-age" in answer.headers["strict-transport-security"]
            assert "server" not in answer.headers
            with db.read() as conn:
                assert {row.role for row in list_nodes(conn)} == {"web"}
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://localhost:{port}/livez", trust_env=False)
        finally:
            process.terminate()
            _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "Traceback" not in told
    with db.read() as conn:
        assert list_nodes(conn) == ()  # a clean end is no loss
    assert settings.web.local


def _answer(url: str, context: ssl.SSLContext, process: subprocess.Popen[str]) -> httpx.Response:
    end = time.monotonic() + 60
    while True:
        try:
            return httpx.get(url, verify=context, trust_env=False)
        except httpx.TransportError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.2)


def test_a_port_that_is_taken_is_told(tmp_path: Path, settings: Settings) -> None:
    import socket

    from dicom_node.app import showing
    from dicom_node.errors import ListenError

    assert settings
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "taken.yaml").write_text(f"data: data\nweb: {{port: {taken.getsockname()[1]}}}\n", "utf-8")
        with pytest.raises(ListenError, match="cannot listen on port"):
            showing.web(tmp_path / "taken.yaml", 0)
