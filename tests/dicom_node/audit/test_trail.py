"""From the act to the repository: nothing lost, in order, whatever breaks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from lxml import etree
from sqlalchemy import func, select, update

from dicom_node.audit import Auditor, events
from dicom_node.audit.deliveries import delivery_audit
from dicom_node.audit.derive import derive
from dicom_node.audit.message import Source
from dicom_node.audit.sender import AuditSender
from dicom_node.audit.transport import Datagrams, LogFile, Stream
from dicom_node.errors import PeerUnavailable
from dicom_node.keeping.purge import Purger
from dicom_node.keeping.rules import cutoffs
from dicom_node.phantom_dicom import phantom_dx
from dicom_node.remote.tls import TlsFiles
from dicom_node.retention_settings import RetentionSettings
from dicom_node.settings import load_settings
from dicom_node.storage.audit import backlog, waiting_messages
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, record_event
from dicom_node.storage.files import FileStore
from dicom_node.storage.results import documents_of
from dicom_node.storage.tables import chores, instances
from tests.acceptance.harness.outbox import certificate
from tests.dicom_node.audit.repository import Repository, parsed
from tests.dicom_node.audit.test_messages import SCHEMA
from tests.dicom_node.keeping.conftest import empty_database as empty_database
from tests.dicom_node.keeping.store import DAY, Made, Store, open_store

NOW = 2000 * DAY
NODE = events.Party("wetread", ("WETREAD",), "node1")


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Iterator[Store]:
    shutil.copy(empty_database, tmp_path / "node.sqlite")
    made = open_store(tmp_path)
    yield made
    made.db.close()


def _auditor(files: FileStore, *, pseudonyms: bool = False) -> Auditor:
    return Auditor(NODE, Source("WETREAD@node1"), files, pseudonyms)


def _write(db: Database, files: FileStore, first: int, count: int) -> None:
    """Numbered messages, one transaction each."""
    auditor = _auditor(files)
    for number in range(first, first + count):
        with db.write() as conn:
            auditor.record(conn, events.authentication(NODE, f"user{number}", "::1", login=True), float(number))


def _numbers(lines: list[bytes]) -> list[int]:
    found = [etree.fromstring(parsed(line)[2].encode()).find("ActiveParticipant").get("UserID") for line in lines]
    return [int(name.removeprefix("user")) for name in found]


def _firsts(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def _waiting(db: Database) -> int:
    with db.read() as conn:
        return backlog(conn)[0]


def _until(what: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_messages_arrive_over_mutual_tls_and_are_forgotten_when_they_have_settled(store: Store, tmp_path: Path) -> None:
    ours, theirs = certificate(tmp_path, "node"), certificate(tmp_path, "repository")
    repository = Repository((*theirs, ours[0]))
    transport = Stream("127.0.0.1", repository.port, TlsFiles(theirs[0], *ours), 5)
    now = [100.0]
    sender = AuditSender(store.db, transport, "me", settle_s=5, clock=lambda: now[0])
    _write(store.db, store.files, 0, 150)
    while sender.step():
        pass
    _until(lambda: len(repository.lines) == 150)
    assert _numbers(repository.lines) == list(range(150))
    assert repository.peers == ["node"]
    assert _waiting(store.db) == 150, "kept until the connection has lived on for a while"
    now[0] += 6
    sender.step()
    assert _waiting(store.db) == 0
    transport.close()
    repository.stop()


def test_a_repository_that_is_not_who_it_should_be_gets_nothing(store: Store, tmp_path: Path) -> None:
    ours, theirs, other = (certificate(tmp_path, name) for name in ("node", "repository", "other"))
    repository = Repository((*theirs, ours[0]))
    sender = AuditSender(store.db, Stream("127.0.0.1", repository.port, TlsFiles(other[0], *ours), 5), "me")
    _write(store.db, store.files, 0, 1)
    with pytest.raises(PeerUnavailable, match="TLS failed"):
        sender.step()
    assert (repository.lines, _waiting(store.db)) == ([], 1)
    repository.stop()


def test_what_was_sent_before_a_connection_broke_is_sent_again_in_order(store: Store) -> None:
    repository = Repository(break_after=30)
    sender = AuditSender(store.db, Stream("127.0.0.1", repository.port, None, 5), "me", settle_s=0.3)
    stop = threading.Event()
    _write(store.db, store.files, 0, 80)
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    _until(lambda: len(repository.lines) >= 30)
    repository.stop()
    _write(store.db, store.files, 80, 20)
    again = Repository(port=repository.port)
    _until(lambda: _waiting(store.db) == 0, 30)
    stop.set()
    thread.join()
    again.stop()
    assert _firsts(_numbers(again.lines)) == list(range(100))


def test_an_unreachable_repository_costs_nothing_but_time(store: Store) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    sender = AuditSender(store.db, Stream("127.0.0.1", port, None, 1), "me")
    _write(store.db, store.files, 0, 3)
    for _ in range(2):
        with pytest.raises(PeerUnavailable, match=f"127.0.0.1 port {port}"):
            sender.step()
    assert _waiting(store.db) == 3


PROGRAM = """
import sys, threading
from pathlib import Path
from dicom_node.audit.sender import AuditSender
from dicom_node.audit.transport import Stream
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from tests.dicom_node.audit.test_trail import _write
folder, port, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
db, files = Database.open(folder / "node.sqlite"), FileStore(folder / "files")
sender = AuditSender(db, Stream("127.0.0.1", port, None, 5), f"me{first}", settle_s=0.2)
threading.Thread(target=sender.run, args=(threading.Event(),), daemon=True).start()
for number in range(first, first + 200):
    _write(db, files, number, 1)
    print(number, flush=True)
