"""`wetread check` for the site: each misconfiguration is found for the reason it has."""

from __future__ import annotations

import datetime
import errno
import json
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from cryptography import x509
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_node import app, checks, site_checks
from dicom_node.certificates import expiries
from dicom_node.check_item import Item, State
from dicom_node.errors import SettingsError
from dicom_node.settings import Settings, load_settings
from tests.acceptance.harness.outbox import certificate
from tests.acceptance.harness.processes import free_port
from tests.dicom_node.audit.repository import Repository
from tests.dicom_node.test_checks import LEAKY_PEER

BASE: dict[str, Any] = {"listener": {"port": 0, "allowed": [{"ae_title": "PACS", "hosts": ["127.0.0.1"]}]}}


def _settings(folder: Path, **changes: Any) -> Settings:
    (folder / "node.yaml").write_text(yaml.safe_dump({**BASE, **changes}), "utf-8")
    return load_settings(folder / "node.yaml")


def _says(items: list[Item], state: State, text: str) -> None:
    assert any(item.state is state and text in item.text for item in items), [(item.state, item.text) for item in items]


def _secret(folder: Path, mode: int) -> dict[str, Any]:
    (folder / "token").write_text("secret\n")
    (folder / "token").chmod(mode)
    return {"destinations": {"record": {"kind": "fhir", "url": "http://127.0.0.1:9/r4", "token_file": "token"}}}


def test_a_secret_that_others_may_read(tmp_path: Path) -> None:
    _says(list(site_checks.secrets(_settings(tmp_path, **_secret(tmp_path, 0o644)))), State.WARNING, "chmod 600")
    _says(list(site_checks.secrets(_settings(tmp_path, **_secret(tmp_path, 0o600)))), State.OK, "1 files")


def test_a_secret_that_is_missing_is_named_by_its_key(tmp_path: Path) -> None:
    changes = _secret(tmp_path, 0o600)
    (tmp_path / "token").unlink()
    found = list(site_checks.secrets(_settings(tmp_path, **changes)))
    _says(found, State.FAILED, "`destinations.record.token_file`")
    assert [item.state for item in found] == [State.FAILED]


def test_the_end_of_a_certificate_agrees_with_another_reader(tmp_path: Path) -> None:
    file, _ = certificate(tmp_path, "node")
    expected = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
    assert expiries(file) == (expected,)
    both = tmp_path / "both.pem"
    both.write_bytes(file.read_bytes() * 2)
    assert expiries(both) == (expected, expected)
    both.write_text("no certificate")
    with pytest.raises(ValueError, match="PEM"):
        expiries(both)


@pytest.mark.parametrize(
    ("days", "state", "text"), [(0, State.WARNING, "renew"), (2, State.FAILED, "ended on"), (-60, State.OK, "ends on")]
)
def test_a_certificate_that_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, state: State, text: str
) -> None:
    """It is valid for a day; ``days``: the clock's, from now."""
    file, key = certificate(tmp_path, "node")
    settings = _settings(tmp_path, listener={**BASE["listener"], "tls": {"certificate_file": str(file), "key_file": str(key)}})
    now = time.time() + days * 86400
    monkeypatch.setattr(site_checks.time, "time", lambda: now)
    _says(list(site_checks.certificates(settings)), state, text)
    assert datetime.datetime.now(datetime.UTC).timestamp() != now or days == 0


def test_two_services_on_one_port_and_a_port_that_is_taken(tmp_path: Path) -> None:
    port = free_port()
    listener = {**BASE["listener"], "port": port}
    web = {"enabled": True, "port": port}
    _says(list(site_checks.ports(_settings(tmp_path, listener=listener, web=web))), State.FAILED, "is that of")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        web = {"enabled": True, "port": taken.getsockname()[1]}
        _says(list(site_checks.ports(_settings(tmp_path, listener=listener, web=web))), State.FAILED, "held by another program")
    assert list(site_checks.ports(_settings(tmp_path, listener=listener))) == []


def test_a_node_that_would_send_to_itself(tmp_path: Path) -> None:
    loop = {"kind": "dicom", "host": "127.0.0.1", "port": 11112, "ae_title": "WETREAD"}
    listener = {"port": 11112, "allowed": [{"ae_title": "WETREAD", "hosts": ["10.0.0.0/8"]}] * 2}
    found = list(site_checks.titles(_settings(tmp_path, listener=listener, destinations={"loop": loop})))
    _says(found, State.FAILED, "this node itself")
    _says(found, State.WARNING, "our own title")
    _says(found, State.WARNING, "2 times")


