"""Who gets in: by password and session, by key, and who does not."""

from __future__ import annotations

import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from sqlalchemy import select
from starlette.testclient import TestClient

from dicom_node.errors import SettingsError
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.tables import audit_messages
from dicom_node.web.access import AccessRefused, check_origin
from dicom_node.web.accounts import Accounts, AccountsFile, Role, User, new_key, new_user, read_accounts, write_accounts
from dicom_node.web.app import build
from dicom_node.web.login import PAUSE_S, WRONG_IN_A_ROW, Guesses, _network, _try
from dicom_node.web.parts import Parts
from dicom_node.web_settings import WebSettings

from .conftest import PASSWORD, form_key, log_in, of


def test_the_session_is_a_cookie_that_scripts_and_other_sites_never_see(browser: TestClient) -> None:
    answer = browser.post("/login", data={"name": "anna", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("wetread=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/").status_code == 200


def test_with_tls_the_cookie_is_held_to_this_host(settings: Settings, db: Database, keys: dict[Role, str]) -> None:
    assert keys
    secure = settings.model_copy(update={"web": settings.web.model_copy(update={"behind_proxy": True})})
    browser = TestClient(build(of(secure, db, AccountsFile(settings.path("users.yaml")))), base_url="https://node.example")
    answer = browser.post("/login", data={"name": "anna", "password": PASSWORD}, follow_redirects=False)
    assert answer.headers["set-cookie"].startswith("__Host-wetread=")
    assert "; secure" in answer.headers["set-cookie"].lower()
    assert "max-age" in answer.headers["strict-transport-security"]


def test_the_database_does_not_hold_what_the_browser_holds(browser: TestClient, settings: Settings) -> None:
    log_in(browser)
    held = b"".join(file.read_bytes() for file in settings.data_folder.glob("wetread.sqlite*"))
    assert browser.cookies["wetread"].encode() not in held


def test_logging_out_ends_the_session_on_the_node_too(browser: TestClient) -> None:
    log_in(browser)
    cookie = browser.cookies["wetread"]
    browser.post("/logout", data={"form_key": form_key(browser)})
    browser.cookies.set("wetread", cookie)
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(31 * 60, id="idle for longer than half an hour"), pytest.param(13 * 3600, id="older than 12 hours")],
)
def test_a_session_ends_by_itself(browser: TestClient, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    log_in(browser)
    assert browser.get("/").status_code == 200
    later = time.time() + seconds
    monkeypatch.setattr(Database, "now", lambda _: later)
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(("headers", "status"), [({}, 200), ({"X-Refresh": "1"}, 303)])
def test_a_page_that_keeps_itself_fresh_keeps_nobody_logged_in(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    log_in(browser)
    now = time.time()
    for minutes in range(5, 36, 5):
        monkeypatch.setattr(Database, "now", lambda _, at=now + minutes * 60: at)
        answer = browser.get("/", headers=headers)
    assert answer.status_code == status


def test_whoever_is_taken_out_of_the_file_is_out(browser: TestClient, settings: Settings, people: dict[str, User]) -> None:
    log_in(browser, "vic")
    write_accounts(settings.path("users.yaml"), Accounts({"anna": people["anna"]}, {}))
    assert browser.get("/").status_code == 303


def test_a_new_password_ends_the_sessions_of_the_old_one(
    browser: TestClient, settings: Settings, people: dict[str, User]
) -> None:
    log_in(browser, "vic")
    assert browser.get("/").status_code == 200
    again = new_user(Role.VIEWER, "another horse battery")
    write_accounts(settings.path("users.yaml"), Accounts({**people, "vic": again}, {}))
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", "wrong"), ("nobody", PASSWORD), ("", ""), ("anna", ""), ("anna' OR 1=1 --", PASSWORD)],
)
def test_wrong_names_and_passwords_are_told_apart_by_nobody(browser: TestClient, name: str, password: str) -> None:
    answer = browser.post("/login", data={"name": name, "password": password})
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_guessing_is_paused_for_that_address() -> None:
    guesses, keys = Guesses(), ("anna from 10.0.0.1", "10.0.0.1")
    for second in range(WRONG_IN_A_ROW):
        assert guesses.paused_s(keys, second) == 0
        guesses.wrong(keys, second)
    assert guesses.paused_s(keys, 10) == pytest.approx(PAUSE_S + WRONG_IN_A_ROW - 1 - 10)
    assert guesses.paused_s(("anna from 10.0.0.2", "10.0.0.2"), 10) == 0  # its owner, from elsewhere
    assert guesses.paused_s(keys, PAUSE_S + 10) <= 0


def test_guesses_that_come_all_at_once_are_counted_one_by_one(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def slowly_wrong(_accounts: Accounts, _name: str, password: str) -> None:
        tried.append(password)
        time.sleep(0.02)

    monkeypatch.setattr(Accounts, "login", slowly_wrong)
    guesses = Guesses()

    def guess(number: int) -> bool:
        try:
            return _try(parts, guesses, "anna", str(number), "10.0.0.1") is not None
        except AccessRefused:
            return False

    with ThreadPoolExecutor(20) as pool:
        assert not any(pool.map(guess, range(20)))
    assert len(tried) == WRONG_IN_A_ROW


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("10.0.0.1", "10.0.0.2", False, id="two machines"),
        pytest.param("::ffff:10.0.0.1", "::ffff:10.0.0.2", False, id="two machines, IPv4 in IPv6"),
        pytest.param("2001:db8:0:7::1", "2001:db8:0:7:ffff::2", True, id="addresses of one IPv6 network"),
        pytest.param("2001:db8:0:7::1", "2001:db8:0:8::1", False, id="two IPv6 networks"),
        pytest.param("fe80::1%eth0", "fe80::2%eth0", True, id="on one link"),
        pytest.param("unknown", "_hidden", False, id="what a proxy says"),
    ],
)
def test_whose_guesses_count_together(one: str, other: str, same: bool) -> None:
    assert (_network(one) == _network(other)) is same


