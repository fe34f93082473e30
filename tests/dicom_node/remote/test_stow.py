"""STOW-RS: what each answer of a store means for each object (PS3.18 10.5.3)."""

from __future__ import annotations

import base64
import json
from email import message_from_bytes
from email.policy import HTTP
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.remote import stow
from dicom_node.remote.http import HttpPeer
from tests.dicom_node.remote.servers import Asked, web


def film(seed: int) -> tuple[str, bytes]:
    made, buffer = phantom_dx(seed, [], size=32), BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return str(made.SOPInstanceUID), buffer.getvalue()


FILMS = dict(film(seed) for seed in range(3))
FIRST, SECOND, THIRD = FILMS


def item(uid: str, **numbers: int) -> dict[str, object]:
    tags = {"warning": "00081196", "failure": "00081197"}
    return {
        "00081155": {"vr": "UI", "Value": [uid]},
        **{tags[name]: {"vr": "US", "Value": [number]} for name, number in numbers.items()},
    }


def response(good: list[dict[str, object]], bad: list[dict[str, object]]) -> dict[str, object]:
    tree: dict[str, object] = {"00081190": {"vr": "UR", "Value": ["http://pacs/studies/1"]}}
    tree["00081199"] = {"vr": "SQ", "Value": good}
    return {**tree, "00081198": {"vr": "SQ", "Value": bad}} if bad else tree


def stored(status: int, body: object) -> dict[str, str]:
    """By object: "stored", "stored: note", or the class of its error and what it says."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with web(lambda _: (status, content)) as (url, _):
        outcomes = stow.store(HttpPeer(url, timeout_s=3), list(FILMS.values()))
    return {
        uid: f"{type(one.error).__name__}: {one.error}" if one.error else f"stored: {one.note}".removesuffix(": ")
        for uid, one in zip(FILMS, outcomes, strict=True)
    }


def test_all_are_stored() -> None:
    assert set(stored(200, response([item(uid) for uid in FILMS], [])).values()) == {"stored"}


@pytest.mark.parametrize("status", [200, 202])
def test_of_some_stored_the_others_have_their_reasons(status: int) -> None:
    said = stored(status, response([item(FIRST)], [item(SECOND, failure=0xA700), item(THIRD, failure=0xC000)]))
    assert said[FIRST] == "stored"
    assert said[SECOND].startswith("PeerUnavailable: ")
    assert "0xA700" in said[SECOND]
    assert said[THIRD].startswith("PeerRefused: ")
    assert "0xC000" in said[THIRD]


def test_a_conflict_names_each_object() -> None:
    said = stored(409, response([], [item(FIRST, failure=0x0122), item(SECOND, failure=0x0110), item(THIRD)]))
    assert [said[uid].partition(":")[0] for uid in FILMS] == ["PeerRefused", "PeerUnavailable", "PeerUnavailable"]


def test_what_is_there_already_is_stored_and_warnings_are_told() -> None:
    body = response([item(SECOND, warning=0xB000), item(THIRD)], [item(FIRST, failure=0x0111)])
    assert stored(202, body) == {
        FIRST: "stored: is there already (0x0111)", SECOND: "stored: stored with warning 0xB000", THIRD: "stored",
    }  # fmt: skip


def test_an_answer_in_a_list_is_read_and_what_it_does_not_name_is_not_stored() -> None:
    said = stored(200, [response([item(FIRST)], [])])
    assert said[FIRST] == "stored"
    assert "does not name the object" in said[SECOND]


WHOLE = {
    "a login page": (200, b"<html>welcome</html>", PeerUnavailable),
    "no answer at all": (200, b"", PeerUnavailable),
    "a conflict without a word": (409, b"", PeerUnavailable),
    "not understood": (400, b"", PeerRefused),
    "no such media type": (415, b"", PeerRefused),
    "login": (401, b"", PeerUnavailable),
    "not allowed": (403, b"", PeerUnavailable),
    "no such address": (404, b"", PeerUnavailable),
    "too large": (413, b"", PeerRefused),
    "too many": (429, b"", PeerUnavailable),
    "broken": (500, b"{}", PeerUnavailable),
    "moved": (301, b"", PeerUnavailable),
}


@pytest.mark.parametrize(("status", "body", "kind"), WHOLE.values(), ids=WHOLE.keys())
def test_an_answer_to_the_whole_request(status: int, body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        stored(status, body)
    assert type(caught.value) is kind
    assert f"HTTP {status}" in str(caught.value)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda kids: st.lists(kids) | st.dictionaries(
    st.sampled_from(["00081199", "00081198", "00081155", "00081197", "Value"]), kids)))  # fmt: skip
def test_any_json_is_an_answer_or_none(tree: object) -> None:
    found = stow._read(json.dumps(tree).encode())
    assert found is None or all(isinstance(number, int) for part in found for number in part.values())


def test_the_request_is_one_part_per_object_with_its_own_bytes(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("reader:passé word".replace("é", "e") + "\n")

    def answer(_: Asked) -> tuple[int, bytes]:
        return 200, json.dumps(response([item(uid) for uid in FILMS], [])).encode()

    with web(answer) as (url, came):
        stow.store(HttpPeer(f"{url}/dicom-web/", basic_file=tmp_path / "login"), list(FILMS.values()))
    (asked,) = came
    assert (asked.method, asked.path) == ("POST", "/dicom-web/studies")
    assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"reader:passe word"
    mail = message_from_bytes(f"Content-Type: {asked.headers['content-type']}\r\n\r\n".encode() + asked.body, policy=HTTP)
    assert mail.get_content_type() == "multipart/related"
    assert mail.get_param("type") == "application/dicom"
    parts = [part.get_payload(decode=True) for part in mail.iter_parts()]
    assert parts == list(FILMS.values())
    assert [str(dcmread(BytesIO(part)).SOPInstanceUID) for part in parts] == list(FILMS)


LOOKED_FOR = {
    "found": (200, lambda uid: [{"00080018": {"Value": [uid]}}], True),
    "an empty list": (200, lambda _: [], False),
    "nothing": (204, None, False),
}


@pytest.mark.parametrize(("status", "body", "there"), LOOKED_FOR.values(), ids=LOOKED_FOR.keys())
def test_an_object_is_looked_for(status: int, body: object, there: bool) -> None:
    content = json.dumps(body(FIRST)).encode() if callable(body) else b""
    with web(lambda _: (status, content)) as (url, came):
        assert (stow.missing(HttpPeer(url), FILMS[FIRST]) is None) is there
    assert came[0].path == f"/instances?SOPInstanceUID={FIRST}"


def test_nobody_there_and_secrets_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailable, match="ConnectError"):
        stow.reach(HttpPeer("http://127.0.0.1:1", timeout_s=2))
    with pytest.raises(PeerUnavailable, match=r"token file .* cannot be read"):
        stow.reach(HttpPeer("http://127.0.0.1:1", token_file=tmp_path / "none"))
