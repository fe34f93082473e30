"""PostgreSQL as the node meets it: started at once by many, refusing, going away, coming back, ending what stands still."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from dicom_node.errors import StorageBusy, StorageError
from dicom_node.storage.bell import READ_TOPIC
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, NewEvent, list_events, record_event
from dicom_node.storage.instances import NewInstance, Outcome, instances_of, record_instance
from dicom_node.storage.jobs import JobKind, NewJob, claim, enqueue, has_place
from dicom_node.storage.migrations import HEAD
from dicom_node.storage.studies import get_study

if TYPE_CHECKING:
    from tests.acceptance.harness.postgres import Postgres, PostgresDatabase

EVENT = NewEvent(EventKind.FAILURE, "text")


@pytest.fixture
def fresh(postgres: Postgres) -> PostgresDatabase:
    """A database that nobody has opened."""
    return postgres.new_database()


@pytest.fixture
def db(fresh: PostgresDatabase) -> Iterator[Database]:
    database = Database.open(fresh.url)
    yield database
    database.close()


def _open(url: str) -> str:
    database = Database.open(url)
    with database.write() as conn:
        record_event(conn, EVENT, 1.0)
    database.close()
    return "opened"


def test_several_processes_that_start_at_once_migrate_once(postgres: Postgres, fresh: PostgresDatabase) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_open, [fresh.url] * 3) == ["opened"] * 3
    name = fresh.url.rpartition("/")[2]
    assert postgres.run("SELECT version_num FROM alembic_version", name) == [(HEAD,)]
    assert postgres.run("SELECT count(*) FROM events", name) == [(3,)]


def test_a_commit_is_synchronous_whatever_the_server_s_habit(postgres: Postgres, fresh: PostgresDatabase) -> None:
    name = fresh.url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = Database.open(fresh.url)
    with database.read() as conn:
        assert conn.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    database.close()


def test_a_reader_sees_one_moment_and_can_write_nothing(db: Database) -> None:
    with db.read() as conn:
        assert list_events(conn) == ()
        with db.write() as other:
            record_event(other, EVENT, 1.0)
        assert list_events(conn) == ()
    with pytest.raises(StorageError), db.read() as conn:
        record_event(conn, EVENT, 1.0)


def test_a_restart_of_the_server_is_busy_and_then_over(postgres: Postgres, db: Database) -> None:
    with db.write() as conn:
        record_event(conn, EVENT, 1.0)
    postgres.crash()
    try:
        before = db.now()
        with pytest.raises(StorageBusy, match="cannot be reached"), db.write() as conn:
            record_event(conn, EVENT, 2.0)
        assert db.now() >= before
    finally:
        postgres.start()
    with db.write() as conn:
        record_event(conn, EVENT, 3.0)
    with db.read() as conn:
        assert sorted(event.at for event in list_events(conn)) == [1.0, 3.0]


def test_a_session_that_is_cut_in_a_transaction_is_busy_and_undone(
    postgres: Postgres, fresh: PostgresDatabase, db: Database
) -> None:
    name = fresh.url.rpartition("/")[2]
    with pytest.raises(StorageBusy), db.write() as conn:  # noqa: PT012 - one transaction
        record_event(conn, EVENT, 1.0)
        postgres.cut_sessions(name)
        record_event(conn, EVENT, 2.0)
    with db.read() as conn:
        assert list_events(conn) == ()


def test_a_process_that_stands_still_in_a_transaction_holds_nobody_up(db: Database) -> None:
    """As one that is stopped by SIGSTOP: the server ends the transaction, and its rows are free."""
    with db.write() as conn:
        enqueue(conn, NewJob(JobKind.READ, "read", "k", "1.2", {}), 1.0)
    with pytest.raises(StorageBusy), db.write() as conn:  # noqa: PT012 - one transaction
        conn.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        conn.exec_driver_sql("SELECT id FROM jobs FOR UPDATE")
        assert claim(db, JobKind.READ, None, "b", 1, 9.0, 2.0) == []
        time.sleep(1.0)
        assert len(claim(db, JobKind.READ, None, "b", 1, 9.0, 3.0)) == 1
        conn.exec_driver_sql("SELECT 1")


def test_a_bell_rings_again_after_the_server_was_away(postgres: Postgres, db: Database) -> None:
    bell = db.bell(READ_TOPIC)
    time.sleep(0.5)
    postgres.crash()
    postgres.start()
    seen, end = bell.rung, time.monotonic() + 30
    while bell.rung == seen and time.monotonic() < end:
        bell.wait(seen, 1.0, threading.Event())
    assert bell.rung > seen, "what was announced meanwhile would be waited for"
    seen = bell.rung
    with db.write() as conn:
        enqueue(conn, NewJob(JobKind.READ, "read", "after", "1.2", {}), 1.0)
    bell.wait(seen, 20.0, threading.Event())
    assert bell.rung > seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda url: url.replace(url.split(":")[2].split("@")[0], "wrong"), "password is wrong", id="wrong password"
        ),
        pytest.param(
            lambda url: url.replace(":" + url.split(":")[2].split("@")[0], ""), "it wants a password", id="no password"
        ),
        pytest.param(lambda url: url.rpartition("/")[0] + "/nothere", "no such database", id="no such database"),
        pytest.param(lambda url: url + "?sslmode=require", "takes no TLS", id="no TLS there"),
        pytest.param(lambda url: url + "?nonsense=1", "no connection parameter", id="an unknown parameter"),
        pytest.param(lambda url: url + "?options=-c%20nonsense%3D1", "refuse", id="an unknown server setting"),
        pytest.param(lambda url: url + "';DROP TABLE jobs;--", "no such database", id="SQL in the name"),
    ],
)
def test_what_the_operator_must_change_is_told_plainly(fresh: PostgresDatabase, change, message: str) -> None:
    url = change(fresh.url)
    with pytest.raises(StorageError, match=message) as caught:
        Database.open(url)
    assert fresh.url.split(":")[2].split("@")[0] not in str(caught.value)


def test_a_server_that_is_not_there_may_come() -> None:
    with pytest.raises(StorageBusy, match="cannot be reached"):
        Database.open("postgresql://wetread:secret@127.0.0.1:1/wetread?connect_timeout=2")


def test_a_password_of_its_own_takes_the_place_of_the_address_s(fresh: PostgresDatabase) -> None:
    password = fresh.url.split(":")[2].split("@")[0]
    Database.open(fresh.settings["database"], password=password).close()


def _arrive(url: str, number: int) -> list[str]:
    """Twenty images of one study, each sent by two machines."""
    database, outcomes = Database.open(url), []
    for at in range(20):
        new = NewInstance(
            f"1.2.3.{at}", "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2", "1.2.840.10008.1.2.1", f"{number}-{at}", 10, "a" * 64,
            "p" * 64,
        )  # fmt: skip
        with database.write() as conn:
            outcomes.append(record_instance(conn, new, 1.0).outcome.value)
    database.close()
    return outcomes


def test_two_listeners_that_get_the_same_images_at_once_record_each_once(fresh: PostgresDatabase, db: Database) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        outcomes = pool.starmap(_arrive, [(fresh.url, 1), (fresh.url, 2)])
    assert sorted(outcome for part in outcomes for outcome in part) == [Outcome.DUPLICATE] * 20 + [Outcome.STORED] * 20
    with db.read() as conn:
        study = get_study(conn, "1.2")
        assert study is not None
        assert (study.instance_count, len(instances_of(conn, "1.2"))) == (20, 20)


def test_the_places_of_a_destination_are_counted_over_all_machines(db: Database) -> None:
    for number in range(4):
        with db.write() as conn:
            enqueue(conn, NewJob(JobKind.DELIVER, "pacs", f"d{number}", "1.2", {}), 1.0)
    assert len(claim(db, JobKind.DELIVER, "pacs", "one:1", 1, 10.0, 1.0, most=2)) == 1
    assert len(claim(db, JobKind.DELIVER, "pacs", "two:1", 1, 10.0, 1.0, most=2)) == 1
    assert claim(db, JobKind.DELIVER, "pacs", "one:2", 1, 10.0, 1.0, most=2) == []
    assert len(claim(db, JobKind.DELIVER, "pacs", "one:2", 1, 10.0, 11.5, most=2)) == 1, "leases that ran out hold no place"


def test_two_that_look_for_a_place_at_once_find_one_between_them(db: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with db.write() as conn:
            assert has_place(conn, JobKind.DELIVER, "pacs", 1, 1.0)
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(10)
    threading.Timer(0.3, leave.set).start()
    began = time.monotonic()
    with db.write() as conn:
        has_place(conn, JobKind.DELIVER, "pacs", 1, 1.0)
    assert time.monotonic() - began > 0.2
    thread.join()
