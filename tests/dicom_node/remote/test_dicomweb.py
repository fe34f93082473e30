"""QIDO-RS and WADO-RS archives: pages, odd answers, and multipart bodies cut in every place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.remote.dicomweb import _Bytes, parts, retrieve, search
from dicom_node.remote.http import HttpPeer
from dicom_node.remote.matches import Level, Query
from dicom_node.remote.retrieving import Arrived, Retrieved
from tests.dicom_node.remote.scripted import Script, http_server
from tests.dicom_node.remote.servers import Asked, web


def study(number: int) -> dict[str, Any]:
    return {
        "0020000D": {"vr": "UI", "Value": [f"1.{number}"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg", "Ideographic": "山"}]},
        "00080061": {"vr": "CS", "Value": ["DX", "SR"]},
        "00201208": {"vr": "IS", "Value": [2.0]},
        "00080020": {"vr": "DA"},
    }


def test_a_match_is_that_of_c_find() -> None:
    script = Script(body=json.dumps([study(1)]).encode())
    keys = {"PatientName": "Mü*", "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": "", "StudyDate": ""}
    with http_server(script) as url:
        found = search(HttpPeer(url, timeout_s=5), Query(Level.STUDY, keys))
    told = {
        "StudyInstanceUID": "1.1",
        "PatientName": "Müller^Jörg=山",
        "ModalitiesInStudy": "DX\\SR",
        "NumberOfStudyRelatedInstances": "2",
        "StudyDate": "",
    }
    assert (found.matches, found.whole) == ((told,), True)
    asked = parse_qs(urlsplit(script.asked[0][1]).query)
    assert asked["PatientName"] == ["Mü*"]
    assert "00080020" in asked["includefield"]


@pytest.mark.parametrize(("held", "most", "whole"), [(0, 10, True), (450, 1000, True), (450, 300, False), (200, 200, True)])
def test_pages(held: int, most: int, whole: bool) -> None:
    def answer(asked: Asked) -> tuple[int, bytes]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked.path).query).items()}
        first = int(query["offset"])
        page = [study(n) for n in range(held)][first : first + int(query["limit"])]
        return (200, json.dumps(page).encode()) if page else (204, b"")

    with web(answer) as (url, _):
        found = search(HttpPeer(url, timeout_s=5), Query(Level.STUDY, most=most))
    assert [one["StudyInstanceUID"] for one in found.matches] == [f"1.{n}" for n in range(min(held, most))]
    assert found.whole is whole


FAULTS = {
    "a page instead": (200, b"<html>", PeerRefused),
    "an object instead": (200, b"{}", PeerRefused),
    "a list of other things": (200, b"[1]", PeerRefused),
    "no login": (401, b"", PeerUnavailable),
    "too much asked": (413, b"", PeerRefused),
    "down": (503, b"", PeerUnavailable),
}


@pytest.mark.parametrize(("status", "body", "kind"), FAULTS.values(), ids=FAULTS)
def test_a_search_that_fails(status: int, body: bytes, kind: type[Exception]) -> None:
    with http_server(Script(status, body)) as url, pytest.raises(kind):
        search(HttpPeer(url, timeout_s=5), Query(Level.STUDY))


def film() -> tuple[str, bytes]:
    dataset, buffer = phantom_dx(1, [], size=64), BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return str(dataset.SOPInstanceUID), buffer.getvalue()


def related(*bodies: bytes, boundary: str = "b") -> bytes:
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + body + b"\r\n" for body in bodies) + f"--{boundary}--\r\n".encode()


KIND = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="b"'}


def test_objects_go_to_their_place_without_their_file_meta() -> None:
    uid, content = film()
    kept: list[tuple[str, bytes]] = []

    def keep(arrived: Arrived) -> int:
        kept.append((arrived.sop_uid, b"".join(arrived.chunks)))
        return 0x0000 if len(kept) == 1 else 0xA700

    with http_server(Script(200, related(content, content, b"no DICOM"), KIND)) as url:
        assert retrieve(HttpPeer(url, timeout_s=5), "1.2", "", keep) == Retrieved(completed=1, failed=2)
    assert [one for one, _ in kept] == [uid, uid]
    assert content.endswith(kept[0][1])
    assert kept[0][1][:2] == b"\x08\x00"


CUT = {
    "cut in an object": (200, related(film()[1])[:-3000], KIND, PeerUnavailable),
    "no multipart": (200, b"{}", {"Content-Type": "application/json"}, PeerRefused),
    "unknown study": (404, b"", {}, PeerRefused),
    "down": (502, b"", {}, PeerUnavailable),
}


@pytest.mark.parametrize(("status", "body", "headers", "kind"), CUT.values(), ids=CUT)
def test_a_retrieval_that_fails(status: int, body: bytes, headers: dict[str, str], kind: type[Exception]) -> None:
    def keep(arrived: Arrived) -> int:
        assert list(arrived.chunks) is not None
        return 0

    with http_server(Script(status, body, headers)) as url, pytest.raises(kind):
        retrieve(HttpPeer(url, timeout_s=5), "1.2", "", keep)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60).filter(lambda body: b"--b" not in body), max_size=4), st.integers(1, 40))
def test_a_body_may_be_cut_anywhere_on_its_way(bodies: list[bytes], step: int) -> None:
    whole = related(*bodies)

    def chunks() -> Iterator[bytes]:
        return (whole[at : at + step] for at in range(0, len(whole), step))

    source = _Bytes(HttpPeer("http://x"), chunks())
    assert [b"".join(part) for part in parts(source, b"b")] == bodies