def test_a_pause_is_told_on_the_page(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accounts, "login", lambda *_: None)
    for _ in range(WRONG_IN_A_ROW):
        assert browser.post("/login", data={"name": "anna", "password": "x"}).status_code == 401
    answer = browser.post("/login", data={"name": "anna", "password": PASSWORD})
    assert answer.status_code == 429
    assert "Too many wrong passwords; try again in 5 minutes." in answer.text


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (Role.METRICS, "/metrics", 200),
        (Role.METRICS, "/api/status", 403),
        (Role.METRICS, "/dicom-web/studies", 404),  # not served unless the settings say so
        (Role.VIEWER, "/api/status", 200),
        (Role.VIEWER, "/metrics", 200),
        (Role.DICOMWEB, "/metrics", 403),
        (Role.DICOMWEB, "/api/status", 403),
        (Role.OPERATOR, "/api/dead", 200),
    ],
)
def test_a_key_opens_what_its_role_may(browser: TestClient, keys: dict[Role, str], role: Role, path: str, status: int) -> None:
    assert browser.get(path, headers={"authorization": f"Bearer {keys[role]}"}).status_code == status
    basic = base64.b64encode(f"{role.value}:{keys[role]}".encode()).decode()
    assert browser.get(path, headers={"authorization": f"Basic {basic}"}).status_code == status


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic ???", "Basic " + base64.b64encode(b"anna").decode()])
def test_a_wrong_key_opens_nothing(browser: TestClient, header: str) -> None:
    answer = browser.get("/api/status", headers={"authorization": header})
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        pytest.param({"host": "node:8080", "origin": "http://node:8080"}, True, id="our own page"),
        pytest.param({"host": "node:8080", "origin": "https://evil.example"}, False, id="another site, by origin"),
        pytest.param({"host": "node:8080", "sec-fetch-site": "same-origin"}, True, id="our own, by fetch metadata"),
        pytest.param({"host": "node:8080", "sec-fetch-site": "cross-site"}, False, id="another site"),
        pytest.param({"host": "node:8080", "sec-fetch-site": "same-site"}, False, id="a sister site"),
        pytest.param(
            {"host": "node:8080", "authorization": "Bearer x", "origin": "https://x"}, True, id="a program with a key"
        ),
        pytest.param({"host": "node:8080", "origin": "http://["}, False, id="an origin that is none"),
        pytest.param({"host": "node:8080"}, True, id="no browser"),
    ],
)
def test_forms_of_other_sites_are_refused(headers: dict[str, str], good: bool) -> None:
    if good:
        check_origin("POST", headers)
        return
    check_origin("GET", headers)
    with pytest.raises(AccessRefused, match="another site"):
        check_origin("POST", headers)