@pytest.mark.parametrize(
    ("retention", "listener", "state", "text"),
    [
        pytest.param({}, {}, State.OK, "30 days", id="as shipped"),
        pytest.param({"images_days": 0, "high": None, "low": None}, {}, State.WARNING, "the disk will fill", id="nothing goes"),
        pytest.param({"high": "99.999%", "low": "80%"}, {}, State.WARNING, "refused before any goes", id="watermarks cross"),
    ],
)
def test_retention(tmp_path: Path, retention: dict[str, Any], listener: dict[str, Any], state: State, text: str) -> None:
    settings = _settings(tmp_path, retention=retention, listener={**BASE["listener"], **listener})
    _says([site_checks.retention(settings)], state, text)


def test_the_audit_repository_is_tried(tmp_path: Path) -> None:
    repository = Repository()
    where = {"kind": "tcp", "host": "127.0.0.1", "port": repository.port, "timeout_s": 2}
    _says(list(site_checks.audit(_settings(tmp_path, audit={"repository": where}))), State.WARNING, "sent unencrypted")
    repository.stop()
    _says(list(site_checks.audit(_settings(tmp_path, audit={"repository": where}))), State.FAILED, "audit repository 127.0.0.1")
    assert list(site_checks.audit(_settings(tmp_path))) == []


def _serving(offset_s: float) -> tuple[str, Callable[[], None]]:
    class Late(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
            return super().date_time_string(time.time() + offset_s)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Late)
    thread = Thread(target=server.serve_forever)
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return f"http://127.0.0.1:{server.server_port}", stop


@pytest.mark.parametrize(("offset", "state", "text"), [(0, State.OK, "agrees with record"), (90, State.WARNING, "ahead of")])
def test_the_clock_is_held_against_a_peers(tmp_path: Path, offset: float, state: State, text: str) -> None:
    url, stop = _serving(offset)
    settings = _settings(tmp_path, destinations={"record": {"kind": "fhir", "url": url}})
    try:
        _says(list(site_checks.clock_offset(settings)), state, text)
    finally:
        stop()


def test_without_a_peer_the_kernel_says_whether_the_clock_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_checks, "synchronised", lambda: False)
    _says(list(site_checks.clock_offset(_settings(tmp_path))), State.WARNING, "NTP")


@LEAKY_PEER
def test_an_archive_that_does_not_answer(tmp_path: Path) -> None:
    gone = {"kind": "dicom", "host": "127.0.0.1", "port": free_port(), "ae_title": "GONE", "timeout_s": 1}
    (item,) = site_checks.archives(_settings(tmp_path, peers={"old": gone}))
    assert (item.name, item.state) == ("peer old", State.FAILED)


@LEAKY_PEER
def test_the_addresses_that_peers_are_sent_to_are_called(tmp_path: Path) -> None:
    entity = AE("HERE")
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    places = {"HERE": server.server_address[1], "GONE": free_port()}
    told = {title: {"host": "127.0.0.1", "port": port, "timeout_s": 2} for title, port in places.items()}
    try:
        found = list(site_checks.addresses(_settings(tmp_path, query={"addresses": told})))
    finally:
        server.shutdown()
    assert {one.name: one.state for one in found} == {"address HERE": State.OK, "address GONE": State.FAILED}


def test_priors_without_an_archive_are_told(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("routes: [{name: all, reading: chest_xray, priors: {count: 1}}]")
    settings = _settings(tmp_path, routes="routes.yaml")
    with pytest.raises(SettingsError, match=r"study\.archive"):
        app.routes_of(settings)


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    assert site_checks.disk_writes(tmp_path / "not yet") is None
    found = site_checks.disk_writes(tmp_path)
    assert found is not None
    assert found.state in (State.OK, State.WARNING)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_became_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux refuses even to remove what is not there."""

    def refused(*_args: object, **_more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    found = site_checks.disk_writes(tmp_path)
    assert found is not None
    assert (found.state, "Read-only" in found.text) == (State.FAILED, True)


def test_json_and_the_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.run(tmp_path / "none.yaml", as_json=True) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [(item["name"], item["state"]) for item in answer["items"]] == [("settings", "failed")]
