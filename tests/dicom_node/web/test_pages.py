"""Pages over a real database: what they show, to whom, and what can be done from them."""

from __future__ import annotations

import re
import time
from html import unescape

import pytest
from starlette.testclient import TestClient

from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, Severity, record_event
from dicom_node.storage.jobs import JobKind, JobState, claim, complete, get_job

from .conftest import form_key, log_in
from .stocked import ACCESSION, DOWN, REFUSED, Stock

PAGES = ("/", "/studies", "/destinations", "/dead", "/events", "/routes")


def words(browser: TestClient, path: str) -> str:
    """A page's text as a reader sees it."""
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize("path", PAGES)
def test_whoever_is_not_logged_in_is_shown_the_way(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_the_overview_says_what_needs_a_hand_and_why(browser: TestClient, stocked: Stock) -> None:
    log_in(browser)
    text = words(browser, "/")
    assert f"his is down: {DOWN}" in text
    assert "1 delivery to pacs given up" in text
    assert "Readings STAT 1" in text
    assert "same UID, other bytes" in text
    assert stocked.delivered not in text  # named by a link only


def test_a_study_tells_all_that_came_of_it(browser: TestClient, stocked: Stock) -> None:
    log_in(browser)
    text = words(browser, f"/studies/{stocked.delivered}")
    assert "because nothing came for 10 s" in text
    assert "not assessable: the study holds no radiograph" in text
    assert re.search(r"fhir-bundle 5\.1 KiB pacs done 20.* his queued next try in \d+ s 1 HIS: no association", text)
    assert ACCESSION in text


def test_an_accession_number_is_shown_to_people_who_logged_in_only(
    browser: TestClient, open_browser: TestClient, stocked: Stock
) -> None:
    path = f"/studies/{stocked.delivered}"
    assert ACCESSION not in open_browser.get(path).text
    log_in(browser, "vic")
    assert ACCESSION in browser.get(path).text
    assert ACCESSION not in browser.get(f"/api{path}").text


def test_lists_can_be_narrowed_to_what_is_not_done(browser: TestClient, stocked: Stock) -> None:
    log_in(browser)
    assert stocked.dead in browser.get("/studies?state=dead").text
    assert stocked.delivered not in browser.get("/studies?state=dead").text
    assert stocked.waiting in browser.get("/studies?state=unfinished").text


def test_a_study_is_found_by_its_uid_without_the_uid_in_a_query(browser: TestClient, stocked: Stock) -> None:
    log_in(browser)
    key = form_key(browser, "/studies")
    answer = browser.post("/studies/find", data={"form_key": key, "study": f"  {stocked.dead} "})
    assert answer.headers["location"] == f"/studies/{stocked.dead}"


def test_an_operator_runs_a_given_up_delivery_again(browser: TestClient, db: Database, stocked: Stock) -> None:
    log_in(browser)
    assert unescape(browser.get("/dead").text).count(REFUSED) == 1
    answer = browser.post("/dead/retry", data={"form_key": form_key(browser, "/dead"), "job": stocked.dead_job})
    assert answer.headers["location"] == "/dead?done=1"
    job = get_job(db, stocked.dead_job)
    assert job is not None
    assert job.state is JobState.QUEUED
    assert "1 run again." in words(browser, "/dead?done=1")


def test_a_page_that_was_left_open_sends_nothing_twice(browser: TestClient, db: Database, stocked: Stock) -> None:
    """Another operator had run it again, and it was delivered: an HL7 receiver would file it a second time."""
    log_in(browser)
    form = {"form_key": form_key(browser, "/dead"), "job": stocked.dead_job}
    browser.post("/dead/retry", data=form)
    for job in claim(db, JobKind.DELIVER, "pacs", "sender", 9, 60, time.time()):
        with db.write() as conn:
            complete(conn, job, "sender", time.time())
    assert browser.post("/dead/retry", data=form).headers["location"] == "/dead?done=0"
    again = get_job(db, stocked.dead_job)
    assert again is not None
    assert again.state is JobState.DONE


def test_a_destination_gets_all_of_its_own_again(browser: TestClient, db: Database, stocked: Stock) -> None:
    log_in(browser)
    browser.post("/dead/retry", data={"form_key": form_key(browser), "destination": "pacs"})
    job = get_job(db, stocked.dead_job)
    assert job is not None
    assert job.state is JobState.QUEUED


@pytest.mark.parametrize(
    ("name", "form", "status"),
    [
        pytest.param("vic", {"form_key": "own"}, 403, id="a viewer"),
        pytest.param("anna", {}, 403, id="no form key"),
        pytest.param("anna", {"form_key": "of another session"}, 403, id="another session's form key"),
        pytest.param("anna", {"form_key": "schlüssel"}, 403, id="a form key that none can be"),
    ],
)
def test_nobody_else_can(
    browser: TestClient, db: Database, stocked: Stock, name: str, form: dict[str, str], status: int
) -> None:
    log_in(browser, name)
    if form.get("form_key") == "own":
        form = {"form_key": form_key(browser)}
    assert browser.post("/dead/retry", data={**form, "job": stocked.dead_job}).status_code == status
    job = get_job(db, stocked.dead_job)
    assert job is not None
    assert job.state is JobState.DEAD


def test_without_a_login_nothing_can_be_changed(open_browser: TestClient, db: Database, stocked: Stock) -> None:
    assert open_browser.get("/dead").status_code == 200
    assert "Run the chosen again" not in open_browser.get("/dead").text
    assert open_browser.post("/dead/retry", data={"job": stocked.dead_job}).status_code == 403
    job = get_job(db, stocked.dead_job)
    assert job is not None
    assert job.state is JobState.DEAD


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize("path", [*PAGES, "/login", "/nowhere", "/api/status", "/healthz", "/static/style.css"])
def test_every_answer_carries_the_headers(open_browser: TestClient, path: str) -> None:
    headers = open_browser.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("max-age=3600" if path.startswith("/static") else "no-store")


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize("path", PAGES)
def test_pages_load_nothing_from_elsewhere_and_have_no_inline_script_or_style(open_browser: TestClient, path: str) -> None:
    text = open_browser.get(path).text
    assert not re.findall(r"""(?:src|href|action)=["'](?!/|#)""", text)
    assert not re.findall(r"<style|style=|<script(?! src=)|\son\w+=", text)


def test_what_is_not_there_is_said_so(browser: TestClient) -> None:
    log_in(browser)
    assert browser.get("/studies/1.2.3").status_code == 404
    assert browser.get("/nowhere").status_code == 404
    assert "There is no such page." in browser.get("/nowhere").text


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize(
    "path", [f"/dead?offset={10**23}", f"/api/dead?offset={10**23}", "/dead?offset=-77", "/studies?before=yesterday"]
)
def test_an_address_that_makes_no_sense_is_told_so_and_not_quoted(browser: TestClient, path: str) -> None:
    log_in(browser)
    answer = browser.get(path)
    assert answer.status_code == 422
    assert "cannot be understood" in answer.text
    assert path.rpartition("=")[2] not in answer.text


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize("job", [str(10**23), "0", "x"])
def test_a_job_number_that_is_none_runs_nothing(browser: TestClient, job: str) -> None:
    log_in(browser)
    answer = browser.post("/dead/retry", data={"form_key": form_key(browser), "job": job})
    assert (answer.status_code, "cannot be understood: 0." in answer.text) == (422, True)


@pytest.mark.usefixtures("stocked")
def test_a_page_that_fails_has_our_headers_and_says_nothing_of_why(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("DOE^JANE")

    log_in(browser)
    monkeypatch.setattr("dicom_node.web.pages.look", failing)
    for path, kind in (("/", "text/html"), ("/api/status", "application/json")):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (500, kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "DOE" not in answer.text
    told = capsys.readouterr()
    assert "DOE" not in told.out + told.err


def test_events_say_who_was_turned_away_and_why(browser: TestClient, db: Database, stocked: Stock) -> None:
    with db.write() as conn:
        text, kind = "calling AE title not allowed", EventKind.REJECTED_ASSOCIATION
        record_event(conn, NewEvent(kind, text, Severity.WARNING, calling_ae="CT7", host="10.1.2.9"), 5.0)
    log_in(browser, "vic")
    everything = words(browser, "/events")
    assert "calling AE title not allowed CT7, 10.1.2.9" in everything
    assert "same UID, other bytes" in everything
    assert stocked.delivered in browser.get("/events").text
    only = words(browser, "/events?kind=rejected%20association")
    assert "calling AE title not allowed" in only
    assert "same UID, other bytes" not in only
    assert "None of this kind." in words(browser, "/events?kind=drift")
    assert [one["host"] for one in browser.get("/api/events?kind=rejected association").json()] == ["10.1.2.9"]
