"""`wetread web` as a process: over TLS, told to stop, and not where others could listen in."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    from dicom_node.app import showing
    from dicom_node.errors import ListenError

    assert settings
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "taken.yaml").write_text(f"data: data\nweb: {{port: {taken.getsockname()[1]}}}\n", "utf-8")
        with pytest.raises(ListenError, match="cannot listen on port"):
            showing.web(tmp_path / "taken.yaml", 0)


@contextlib.contextmanager
def served(most: int, request_s: float) -> Iterator[int]:
    """A port where uvicorn serves ``most`` connections at once, by our protocol with a time of its own."""
    import uvicorn

    from dicom_node.web.prompt import PromptProtocol

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    protocol = type("Quick", (PromptProtocol,), {"request_s": request_s})
    config = uvicorn.Config(app, http=protocol, log_config=None, access_log=False, lifespan="off", limit_concurrency=most)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /livez HTT", id="half of a request"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", id="half of a body"),
    ],
)
def test_peers_that_say_too_little_shut_nobody_out(said: bytes) -> None:
    with served(most=4, request_s=1.0) as port, contextlib.ExitStack() as held:
        for _ in range(8):
            peer = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            peer.sendall(said)
        end = time.monotonic() + 60
        while httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code != 200:
            assert time.monotonic() < end, "the silent ones are kept for ever"
            time.sleep(0.2)


def test_whoever_drips_gains_no_time_and_a_whole_request_has_as_much_as_it_takes() -> None:
    with served(most=9, request_s=1.0) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
            dripping = threading.Event()

            def drip() -> None:
                with contextlib.suppress(OSError):
                    while not dripping.wait(0.1):
                        peer.sendall(b"X")

            thread = threading.Thread(target=drip)
            thread.start()
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(1) == b""
            dripping.set()
            thread.join()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert [client.get("/").status_code, client.post("/", content=b"x" * 999).status_code] == [200, 200]