threading.Event().wait()
"""


def test_kill_9_loses_no_message_that_was_committed(store: Store, tmp_path: Path) -> None:
    repository = Repository()
    written: list[int] = []
    for first in (0, 1000):
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path), str(repository.port), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                written.append(int(line))
                if written[-1] == first + 40:
                    os.kill(child.pid, signal.SIGKILL)
    with store.db.write() as conn:
        conn.execute(update(chores).values(until=0.0))  # the killed sender's lease has run out
    stop = threading.Event()
    sender = AuditSender(store.db, Stream("127.0.0.1", repository.port, None, 5), "last", settle_s=0.2)
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    _until(lambda: _waiting(store.db) == 0)
    stop.set()
    thread.join()
    repository.stop()
    assert set(written) <= set(_numbers(repository.lines))
    assert _firsts(_numbers(repository.lines)) == sorted(set(_numbers(repository.lines)))


def test_udp_and_a_file_take_the_same_lines(store: Store, tmp_path: Path) -> None:
    _write(store.db, store.files, 0, 3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        AuditSender(store.db, Datagrams("127.0.0.1", server.getsockname()[1]), "me").step()
        assert _numbers([server.recv(65536) for _ in range(3)]) == [0, 1, 2]
    assert _waiting(store.db) == 0
    _write(store.db, store.files, 3, 2)
    path = tmp_path / "trail" / "audit.log"
    AuditSender(store.db, LogFile(path), "me").step()
    assert _numbers(path.read_bytes().splitlines()) == [3, 4]
    assert path.stat().st_mode & 0o077 == 0
    assert _waiting(store.db) == 0


def test_received_images_and_rejected_callers_are_told_of_once(store: Store) -> None:
    auditor = _auditor(store.files)
    assert derive(store.db, auditor, NOW, 60) == 0, "what came before the trail was begun is not told of"
    for study, count in (("1.1", 3), ("1.2", 1)):
        for number in range(count):
            store.receive(study, f"{study}.{number}", NOW)
    with store.db.write() as conn:
        record_event(conn, NewEvent(EventKind.REJECTED_ASSOCIATION, "not allowed", calling_ae="EVIL", host="10.9.9.9"), NOW)
        record_event(conn, NewEvent(EventKind.FAILURE, "something else"), NOW)
    assert derive(store.db, auditor, NOW + 30, 60) == 0, "a transaction may still be under way"
    assert derive(store.db, auditor, NOW + 61, 60) == 3
    assert derive(store.db, auditor, NOW + 600, 60) == 0
    with store.db.read() as conn:
        found = [etree.fromstring(row.text) for row in waiting_messages(conn, 10)]
    counts = [one.find(".//SOPClass").get("NumberOfInstances") for one in found[:2]]
    assert [one.find(".//EventID").get("csd-code") for one in found] == ["110104", "110104", "110113"]
    assert counts == ["3", "1"]


@pytest.mark.parametrize(("pseudonyms", "shown"), [(False, "PHANTOM"), (True, "pseudonym pppppppppppppppp")])
def test_how_a_patient_is_named(store: Store, pseudonyms: bool, shown: str) -> None:
    """The only place that knows the Patient ID is the image itself."""
    store.make(Made("1.1", NOW))
    with store.db.read() as conn:
        path = store.files.path(conn.execute(select(instances.c.path).limit(1)).scalar_one())
    dataset = phantom_dx(1, patient_id="PHANTOM")
    dataset.save_as(path, enforce_file_format=True)
    with store.db.read() as conn:
        assert _auditor(store.files, pseudonyms=pseudonyms).study(conn, "1.1", []).patient == shown


def test_a_purge_is_told_of_in_its_own_transaction(store: Store) -> None:
    old = NOW - 400 * DAY
    store.make(Made("1.1", old, document_at=old))
    auditor = _auditor(store.files)
    Purger(store.db, store.files, auditor).by_age(cutoffs(RetentionSettings(high=None, low=None), NOW), NOW)
    with store.db.read() as conn:
        found = [etree.fromstring(row.text) for row in waiting_messages(conn, 10)]
        assert conn.execute(select(func.count()).select_from(instances)).scalar() == 0
    assert [one.find(".//EventID").get("csd-code") for one in found] == ["110105", "110103"]
    assert found[0].find(".//SOPClass").get("NumberOfInstances") == "2"


def test_images_that_come_after_all_others_were_purged_are_told_of(store: Store) -> None:
    """SQLite gives their rows the numbers of those that are gone."""
    auditor = _auditor(store.files)
    derive(store.db, auditor, NOW, 60)
    store.make(Made("1.1", NOW - 400 * DAY, images=5))
    derive(store.db, auditor, NOW, 60)
    Purger(store.db, store.files).by_age(cutoffs(RetentionSettings(high=None, low=None), NOW), NOW)
    store.receive("1.2", "1.2.1", NOW)
    assert derive(store.db, auditor, NOW + 100) == 1


def test_images_that_a_purge_takes_are_told_of_first(store: Store) -> None:
    """`wetread purge` may come before the keeper has gone through what was received."""
    auditor = _auditor(store.files)
    derive(store.db, auditor, NOW)
    store.make(Made("1.1", NOW - 400 * DAY, images=3))
    purger = Purger(store.db, store.files, auditor, lambda: derive(store.db, auditor, NOW))
    purger.by_age(cutoffs(RetentionSettings(high=None, low=None), NOW), NOW)
    with store.db.read() as conn:
        found = [etree.fromstring(row.text).find(".//EventID").get("csd-code") for row in waiting_messages(conn, 10)]
    assert found == ["110104", "110105"]


DESTINATIONS = {
    "pacs": ({"kind": "dicom", "host": "10.1.2.3", "port": 104, "ae_title": "ORTHANC"}, ["110102", "110104"], "10.1.2.3"),
    "web": ({"kind": "stow", "url": "https://pacs.example.org/dicom-web?key=1"}, ["110102", "110104"], "pacs.example.org"),
    "record": ({"kind": "fhir", "url": "https://fhir.example.org/r4"}, ["110106"], "fhir.example.org"),
    "ris": ({"kind": "hl7", "host": "10.1.2.5", "port": 2575}, ["110106"], "10.1.2.5"),
    "archive": ({"kind": "folder", "path": "out"}, ["110106"], None),
}


@pytest.mark.parametrize("name", DESTINATIONS)
def test_what_leaves_is_told_of_with_its_study_patient_and_destination(store: Store, tmp_path: Path, name: str) -> None:
    tree, expected, host = DESTINATIONS[name]
    (tmp_path / "node.yaml").write_text(yaml.safe_dump({"destinations": {name: tree}}))
    store.make(Made("1.1", NOW, document_at=NOW))
    with store.db.read() as conn:
        (row,) = documents_of(conn, "1.1")
    wished = load_settings(tmp_path / "node.yaml").destinations[name]
    witness = delivery_audit(store.db, _auditor(store.files, pseudonyms=True), name, wished)
    assert witness is not None
    witness.begun([row])
    with store.db.write() as conn:
        witness.delivered(conn, row)
    with store.db.read() as conn:
        found = [etree.fromstring(one.text) for one in waiting_messages(conn, 10)]
    assert [one.find(".//EventID").get("csd-code") for one in found] == expected
    for one in found:
        SCHEMA.assertValid(one)
        peer = next(part for part in one.findall("ActiveParticipant") if part.get("UserID") == name)
        assert peer.get("NetworkAccessPointID") == host
        ids = [part.get("ParticipantObjectID") for part in one.findall("ParticipantObjectIdentification")]
        assert ids == ["1.1", "pseudonym pppppppppppppppp"]
        assert "key=1" not in etree.tostring(one).decode()


def test_without_a_repository_nothing_is_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("{}")
    auditor = Auditor.of(load_settings(tmp_path / "node.yaml"), store.files)
    with store.db.write() as conn:
        auditor.record(conn, events.activity(NODE, started=True), NOW)
    auditor.removed(None, "1.1", "study", (), NOW)  # type: ignore[arg-type]
    assert derive(store.db, auditor, NOW) == 0
    assert _waiting(store.db) == 0


def test_a_fault_that_nobody_foresaw_does_not_end_the_trail(store: Store) -> None:
    """Python's own resolver raises UnicodeError, which is no OSError, of such a name."""
    _write(store.db, store.files, 0, 1)
    sender = AuditSender(store.db, Stream("audit..example", 6514, None, 1.0), "here:1", settle_s=0.0)
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    try:
        thread.join(timeout=0.5)
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(timeout=5)
    assert _waiting(store.db) == 1


def test_an_alarm_that_was_numbered_before_an_older_one_is_told_too(store: Store) -> None:
    """On PostgreSQL two processes number their rows in another order than they looked at the clock."""
    auditor = _auditor(store.files)
    derive(store.db, auditor, NOW, settled_s=0.0)
    with store.db.write() as conn:
        for at in (NOW + 2, NOW + 1):
            record_event(conn, NewEvent(EventKind.REJECTED_ASSOCIATION, "it was rejected"), at)
    told = [derive(store.db, auditor, NOW + seconds, settled_s=60.0) for seconds in (61.5, 70.0)]
    assert sum(told) == 2
