"""`wetread status`: the node for a terminal. No patient data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dicom_node import app
from dicom_node.errors import SettingsError, StorageError
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.nodes import list_nodes
from dicom_node.storage.owner import host_name
from dicom_node.terminal import console
from dicom_node.views.status import Destination, NodeStatus, Process, Queue, look, processes_of
from dicom_node.views.words import age, moment, priority_name, size

ROLES: Final = ("listen", "work", "deliver", "web")
_EVERY_S: Final = 2.0
_ALERTS_SHOWN: Final = 5
_STATES: Final = {"closed": ("flows", "green"), "open": ("held back", "bold red"), "half-open": ("being tried", "yellow")}


def show(config: Path, *, as_json: bool) -> int:
    """Print it once. Returns 1 where something needs a hand. Raises SettingsError, StorageError."""
    settings = load_settings(config)
    with closing(app.open_database(settings)) as db:
        status = look(settings, db)
    if as_json:
        print(json.dumps(asdict(status), indent=2))
    else:
        console().print(rendered(status), soft_wrap=True)
    return int(bool(status.problems))


def watch(config: Path) -> int:
    """Print it again and again until interrupted; returns as ``show`` for what was seen last."""
    settings, out = load_settings(config), console()
    with closing(app.open_database(settings)) as db, Live(console=out, auto_refresh=False, screen=out.is_terminal) as live:
        troubled = True
        try:
            while True:
                shown, troubled = _looked(settings, db)
                live.update(shown, refresh=True)
                time.sleep(_EVERY_S)
        except KeyboardInterrupt:
            return int(troubled)


def lives(config: Path, role: str) -> int:
    """Whether a process of this role is alive on this machine: 0, else 1; one line. Raises SettingsError, StorageError."""
    if role not in ROLES:
        raise SettingsError(f"--alive {role!r}: allowed: {', '.join(ROLES)}")
    settings = load_settings(config)
    with closing(app.open_database(settings)) as db, db.read() as conn:
        processes = processes_of(list_nodes(conn), db.now())
    mine = [one for one in processes if one.alive and (one.role, one.host) == (role, host_name())]
    print(f"{role}: {mine[0].state}" if mine else f"{role}: no living process on this machine")
    return int(not mine)


def _looked(settings: Settings, db: Database) -> tuple[RenderableType, bool]:
    try:
        status = look(settings, db)
    except StorageError as error:
        return Text(str(error), "bold red"), True
    return rendered(status), bool(status.problems)


def rendered(status: NodeStatus) -> Group:
    """The whole of it, as text and tables."""
    return Group(*_rendered(status))


def _rendered(status: NodeStatus) -> Iterator[RenderableType]:
    disk = f"{size(status.disk.free)} free of {size(status.disk.total)}"
    yield Text(f"{moment(status.at)}   mode {status.mode}   {status.receiving} studies coming in   disk {disk}")
    for problem in status.problems:
        yield Text.assemble(("needs a hand: ", "bold red"), problem.what, (f"   {problem.advice}", "dim"))
    if not status.problems:
        yield Text("nothing needs a hand", "green")
    yield Text()
    yield _processes(status.processes, status.at) if status.processes else Text("no process of the node runs", "bold red")
    yield Text()
    yield _queues(status.queues) if status.queues else Text("nothing waits, nothing was given up", "dim")
    if status.destinations:
        yield Text()
        yield _destinations(status.destinations)
    for event in status.alerts[:_ALERTS_SHOWN]:
        told = age(status.at - event.at)
        yield Text.assemble((f"{told:>7} ago  ", "dim"), (f"{event.kind.value}: ", "yellow"), event.text)


def _processes(processes: tuple[Process, ...], now: float) -> Table:
    table = _table("part", "machine", "state", "runs since", "version")
    for one in processes:
        state = Text(one.state, "green" if one.state == "ready" else "yellow")
        gone = Text(f"gone, last seen {age(now - one.seen_at)} ago", "bold red")
        table.add_row(one.role, one.host, state if one.alive else gone, f"{age(now - one.since)} ago", one.version)
    return table


def _queues(queues: tuple[Queue, ...]) -> Table:
    table = _table("work", "priority", "waits", "in work", "awaits", "given up", "oldest")
    for one in queues:
        dead = Text(str(one.dead), "bold red" if one.dead else "dim")
        numbers = (str(one.queued), str(one.leased), str(one.awaiting), dead)
        name = {"read": "readings", "deliver": "deliveries"}.get(one.kind, one.kind)
        table.add_row(name, priority_name(one.priority), *numbers, age(one.oldest_s) if one.oldest_s else "")
    return table


def _destinations(destinations: tuple[Destination, ...]) -> Table:
    table = _table("destination", "state", "on their way", "given up", "oldest", "why")
    for one in destinations:
        word, style = _STATES.get(one.state, (one.state, "")) if one.known else ("not in the settings", "bold red")
        why = next((host.last_error for host in one.hosts if host.state != "closed"), "")
        waiting, dead = one.queued + one.leased + one.awaiting, Text(str(one.dead), "bold red" if one.dead else "dim")
        table.add_row(
            Text(one.name), Text(word, style), str(waiting), dead, age(one.oldest_s) if one.oldest_s else "", Text(why)
        )
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    return table
