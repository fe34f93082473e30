"""Whether the sender has no more of a study: the last association that carried it was released."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from dicom_node.completion import Completeness, Held, Rule
from dicom_node.ingest.assembly import Assembler, Plan, QuietTime
from dicom_node.routing import Conditions
from dicom_node.storage.database import Database
from dicom_node.storage.senders import all_released_at, end_senders, forget_senders, note_sender
from dicom_node.storage.studies import get_study
from tests.dicom_node.ingest.wire import ABORT, Peer, data_set, store

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of test_kill's senders, late

Start = Callable[..., Any]


@pytest.fixture
def db(tmp_path: Any) -> Any:
    database = Database.open(tmp_path / "senders.sqlite")
    yield database
    database.close()


ENDINGS = [
    pytest.param([("a", 10.0, 20.0, True)], 20.0, id="released"),
    pytest.param([("a", 10.0, 20.0, False)], None, id="aborted"),
    pytest.param([("a", 10.0, 0.0, False)], None, id="open"),
    pytest.param([("a", 10.0, 20.0, True), ("b", 11.0, 0.0, False)], None, id="one released, one open"),
    pytest.param([("a", 10.0, 20.0, False), ("b", 21.0, 30.0, True)], 30.0, id="aborted, sent again and released"),
    pytest.param([("a", 10.0, 20.0, True), ("b", 21.0, 30.0, False)], None, id="released, then one aborted"),
    pytest.param([("a", -90000.0, 0.0, False), ("b", 21.0, 30.0, True)], 30.0, id="one of a process that died long ago"),
    pytest.param([], None, id="nobody is known"),
]


@pytest.mark.parametrize(("rows", "expected"), ENDINGS)
def test_the_end_that_counts(db: Database, rows: list[tuple[str, float, float, bool]], expected: float | None) -> None:
    with db.write() as conn:
        for name, since, ended, released in rows:
            note_sender(conn, name, "1.2", since)
            note_sender(conn, name, "1.2", since + 1)
            note_sender(conn, name, "1.9", since)
            if ended:
                end_senders(conn, [(name, released)], ended)
        assert all_released_at(conn, "1.2", 100.0) == expected
        forget_senders(conn, "1.2")
        assert all_released_at(conn, "1.2", 100.0) is None


def _send(node: Any, uid: str) -> Peer:
    peer = Peer.associated(node.port)
    peer.send(store(uid, data_set(uid, "1.5")))
    assert peer.status() == 0
    return peer


def _complete(node: Any, ahead_s: float = 0.0) -> bool:
    rule = Rule(Conditions(), quiet_s=1000.0, settle_s=0.0, ask=False, end_s=1.0)
    with node.db.read() as conn:
        study = get_study(conn, "1.5")
    assert study is not None
    return Completeness([rule], Held(node.db, node.files), None).complete(study, time.time() + ahead_s)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_study_is_complete_soon_after_its_last_sender_is_released(start: Start) -> None:
    node = start(tells_ends=True)
    first, second = _send(node, "1.2.1"), _send(node, "1.2.2")
    first.release()
    _until(lambda: node.listener.associations == 1)
    assert not _complete(node, ahead_s=5.0)
    second.release()
    _until(lambda: _complete(node, ahead_s=5.0))
    assert not _complete(node)  # not before its second has passed
    assert Assembler(node.db, QuietTime(0), lambda *_: Plan("chest")).settle(time.time() + 5) == 1
    assert not _complete(node, ahead_s=5.0)  # the next instance begins anew


@pytest.mark.parametrize("ending", [ABORT + b"\0", b""], ids=["A-ABORT", "the line breaks"])
def test_an_abort_is_no_end(start: Start, ending: bytes) -> None:
    node = start(tells_ends=True)
    peer = _send(node, "1.2.1")
    peer.send(ending)
    peer.close()
    _until(lambda: node.listener.associations == 0)
    assert not _complete(node, ahead_s=5.0)
    _send(node, "1.2.2").release()
    _until(lambda: _complete(node, ahead_s=5.0))


def test_where_nobody_asks_nothing_is_written(start: Start) -> None:
    node = start()
    _send(node, "1.2.1").release()
    with node.db.read() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM study_senders").scalar() == 0