def test_another_site_cannot_log_anybody_in(browser: TestClient) -> None:
    form = {"name": "anna", "password": PASSWORD}
    assert browser.post("/login", data=form, headers={"origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:8080", 200), ("[::1]:8080", 200), ("evil.example", 400), ("", 400), ("[::1", 400)]
)
def test_without_a_login_the_node_answers_to_names_of_this_machine_only(
    open_browser: TestClient, host: str, status: int
) -> None:
    assert open_browser.get("/", headers={"host": host}).status_code == status
    assert open_browser.get("/healthz", headers={"host": host}).status_code in (200, 503)


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        pytest.param({}, "", id="this machine only"),
        pytest.param({"host": "::1"}, "", id="this machine only, IPv6"),
        pytest.param({"host": "0.0.0.0"}, "users_file", id="anywhere without a login"),
        pytest.param({"host": "node.example.org"}, "users_file", id="a name without a login"),
        pytest.param({"host": "0.0.0.0", "users_file": "u"}, "tls", id="passwords in the clear"),
        pytest.param({"host": "0.0.0.0", "users_file": "u", "behind_proxy": True}, "", id="a proxy speaks TLS"),
        pytest.param(
            {"host": "::", "users_file": "u", "tls": {"certificate_file": "c", "key_file": "k"}}, "", id="TLS of its own"
        ),
        pytest.param({"dicomweb": True}, "users_file", id="images without a login"),
        pytest.param({"behind_proxy": True}, "users_file", id="a proxy lets others in without a login"),
    ],
)
def test_what_other_machines_can_reach_has_a_login_and_tls(section: dict[str, Any], fault: str) -> None:
    if not fault:
        WebSettings.model_validate(section)
        return
    with pytest.raises(ValueError, match=fault):
        WebSettings.model_validate(section)


def test_the_users_file_is_for_its_owner_and_holds_hashes_only(settings: Settings, people: dict[str, User]) -> None:
    text, key = new_key(Role.METRICS)
    file = settings.path("users.yaml")
    write_accounts(file, Accounts({"anna": people["anna"]}, {"prometheus": key}))
    assert file.stat().st_mode & 0o777 == 0o600
    assert text not in file.read_text()
    assert PASSWORD not in file.read_text()
    read = read_accounts(file)
    assert read.holder(text) is not None
    assert read.holder(text[:-1]) is None
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_accounts(file)


def test_a_users_file_stays_with_whom_it_was_given_to(settings: Settings, people: dict[str, User]) -> None:
    """Root adds somebody: the node, which runs as another user, must be able to read it afterwards."""
    file = settings.path("users.yaml")
    write_accounts(file, Accounts(people, {}))
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 4711, 4712)
    before = file.stat()
    write_accounts(file, Accounts({"anna": people["anna"]}, {}))
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert set(read_accounts(file).users) == {"anna"}


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param({"users": {"anna": {"role": "king", "password": "x"}}}, id="an unknown role"),
        pytest.param({"users": {"anna": {"role": "viewer", "password": "in the clear"}}}, id="a password in the clear"),
        pytest.param({"users": ["anna"]}, id="another form"),
        pytest.param({"keys": {"a": {"role": "viewer", "key": "sha256$zz"}}}, id="a broken key"),
    ],
)
def test_a_users_file_that_cannot_be_used_is_told_without_quoting_it(settings: Settings, tree: Any) -> None:
    file = settings.path("users.yaml")
    file.write_text(yaml.safe_dump(tree))
    file.chmod(0o600)
    with pytest.raises(SettingsError) as told:
        read_accounts(file)
    assert "in the clear" not in str(told.value)


def test_logins_are_told_to_the_audit_repository(settings: Settings, db: Database, keys: dict[Role, str]) -> None:
    """PS3.15 A.5.3.12: who, from where, and whether it succeeded."""
    assert keys
    audit = type(settings.audit).model_validate({"repository": {"host": "127.0.0.1", "port": 6514}})
    watched = settings.model_copy(update={"audit": audit})
    browser = TestClient(build(of(watched, db, AccountsFile(settings.path("users.yaml")))), base_url="http://127.0.0.1")
    browser.post("/login", data={"name": "anna", "password": "wrong"}, follow_redirects=False)
    log_in(TestClient(browser.app, base_url="http://127.0.0.1", follow_redirects=False))
    with db.read() as conn:
        kept = conn.execute(select(audit_messages).order_by(audit_messages.c.id)).all()
    assert [(row.outcome, "anna" in row.text, "110122" in row.text) for row in kept] == [(4, True, True), (0, True, True)]
