"""FHIR servers that we call: what counts as taken, as a later try, and as a refusal."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.fhir import FhirPeer, post_bundle
from tests.dicom_node.remote.scripted import Script, http_server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


BUNDLE = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": []}).encode()
OUTCOME = json.dumps(
    {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": "invariant",
                "diagnostics": "Jane Doe has no identifier",
                "expression": ["Bundle.entry[0].resource"],
            }
        ],
    }
).encode()
FHIR_STATUSES = {
    "created": (200, None),
    "accepted for later": (202, None),
    "faulty": (400, PeerRefused),
    "no login": (401, PeerUnavailable),
    "not allowed": (403, PeerUnavailable),
    "wrong address": (404, PeerUnavailable),
    "too slow": (408, PeerUnavailable),
    "conflict": (409, PeerUnavailable),
    "several match": (412, PeerUnavailable),
    "too large": (413, PeerRefused),
    "not this format": (415, PeerRefused),
    "breaks a rule": (422, PeerRefused),
    "too many": (429, PeerUnavailable),
    "broken": (500, PeerUnavailable),
    "restarting": (503, PeerUnavailable),
    "moved: the operator must say where": (301, PeerUnavailable),
}


@pytest.mark.parametrize(("status", "kind"), FHIR_STATUSES.values(), ids=FHIR_STATUSES.keys())
def test_what_a_fhir_server_says(status: int, kind: type[Exception] | None) -> None:
    script = Script(status, OUTCOME if kind else b"{}")
    with http_server(script) as url:
        if kind is None:
            post_bundle(FhirPeer(url + "/r4"), BUNDLE)
        else:
            with pytest.raises(kind) as caught:
                post_bundle(FhirPeer(url + "/r4"), BUNDLE)
            assert type(caught.value) is kind
            assert f"HTTP {status}" in str(caught.value)
            assert "invariant at Bundle.entry[0].resource" in str(caught.value)
            assert "Jane Doe" not in str(caught.value)
    method, path, headers, content = script.asked[0]
    assert (method, path, content) == ("POST", "/r4", BUNDLE)
    assert headers["Content-Type"] == "application/fhir+json"
    assert "Authorization" not in headers


ENTRIES = {
    "all made": (["201 Created", "200 OK", "204 No Content"], None),
    "there already (ifNoneExist)": (["200"], None),
    "not changed": (["304"], None),
    "one refused": (["201 Created", "422 Unprocessable Entity"], PeerRefused),
    "one broken": (["500"], PeerUnavailable),
    "one in conflict": (["201", "409 Conflict"], PeerUnavailable),
    "one broken, one refused": (["503", "400"], PeerRefused),
    "one that is no status": (["perhaps"], PeerUnavailable),
}


@pytest.mark.parametrize(("statuses", "kind"), ENTRIES.values(), ids=ENTRIES.keys())
def test_a_bundle_that_was_taken_only_in_part_is_no_success(statuses: list[str], kind: type[Exception] | None) -> None:
    body = json.dumps({"resourceType": "Bundle", "entry": [{"response": {"status": s}} for s in statuses]}).encode()
    with http_server(Script(200, body)) as url:
        if kind is None:
            post_bundle(FhirPeer(url), BUNDLE)
        else:
            with pytest.raises(kind, match="not its entries"):
                post_bundle(FhirPeer(url), BUNDLE)


def test_an_answer_for_some_entries_only_is_no_success() -> None:
    sent = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [{}, {}]}).encode()
    answer: dict[str, object] = {"resourceType": "Bundle", "type": "transaction-response"}
    body = json.dumps({**answer, "entry": [{"response": {"status": "201"}}]}).encode()
    with http_server(Script(200, body)) as url, pytest.raises(PeerUnavailable, match="1 of 2 entries"):
        post_bundle(FhirPeer(url), sent)


OUTCOMES = {
    "an error in a success": (200, "error", "invalid", PeerRefused),
    "a passing error in a success": (200, "fatal", "lock-error", PeerUnavailable),
    "a warning in a success": (200, "warning", "invalid", None),
    "word of a success": (200, "information", "informational", None),
    "a passing refusal": (400, "error", "timeout", PeerUnavailable),
    "a lasting refusal": (400, "error", "structure", PeerRefused),
    "too many at once, said in the content": (422, "error", "throttled", PeerUnavailable),
}


@pytest.mark.parametrize(("status", "severity", "code", "kind"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_what_an_operation_outcome_says_counts(status: int, severity: str, code: str, kind: type[Exception] | None) -> None:
    issue = {"severity": severity, "code": code, "diagnostics": "Jane Doe"}
    script = Script(status, json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode())
    with http_server(script) as url:
        if kind is None:
            post_bundle(FhirPeer(url), BUNDLE)
            return
        with pytest.raises((PeerRefused, PeerUnavailable)) as caught:
            post_bundle(FhirPeer(url), BUNDLE)
    assert type(caught.value) is kind
    assert code in str(caught.value)
    assert "Jane Doe" not in str(caught.value)


REDIRECTS = {
    "within the host": ("/new/r4", True),
    "to another host": ("http://elsewhere.invalid/r4", False),
    "to another port": ("http://127.0.0.1:9/r4", False),
    "to itself": ("/r4", False),
    "nowhere": ("", False),
}


@pytest.mark.parametrize(("target", "followed"), REDIRECTS.values(), ids=REDIRECTS.keys())
def test_a_redirect_is_followed_within_the_host_only(target: str, followed: bool) -> None:
    script = Script(307, b"", {"Location": target} if target else {})
    with http_server(script) as url, pytest.raises(PeerUnavailable):
        post_bundle(FhirPeer(url + "/r4"), BUNDLE)
    assert {path for _, path, _, _ in script.asked} == ({"/r4", "/new/r4"} if followed else {"/r4"})
    assert all(content == BUNDLE for *_, content in script.asked)


ODD_OBJECTS = {
    "nothing": b"",
    "entry is a word": b'{"entry": "x", "issue": "x"}',
    "entry of words": b'{"entry": ["x", null], "issue": ["x", null]}',
    "response is a word": b'{"entry": [{"response": "x"}], "issue": [{"expression": 5}]}',
    "issue without places": b'{"issue": [{"code": null, "expression": null}]}',
    "places of numbers": b'{"issue": [{"code": 1, "expression": [2]}]}',
    "null": b'{"entry": null, "issue": null}',
}
NO_FHIR = {
    "a login page": b"<html><form>",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[1, 2]",
    "a word": b'"ok"',
    "nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("body", ODD_OBJECTS.values(), ids=ODD_OBJECTS.keys())
def test_an_odd_answer_of_success_is_success(body: bytes) -> None:
    with http_server(Script(200, body)) as url:
        post_bundle(FhirPeer(url), BUNDLE)


@pytest.mark.parametrize("body", NO_FHIR.values(), ids=NO_FHIR.keys())
def test_success_from_something_that_is_no_fhir_server_is_for_later(body: bytes) -> None:
    with http_server(Script(200, body)) as url, pytest.raises(PeerUnavailable, match="no FHIR resource"):
        post_bundle(FhirPeer(url), BUNDLE)


@pytest.mark.parametrize("body", [*ODD_OBJECTS.values(), *NO_FHIR.values()], ids=[*ODD_OBJECTS, *NO_FHIR])
def test_an_odd_refusal_is_a_refusal(body: bytes) -> None:
    with http_server(Script(422, body)) as url, pytest.raises(PeerRefused, match="HTTP 422"):
        post_bundle(FhirPeer(url), BUNDLE)


def test_the_token_is_sent_read_anew_and_never_told(tmp_path: Path) -> None:
    token = tmp_path / "token"
    script = Script(401)
    with http_server(script) as url:
        for secret in ("first-secret", "second-secret"):
            token.write_text(secret + "\n")
            with pytest.raises(PeerUnavailable) as caught:
                post_bundle(FhirPeer(url, token), BUNDLE)
            assert secret not in str(caught.value)
    assert [headers["Authorization"] for _, _, headers, _ in script.asked] == ["Bearer first-secret", "Bearer second-secret"]


def test_a_token_that_cannot_be_used_is_for_later(tmp_path: Path) -> None:
    peer = FhirPeer("http://127.0.0.1:9", tmp_path / "none")
    with pytest.raises(PeerUnavailable, match=r"token file .*none cannot be read"):
        post_bundle(peer, BUNDLE)
    (tmp_path / "none").write_bytes(b"\xff\xfe")
    with pytest.raises(PeerUnavailable, match="token file"):
        post_bundle(peer, BUNDLE)
    (tmp_path / "none").write_text("two\nlines")
    with http_server(Script()) as url, pytest.raises(PeerUnavailable):
        post_bundle(FhirPeer(url, tmp_path / "none"), BUNDLE)


def test_no_server_and_a_slow_server_are_for_later() -> None:
    with pytest.raises(PeerUnavailable, match="ConnectError"):
        post_bundle(FhirPeer(f"http://127.0.0.1:{free_port()}"), BUNDLE)
    with http_server(Script(wait_s=20)) as url, pytest.raises(PeerUnavailable, match="ReadTimeout"):
        post_bundle(FhirPeer(url, timeout_s=0.5), BUNDLE)


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patient data must not take a way that the settings do not name."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with http_server(Script()) as url:
        post_bundle(FhirPeer(url), BUNDLE)
