"""Webhooks: the signature of the Standard Webhooks specification, one id per notice, nothing of the patient."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest

from dicom_node.delivery.notice import notice
from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.reading_json import to_json
from dicom_node.remote import webhook
from dicom_node.remote.http import HttpPeer
from dicom_node.storage.results import ResultRow
from inference.reading import Code, Decision, Finding, Urgency
from tests.dicom_node.remote.servers import web
from tests.support import GreyReader

SECRET = b"a secret that both sides know"


def test_the_signature_is_that_of_the_specification(tmp_path: Path) -> None:
    """The published example of the Standard Webhooks libraries."""
    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    secret = webhook.read_secret(HttpPeer("http://h"), tmp_path / "secret")
    signed = webhook.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


SECRETS = {
    "not there": (None, "cannot be read"),
    "empty": ("", "must hold one line"),
    "two lines": (f"{'a' * 30}\n{'b' * 30}", "must hold one line"),
    "short": ("short", "at least 24"),
    "not base64": ("whsec_!!!!", "is not base64"),
}


@pytest.mark.parametrize(("text", "said"), SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_that_cannot_be_used_is_told_without_telling_it(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "secret").write_text(text)
    with pytest.raises(PeerUnavailable, match=said) as caught:
        webhook.read_secret(HttpPeer("http://h"), tmp_path / "secret")
    assert not text or text not in str(caught.value)


def test_the_same_notice_carries_the_same_id_however_often_it_is_sent() -> None:
    with web(lambda _: (204, b"")) as (url, came):
        for key in ("a", "a", "b"):
            webhook.post(HttpPeer(f"{url}/hook"), SECRET, key, b"{}")
    ids = [asked.headers["webhook-id"] for asked in came]
    assert ids[0] == ids[1] != ids[2]
    assert [asked.headers["idempotency-key"] for asked in came] == [f'"{one}"' for one in ids]
    one = came[0]
    assert (one.method, one.path, one.headers["content-type"]) == ("POST", "/hook", "application/json")
    assert one.headers["webhook-signature"] == webhook.signature(SECRET, ids[0], one.headers["webhook-timestamp"], b"{}")


STATUSES = {500: PeerUnavailable, 429: PeerUnavailable, 404: PeerUnavailable, 410: PeerRefused, 400: PeerRefused}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_what_a_receiver_says(status: int, kind: type[Exception]) -> None:
    with web(lambda _: (status, b"whatever")) as (url, _), pytest.raises(kind, match=f"HTTP {status}$"):
        webhook.post(HttpPeer(url), SECRET, "a", b"{}")


def result() -> ResultRow:
    reading = GreyReader().refuse("not read")
    code = Code("36118008", "SCT", "Pneumothorax")
    positive = Finding("pneumothorax", code, None, Urgency.STAT, 0.5, Decision.POSITIVE, 0.98765)
    reading = type(reading)(
        (positive,), reading.draft, reading.models, reading.catalogue, reading.mode, reading.sources, (), "a reason"
    )
    return ResultRow(1, "1.2.840.77", 3, "chest", to_json(reading), 1_790_000_000.5)


def test_a_notice_tells_what_was_found_and_not_of_whom() -> None:
    told = json.loads(notice(result(), SECRET, "digest", {"worklist": "https://node.example.org/worklist"}))
    data = told["data"]
    assert (told["type"], told["timestamp"]) == ("study.read", "2026-09-21T14:13:20+00:00")
    assert data["study_digest"] == hmac.digest(SECRET, b"1.2.840.77", "sha256").hex()
    assert "1.2.840.77" not in json.dumps(told)
    code = {"value": "36118008", "scheme": "SCT", "meaning": "Pneumothorax"}
    assert data["positives"] == [{"key": "pneumothorax", "code": code, "urgency": "STAT", "probability": 0.9877}]
    assert (data["assessable"], data["revision"], data["reading"]) == (True, 3, "chest")
    assert data["links"] == {"worklist": "https://node.example.org/worklist"}
    assert notice(result(), SECRET, "digest", {}) == notice(result(), SECRET, "digest", {})


def test_the_uid_is_told_where_the_settings_wish_it() -> None:
    told = json.loads(notice(result(), SECRET, "uid", {"viewer": "https://v.example.org/?StudyInstanceUIDs={study_uid}"}))
    assert told["data"]["study_uid"] == "1.2.840.77"
    assert told["data"]["links"]["viewer"].endswith("=1.2.840.77")
    assert "study_digest" not in told["data"]
