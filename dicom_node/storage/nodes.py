"""The processes of the node that live, on every machine: each leaves word of itself in ``nodes`` every few seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select, update

from dicom_node.storage.tables import destination_states, nodes


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One process. ``owner``: see ``storage.owner``; ``role``: "listen", "work", "deliver" or "web". Seconds since 1970 UTC."""

    owner: str
    host: str
    role: str
    version: str
    since: float
    seen_at: float
    state: str


def heartbeat(conn: Connection, row: NodeRow) -> None:
    """Say that the process lives."""
    values = asdict(row)
    if not conn.execute(update(nodes).where(nodes.c.owner == row.owner).values(**values)).rowcount:
        conn.execute(insert(nodes).values(**values))


def remove(conn: Connection, owner: str) -> None:
    """The process ends as it should."""
    conn.execute(delete(nodes).where(nodes.c.owner == owner))


def list_nodes(conn: Connection) -> tuple[NodeRow, ...]:
    """By role and host; also those that ended without a word and were not forgotten yet."""
    rows = conn.execute(select(nodes).order_by(nodes.c.role, nodes.c.host, nodes.c.since)).mappings()
    return tuple(NodeRow(**row) for row in rows)


def forget(conn: Connection, unseen_since: float) -> int:
    """Forget processes not seen since then, and what machines without any process said of destinations; how many processes."""
    gone = conn.execute(delete(nodes).where(nodes.c.seen_at < unseen_since)).rowcount
    hosts = select(nodes.c.host)
    stale = (destination_states.c.host.not_in(hosts), destination_states.c.since < unseen_since)
    conn.execute(delete(destination_states).where(*stale))
    return gone
