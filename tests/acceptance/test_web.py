"""The pages of a real node in a real browser: log in, see, try routes before they are live, run again what was given up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dicom_node.storage.jobs import JobKind, JobState
from dicom_node.web.accounts import Accounts, Role, new_key, new_user, write_accounts

from .harness import films
from .harness.dcmtk import accepted, storescu
from .harness.node import Node, wetread
from .harness.processes import ROOT, Running, free_port, require, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASSWORD = "correct horse battery"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
CANDIDATE = """
routes:
  - name: films at night
    when: {modality: DX, hours: "22:00-06:00"}
    reading: chest_xray
    priority: STAT
    destinations: [pacs]
  - {name: the rest, reading: chest_xray, destinations: [archive]}
"""
COUNTED = (
    'instances_total{outcome="stored"}',
    'associations_total{outcome="accepted"}',
    'studies_completed_total{because="quiet"}',
    'studies_read_total{outcome="read"}',
    *(
        f'step_seconds_count{{step="{step}"}}'
        for step in ("receive", "wait", "decode", "triage", "documents", "read", "delivery", "total")
    ),
)


@dataclass(frozen=True, slots=True)
class Site:
    """A node with pages whose PACS was away for so long that a delivery was given up. ``study``: whose it is."""

    node: Node
    url: str
    key: str
    study: str
    pacs_port: int
    folder: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("web")
    pacs_port, web_port = free_port(), free_port()
    destinations = {
        "archive": {"kind": "folder", "path": str(folder / "archive")},
        "pacs": {"kind": "dicom", "host": "127.0.0.1", "port": pacs_port, "ae_title": "PACS", "timeout_s": 5,
                 "documents": ["findings-sr"]},
    }  # fmt: skip
    web = {"enabled": True, "port": web_port, "users_file": "users.yaml"}
    impatient = {"give_up_hours": 0.0001, "breaker_failures": 100}
    node = Node(folder / "node", destinations, web=web, delivery=impatient)
    key, kept = new_key(Role.METRICS)
    people = {"anna": new_user(Role.OPERATOR, PASSWORD)}
    write_accounts(node.folder / "users.yaml", Accounts(people, {"prometheus": kept}))
    try:
        node.start()
        node.wait_until_working()
        study, film = films.film(folder / "films", 7)
        assert accepted(storescu(node.port, [film])) == 1
        node.wait_settled([study])
        yield Site(node, f"http://127.0.0.1:{web_port}", key, study, pacs_port, folder)
        assert node.stop() == 0
    finally:
        node.end()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = require("chromium", "chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(site: Site, chromium: Browser) -> Iterator[Page]:
    """Somebody who is not logged in yet. Whatever the browser complains of fails the test."""
    complaints: list[str] = []
    with closing(chromium.new_context(viewport={"width": 1280, "height": 900})) as context:
        shown = context.new_page()
        shown.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(site.url)
        yield shown
    assert not [one for one in complaints if "status of 422" not in one]  # routes that cannot be used are answered so


def log_in(page: Page) -> None:
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def test_the_overview_shows_the_node_and_what_needs_a_hand(site: Site, page: Page) -> None:
    assert page.url == f"{site.url}/login"
    log_in(page)
    page.screenshot(path=site.folder / "overview.png", full_page=True)
    text = page.locator("main").inner_text()
    assert "1 delivery to pacs given up" in text
    processes = page.get_by_role("table").last.inner_text()
    assert {"listen", "work", "deliver", "web"} <= set(processes.split())
    assert processes.count("ready") == 4


def test_routes_are_tried_on_a_received_study_and_stay_as_they_are(site: Site, page: Page) -> None:
    log_in(page)
    page.get_by_role("link", name="Routes").click()
    page.get_by_label("Routes as YAML; empty: those in force").fill(CANDIDATE)
    page.get_by_label(site.study).check()
    for at, route in (("2026-11-02T23:30", "films at night"), ("2026-11-02T12:00", "the rest")):
        page.get_by_label("As if complete at").fill(at)
        page.get_by_role("button", name="Try").click()
        verdict = page.get_by_role("article").inner_text()
        assert f"Route {route}: reading chest_xray" in " ".join(verdict.split())
        assert ("yes hours: 22:00-06:00" in " ".join(verdict.split())) == (route == "films at night")
    page.screenshot(path=site.folder / "routes.png", full_page=True)
    page.get_by_label("Routes as YAML; empty: those in force").fill("routes: [{name: x, reading: none}]")
    page.get_by_role("button", name="Try").click()
    assert "reading 'none' is not in the settings" in page.get_by_role("alert").inner_text()
    assert "films at night" not in page.get_by_role("table").last.inner_text()


def test_what_was_given_up_runs_again_when_its_cause_is_gone(site: Site, page: Page) -> None:
    log_in(page)
    page.get_by_role("link", name="Given up").click()
    assert page.get_by_role("checkbox").count() == 1
    (site.folder / "pacs").mkdir()
    command = [require("storescp", "dcmtk"), "-aet", "PACS", "-od", site.folder / "pacs", site.pacs_port]
    pacs = Running("storescp", command, site.folder / "storescp.log")
    try:
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Run the chosen again").click()
        assert "1 run again." in page.get_by_role("status").inner_text()
        wait_for("the delivery", lambda: delivered(site), seconds=30)
    finally:
        pacs.stop()
    assert len(list((site.folder / "pacs").iterdir())) == 1
    page.goto(f"{site.url}/studies/{site.study}")
    page.screenshot(path=site.folder / "study.png", full_page=True)
    assert "because nothing came for 1.5 s" in page.locator("main").inner_text()
    page.get_by_role("link", name="Overview").click()
    page.get_by_text("Nothing needs a hand.").wait_for()
    status = wetread("status", "--config", site.node.config)
    assert (status.returncode, "nothing needs a hand" in status.stdout) == (0, True), status.stdout + status.stderr


def delivered(site: Site) -> bool:
    jobs = site.node.jobs(site.study, JobKind.DELIVER)
    return all(job.state is JobState.DONE for job in jobs)


def test_health_and_metrics_tell_of_all_processes(site: Site) -> None:
    with httpx.Client(base_url=site.url, trust_env=False) as client:
        for path in ("/livez", "/healthz", "/readyz"):
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
        assert client.get("/metrics").status_code == 401

        def told() -> str:
            return client.get("/metrics", headers={"authorization": f"Bearer {site.key}"}).text

        wait_for("a delivery to be counted", lambda: value(told(), 'step_seconds_count{step="first_result"}') >= 1, seconds=30)
        text = told()
        for name in COUNTED:
            assert value(text, name) >= 1, name
        assert site.study not in text


def value(text: str, name: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(f"wetread_{name} "))
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_no_barrier_and_nothing_sticks_out(site: Site, chromium: Browser, scheme: Any, width: int) -> None:
    axe = ROOT / ".venv" / "web-peer" / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.skip("axe-core is not in .venv/web-peer; run tests/acceptance/install_peers.sh")
    viewport: Any = {"width": width, "height": 800}
    with closing(chromium.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)) as context:
        page = context.new_page()
        page.goto(site.url)
        log_in(page)
        for path in ("/", "/studies", f"/studies/{site.study}", "/destinations", "/dead", "/events", "/routes"):
            page.goto(site.url + path)
            page.evaluate(axe.read_text("utf-8"))
            found = page.evaluate("axe.run()")
            barriers = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
            assert not barriers, (path, barriers)
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path


def test_a_node_that_others_can_reach_does_not_start_without_login_and_tls(site: Site) -> None:
    environment = {**os.environ, "WETREAD_WEB__HOST": "0.0.0.0", "WETREAD_WEB__USERS_FILE": str(site.folder / "none.yaml")}
    command = [sys.executable, "-m", "dicom_node.cli", "web", "--config", str(site.node.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 2
    assert "behind_proxy" in done.stderr
