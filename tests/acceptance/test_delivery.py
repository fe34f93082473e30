"""`wetread deliver` as a process, against real peers: what counts as delivered, what is sent again, and who waits for whom."""

from __future__ import annotations

import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.storage.jobs import JobState

from .harness.outbox import Archive, Sending, certificate, dicom
from .harness.processes import Running, free_port, wait_for

HOOK = Path(__file__).parent / "harness" / "hook.py"

# Orthanc loses what it has just acknowledged, once or always, or takes no such object, where the object asks for it
FORGETFUL = """
local seen = {}
function OnStoredInstance(instanceId, tags, metadata)
  local wish = tags["ImageComments"]
  if wish == "lost always" or (wish == "lost once" and not seen[instanceId]) then
    seen[instanceId] = true
    Delete(instanceId)
  end
end
function ReceivedInstanceFilter(dicom, origin, info)
  return dicom["ImageComments"] ~= "unwanted"
end
"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Archive]:
    """It brings its commitment reports to ``port``, but those for DEAF to where nobody listens."""
    made = Archive(tmp_path_factory.mktemp("archive"), {"WETREAD": port, "DEAF": 1}, FORGETFUL)
    made.start()
    yield made
    made.stop()


@contextmanager
def sending(folder: Path, port: int, tls: object = None, **destinations: object) -> Iterator[Sending]:
    made = Sending(folder, destinations, commitment={"port": port, "sends": 2, "tls": tls})
    try:
        yield made
    finally:
        made.end()


def held(archive: Archive, uids: list[str]) -> int:
    return sum(len(archive._find("Instance", {"SOPInstanceUID": uid})) for uid in uids)


def test_an_object_is_delivered_only_when_the_archive_has_committed_itself(tmp_path: Path, archive: Archive, port: int) -> None:
    """With nobody to hear the report, what is stored awaits it, through kill -9; then it is asked for again and done."""
    with sending(tmp_path, port, pacs=dicom(archive, commitment=True, commitment_timeout_s=2)) as node:
        with socket.create_server(("127.0.0.1", port)):  # the port of the reports is taken by another program
            uids = node.put(count=5)
            node.start()
            node.wait_all("pacs", JobState.AWAITING)
            assert held(archive, uids) == 5
            node.running.kill_session()
        node.start()
        jobs = node.wait_all("pacs", JobState.DONE)
        assert {job.attempts for job in jobs} == {1}
        assert held(archive, uids) == 5


def test_what_the_archive_lost_is_stored_again_and_in_the_end_a_dead_letter(
    tmp_path: Path, archive: Archive, port: int
) -> None:
    with sending(tmp_path, port, pacs=dicom(archive, commitment=True)) as node:
        good, once = node.put(count=2), node.put(comment="lost once")
        lost = node.put(comment="lost always")
        node.start()
        finished = {JobState.DONE, JobState.DEAD}
        wait_for("an end for all", lambda: set(node.states("pacs")) <= finished, seconds=30)
        jobs = {str(job.payload["document"]): job for job in node.jobs("pacs")}
        assert [jobs[uid].state for uid in (*good, *once, *lost)] == [JobState.DONE] * 3 + [JobState.DEAD]
        assert [jobs[uid].attempts for uid in (*good, *once, *lost)] == [1, 1, 2, 2]
        assert "0x0112, no such object instance" in jobs[lost[0]].last_error
        assert held(archive, [*good, *once, *lost]) == 3


def test_an_archive_that_never_reports_is_asked_again_then_stored_to_again_then_given_up(
    tmp_path: Path, archive: Archive, port: int
) -> None:
    silent = dicom(archive, "DEAF", commitment=True, commitment_timeout_s=0.5)
    with sending(tmp_path, port, pacs=silent) as node:
        uids = node.put()
        node.start()
        (job,) = node.wait_all("pacs", JobState.DEAD)
        assert job.attempts == 2
        assert "left 2 requests for commitment without an answer" in job.last_error
        assert held(archive, uids) == 1


class Hanging:
    """A peer that takes connections and then says nothing, ever."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._server.getsockname()[1]
        self.held: list[socket.socket] = []
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        while True:
            try:
                self.held.append(self._server.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._server.close()
        for connection in self.held:
            connection.close()


def test_a_peer_that_hangs_and_one_that_is_gone_hold_up_no_other(tmp_path: Path, archive: Archive, port: int) -> None:
    hanging = Hanging()
    slow = {**dicom(archive), "port": hanging.port, "timeout_s": 2, "concurrency": 2}
    gone = {**dicom(archive), "port": 1}
    with sending(tmp_path, port, slow=slow, gone=gone, good=dicom(archive, concurrency=2)) as node:
        uids = node.put(count=20)
        node.start()
        wait_for("the first to hang", lambda: len(hanging.held), seconds=30)
        started = time.monotonic()
        node.wait_all("good", JobState.DONE)
        assert time.monotonic() - started < 10
        assert held(archive, uids) == 20
        for name in ("slow", "gone"):
            wait_for(f"{name} to be held back", lambda n=name: (s := node.state_of(n)) and s.state == "open", seconds=30)
            assert all(job.last_error for job in node.jobs(name))
            assert JobState.DEAD not in node.states(name)
        hanging.close()


def test_a_destination_that_comes_back_gets_all_that_waited_without_a_hand(tmp_path: Path, port: int) -> None:
    away = Archive(tmp_path / "orthanc", {"WETREAD": port})
    with sending(tmp_path / "node", port, pacs=dicom(away, batch=2)) as node:
        uids = node.put(count=9)
        node.start()
        wait_for("the breaker to open", lambda: (s := node.state_of("pacs")) and s.state == "open", seconds=30)
        away.start()
        try:
            node.wait_all("pacs", JobState.DONE)
            assert held(away, uids) == 9
            state = node.state_of("pacs")
            assert state is not None
            assert (state.state, state.failures) == ("closed", 0)
        finally:
            away.stop()


def test_c_store_and_commitment_over_tls_with_both_sides_known(tmp_path: Path, port: int) -> None:
    theirs, their_key = certificate(tmp_path, "archive")
    ours, our_key = certificate(tmp_path, "node")
    pacs = Archive(
        tmp_path / "orthanc",
        {"WETREAD": port},
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(theirs),
        DicomTlsPrivateKey=str(their_key),
        DicomTlsTrustedCertificates=str(ours),
        DicomTlsRemoteCertificateRequired=True,
    )
    known = {"ca_file": str(theirs), "certificate_file": str(ours), "key_file": str(our_key)}
    pacs.start()
    ways = {"known": known, "nameless": {"ca_file": str(theirs)}, "stranger": {**known, "ca_file": str(ours)}}
    try:
        targets = {name: dicom(pacs, tls=tls, commitment=True) for name, tls in ways.items()}
        with sending(tmp_path / "node", port, tls=known, **targets) as node:
            uids = node.put(count=2)
            node.start()
            node.wait_all("known", JobState.DONE)
            assert held(pacs, uids) == 2
            for name in ("nameless", "stranger"):
                told = wait_for(
                    "a reason", lambda n=name: [job.last_error for job in node.jobs(n) if job.last_error], seconds=20
                )
                assert "TLS failed" in told[0], told
    finally:
        pacs.stop()


def test_stow_stores_what_it_can_and_each_object_has_its_own_answer(tmp_path: Path, archive: Archive, port: int) -> None:
    archive.require_dicomweb()
    # Orthanc says "stored" even of what its own filter drops: only looking for it shows the truth
    web = {"kind": "stow", "url": f"{archive.url}/dicom-web", "timeout_s": 5, "confirm": True}
    with sending(tmp_path, port, web=web, lost={**web, "url": f"{archive.url}/elsewhere"}) as node:
        good, unwanted = node.put("web", count=3), node.put("web", comment="unwanted")
        node.put("lost")
        node.start()
        node.wait_settled("web", done=3)
        node.wait_settled("lost", done=0)
        jobs = {str(job.payload["document"]): job for job in node.jobs("web")}
        assert {jobs[uid].state for uid in good} == {JobState.DONE}
        assert {jobs[uid].attempts for uid in good} == {1}
        assert jobs[unwanted[0]].state is not JobState.DONE
        assert "said that it stored the object, but does not find it" in jobs[unwanted[0]].last_error
        assert held(archive, [*good, *unwanted]) == 3
        (job,) = node.jobs("lost")
        assert job.state is not JobState.DONE
        assert "HTTP 404" in job.last_error


def test_a_webhook_is_told_once_per_study_without_patient_data(tmp_path: Path, port: int) -> None:
    """The receiver is a process of its own; it turns the first notice of each study away, and checks every signature."""
    secret = "a secret that both sides know"
    (tmp_path / "secret").write_text(f"{secret}\n")
    receiver = Running("the receiver", [sys.executable, HOOK, tmp_path / "got.jsonl", secret], tmp_path / "receiver.log")
    try:
        where = wait_for("the receiver's port", lambda: (tmp_path / "receiver.log").read_text().strip(), seconds=20)
        hook = {"kind": "webhook", "url": f"http://127.0.0.1:{where}/hook", "secret_file": str(tmp_path / "secret")}
        with sending(tmp_path / "node", port, hook=hook) as node:
            node.put(count=3)
            node.start()
            jobs = node.wait_all("hook", JobState.DONE)
            got = [json.loads(line) for line in (tmp_path / "got.jsonl").read_text().splitlines()]
            assert {one["signature"] for one in got} == {"good"}
            assert sorted(one["status"] for one in got) == [200] * 3 + [503] * 3
            by_study = {one["body"]["data"]["study_digest"]: one["id"] for one in got}
            assert len(by_study) == len(set(by_study.values())) == 3  # the second try carries the id of the first
            digests = {hmac.digest(secret.encode(), job.study_uid.encode(), "sha256").hex() for job in jobs}
            assert set(by_study) == digests
            assert all(job.study_uid not in json.dumps(got) for job in jobs)
    finally:
        receiver.kill_session()
