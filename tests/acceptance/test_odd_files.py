"""Whatever is sent, the node goes on: each file is stored and answered for, or refused with a status and an event."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from dicom_node.phantom_dicom import phantom_dx
from tests.conftest import shared

from .conftest import House
from .harness import dcmtk
from .harness.node import wait_for_none
from .harness.rawsend import Answer, Parcel, cut_line, parcel, poke, store_raw

GARBAGE = {
    "nothing": b"",
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100dc010000d8030300"),
    "an association request that is cut off": b"\x01\x00\x00\x00\x10\x00\x00\x01\x00\x00WETREAD",
    "a PDU of 4 GB": b"\x04\x00\xff\xff\xff\xff" + b"\0" * 4096,
    "an association of zeros": b"\x01\x00\x00\x00\x00\x44" + b"\0" * 68,
    "an unknown PDU": b"\x99\x00\x00\x00\x00\x04abcd",
    "noise": bytes(range(256)) * 64,
}


@pytest.fixture(scope="module")
def sent(house: House) -> list[tuple[Parcel, Answer]]:
    """Every file of nonimage_or_odd and charset, its data set sent byte for byte; then every stored study is read."""
    corpus = shared("WETREAD_DICOM", "dicom")
    paths = [path for folder in ("nonimage_or_odd", "charset") for path in sorted((corpus / folder).iterdir())]
    parcels = [p for p in map(parcel, paths) if p.content]  # one file is a header alone: there is no data set to send
    assert len(parcels) >= len(paths) - 1
    answers = [(p, store_raw(house.node.port, p)) for p in parcels]
    house.node.wait_settled({p.study_uid for p, answer in answers if answer.status == 0 and p.study_uid})
    return answers


def test_every_file_got_an_answer(sent: list[tuple[Parcel, Answer]]) -> None:
    """A DICOM status, or a presentation context refused: never a broken association."""
    assert len(sent) > 40
    silent = {p.name: a.why for p, a in sent if a.status is None and a.why != "context refused"}
    assert silent == {}


def test_a_context_is_refused_only_to_what_is_not_a_storage_class(sent: list[tuple[Parcel, Answer]]) -> None:
    refused = {p.name for p, a in sent if a.why == "context refused"}
    assert refused <= {"pydicom__DICOMDIR.dcm"}


def test_every_refusal_has_a_failure_status_a_comment_and_an_event(house: House, sent: list[tuple[Parcel, Answer]]) -> None:
    refused = [(p, a) for p, a in sent if a.status]
    assert refused, "the corpus holds files that cannot be stored"
    events = house.node.events()
    for p, answer in refused:
        assert answer.status is not None
        assert answer.status & 0xF000 in (0xA000, 0xC000), f"{p.name}: 0x{answer.status:04X}"
        assert answer.comment, f"{p.name}: 0x{answer.status:04X} without a comment"
        told = [event for event in events if event.sop_uid in (p.sop_instance, "") and answer.comment[:40] in event.text]
        assert told, f"{p.name}: no event"


def test_every_stored_study_has_a_result_or_a_reason(house: House, sent: list[tuple[Parcel, Answer]]) -> None:
    for uid in {p.study_uid for p, a in sent if a.status == 0}:
        (*_, result) = house.node.results(uid)
        assert result["sources"] or result["reason"].strip(), uid
        assert result["reason"] or result["findings"], uid


def test_what_was_stored_was_delivered(house: House, sent: list[tuple[Parcel, Answer]]) -> None:
    """To the PACS, in a study with no second patient, and to the record; a delivery that is dead says why."""
    dead = {}
    for uid in {p.study_uid for p, a in sent if a.status == 0}:
        for job in house.node.jobs(uid):
            if job.state == "dead":
                dead[f"{uid} {job.kind} {job.queue}"] = job.last_error
    assert dead == {}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_at_the_port_stops_nothing(house: House, garbage: str) -> None:
    before = house.node.parts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            poke(house.node.port, GARBAGE[garbage])
    assert house.node.answers()
    assert house.node.parts() == before


def test_a_line_that_breaks_in_the_middle_of_a_film_leaves_no_half_file(house: House, tmp_path: Path) -> None:
    film = phantom_dx(3, [], size=1024, study_uid=generate_uid(), patient_id="PHANTOM-CUT")
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    with cut_line(house.node.port, 500_000) as port:  # of 2 MB
        output = dcmtk.storescu(port, [tmp_path / "film.dcm"])
    assert dcmtk.accepted(output) == 0, output.text
    assert house.node.answers()
    assert wait_for_none(lambda: list((house.node.data / "spool").iterdir()), seconds=30) == []
    assert house.node.instances(film.StudyInstanceUID) == ()

    assert dcmtk.accepted(dcmtk.storescu(house.node.port, [tmp_path / "film.dcm"])) == 1
    assert len(house.node.instances(film.StudyInstanceUID)) == 1


def test_after_all_this_the_node_still_runs_with_the_same_processes(house: House) -> None:
    assert set(house.node.parts()) == {"serve", "work", "deliver"}
    assert "a process of the node ended" not in house.node.running.output
    assert "Traceback" not in house.node.running.output
    assert dcmtk.echoscu(house.node.port).status == os.EX_OK
