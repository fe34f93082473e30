"""The audit trail with a repository of others: rsyslog over mutual TLS (IHE ATNA, RFC 5425), which goes away and comes back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from lxml import etree

from dicom_node.web.accounts import Accounts, Role, new_user, write_accounts
from tests.dicom_node.audit.test_messages import SCHEMA

from .harness.node import QUICK, environment
from .harness.outbox import certificate
from .harness.processes import ROOT, Running, free_port, require, wait_for

PASSWORD = "correct horse battery"
STARTED, STOPPED, LOGGED_IN = "110120", "110121", "110122"  # DCM: Application Start, Application Stop, Login
CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{trusted}" defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer=["node"])
template(name="told" type="list") {{
  property(name="pri") constant(value=" ") property(name="app-name") constant(value=" ") property(name="msgid")
  constant(value=" ") property(name="msg") constant(value="\\n")
}}
input(type="imtcp" port="{port}" address="127.0.0.1")
action(type="omfile" file="{out}" template="told")
"""


@dataclass(frozen=True, slots=True)
class Told:
    """A line as rsyslog took it apart."""

    priority: int
    application: str
    kind: str
    message: etree._Element

    @property
    def event(self) -> str:
        kind = self.message.find("EventIdentification/EventTypeCode")
        return "" if kind is None else str(kind.get("csd-code"))

    @property
    def outcome(self) -> int:
        """0 success, 4 minor failure."""
        return int(self.message.find("EventIdentification").get("EventOutcomeIndicator"))


class Rsyslog:
    """It lets in whose certificate names it `node`, and writes each message on a line."""

    def __init__(self, folder: Path, trusted: Path, ours: tuple[Path, Path]) -> None:
        self.program, self.port, self._starts = require("rsyslogd", "rsyslog"), free_port(), 0
        if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
            pytest.skip("rsyslog's TLS is not installed (Debian package rsyslog-gnutls)")
        self._folder, self._out = folder, folder / "told"
        places = {"trusted": trusted, "certificate": ours[0], "key": ours[1], "out": self._out}
        (folder / "rsyslog.conf").write_text(CONFIGURATION.format(folder=folder, port=self.port, **places), "utf-8")

    def start(self) -> Running:
        self._starts += 1
        files = ("-f", self._folder / "rsyslog.conf", "-i", self._folder / f"pid-{self._starts}")
        return Running("rsyslogd", [self.program, "-n", *files], self._folder / f"rsyslog-{self._starts}.log")

    def told(self) -> list[Told]:
        whole = self._out.read_text("utf-8").rpartition("\n")[0] if self._out.exists() else ""
        return [self._parsed(line) for line in whole.split("\n") if line]

    def _parsed(self, line: str) -> Told:
        priority, application, kind, xml = line.split(" ", 3)
        return Told(int(priority), application, kind, etree.fromstring(xml.lstrip("\ufeff ").encode()))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with certificates, a users file and the settings of a node; the port of its pages is in the settings."""
    for name in ("node", "repository"):
        certificate(tmp_path, name)
    write_accounts(tmp_path / "users.yaml", Accounts({"anna": new_user(Role.OPERATOR, PASSWORD)}, {}))
    return tmp_path


def settings(site: Path, port: int) -> int:
    """Writes them; returns the port of the pages."""
    tls = {"ca_file": "repository.pem", "certificate_file": "node.pem", "key_file": "node.key"}
    repository = {"kind": "tls", "host": "127.0.0.1", "port": port, "tls": tls, "timeout_s": 5}
    pages = {"port": free_port(), "users_file": "users.yaml"}
    tree = {**QUICK, "data": "data", "audit": {"repository": repository}, "web": pages}
    (site / "node.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    return pages["port"]


def part(site: Path, name: str) -> Running:
    command = [sys.executable, "-m", "dicom_node.cli", name, "--config", site / "node.yaml"]
    return Running(name, command, site / f"{name}.log", environment(), cwd=ROOT)


def test_rsyslog_gets_every_message_in_order_though_it_was_away(site: Path) -> None:
    rsyslog = Rsyslog(site, site / "node.pem", (site / "repository.pem", site / "repository.key"))
    pages = settings(site, rsyslog.port)
    running = [rsyslog.start(), part(site, "deliver"), part(site, "web")]
    repository, deliver = running[:2]
    try:
        wait_for("the start of the deliverer to be told", lambda: STARTED in events(rsyslog), seconds=120)
        with httpx.Client(base_url=f"http://127.0.0.1:{pages}", trust_env=False, timeout=60) as browser:
            wait_for("the pages", lambda: answers(browser), seconds=120)
            repository.kill()
            for password in ("wrong", PASSWORD):
                browser.post("/login", data={"name": "anna", "password": password})
        running[0] = rsyslog.start()
        wait_for("both logins to be told", lambda: len(set(logins(rsyslog))) == 2, seconds=120)
        assert list(dict.fromkeys(logins(rsyslog))) == [4, 0], "the failure came first, and may have come twice"
        assert deliver.stop() == 0
        running[1] = part(site, "deliver")
        wait_for("the end of the first to be told by the next", lambda: STOPPED in events(rsyslog), seconds=120)
    finally:
        for one in running:
            one.kill_session()
    told = rsyslog.told()
    assert {(one.application, one.kind) for one in told} == {("WetRead", "DICOM+RFC3881")}
    assert {one.priority for one in told} == {85, 84}  # security, notice and warning (RFC 5424 section 6.2.1)
    assert all(SCHEMA.validate(one.message) for one in told), SCHEMA.error_log
    assert PASSWORD not in "".join(etree.tostring(one.message, encoding="unicode") for one in told)


def test_rsyslog_lets_nobody_else_in(site: Path) -> None:
    """Whoever shows another certificate is refused, and what it has to tell is kept."""
    certificate(site, "stranger")
    rsyslog = Rsyslog(site, site / "stranger.pem", (site / "repository.pem", site / "repository.key"))
    settings(site, rsyslog.port)
    text = (site / "node.yaml").read_text("utf-8")
    (site / "node.yaml").write_text(text.replace("node.pem", "stranger.pem").replace("node.key", "stranger.key"), "utf-8")
    repository, deliver = rsyslog.start(), part(site, "deliver")
    try:
        wait_for("the refusal", lambda: "cannot be sent" in (site / "deliver.log").read_text("utf-8"), seconds=120)
        assert deliver.alive
        assert rsyslog.told() == []
    finally:
        deliver.kill_session()
        repository.kill_session()


def events(rsyslog: Rsyslog) -> set[str]:
    return {one.event for one in rsyslog.told()}


def logins(rsyslog: Rsyslog) -> list[int]:
    """Their outcomes."""
    return [one.outcome for one in rsyslog.told() if one.event == LOGGED_IN]


def answers(browser: httpx.Client) -> bool:
    try:
        return browser.get("/livez").status_code == 200
    except httpx.TransportError:
        return False
