"""Which processes live: one row each, gone at a clean end, forgotten after a while otherwise."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.storage.database import Database
from dicom_node.storage.nodes import NodeRow, forget, heartbeat, list_nodes, remove
from dicom_node.storage.outbox import DestinationState, destination_states_of, save_state

WORKER = NodeRow("one~a~b:1:2:work", "one", "work", "0.1.0", 100.0, 100.0, "loading models")
LISTENER = replace(WORKER, owner="two~a~c:1:2:listen", host="two", role="listen", state="ready")


def test_a_process_has_one_row_that_tells_the_latest(db: Database) -> None:
    later = replace(WORKER, seen_at=105.0, state="ready")
    with db.write() as conn:
        for row in (WORKER, LISTENER, later):
            heartbeat(conn, row)
    with db.read() as conn:
        assert list_nodes(conn) == (LISTENER, later)
    with db.write() as conn:
        remove(conn, WORKER.owner)
        remove(conn, "nobody")
        assert list_nodes(conn) == (LISTENER,)


def test_what_was_not_seen_for_long_is_forgotten_with_what_its_machine_said(db: Database) -> None:
    with db.write() as conn:
        heartbeat(conn, WORKER)
        heartbeat(conn, replace(LISTENER, seen_at=900.0))
    for host, since in (("one", 50.0), ("two", 50.0), ("three", 800.0)):
        save_state(db, DestinationState("pacs", host, "open", 3, since, 0.0, "down"))
    with db.write() as conn:
        assert forget(conn, 500.0) == 1
        assert [row.host for row in list_nodes(conn)] == ["two"]
        assert [state.host for state in destination_states_of(conn)] == ["three", "two"]
