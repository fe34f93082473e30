"""Making the faults happen, and mending them: each fault is a beginning and an end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .clock import compiler
from .faults import NEEDS_POSTGRES, Fault, FaultKind
from .site import Machine, Site, is_small
from .wire import STRAIGHT, Behaviour, Wire

Mend = Callable[[], None]
Strike = Callable[[Site, Fault], Mend]
_AWAY: Final = Behaviour(open=False)
_SILENT: Final = Behaviour(silent=True)
_BALLAST: Final = "ballast"
CLOCKS: Final = (FaultKind.CLOCK_AHEAD, FaultKind.CLOCK_BEHIND)


def _machine(site: Site, fault: Fault) -> Machine:
    return site.machines[fault.machine % len(site.machines)]


def _kill_part(part: str) -> Strike:
    def strike(site: Site, fault: Fault) -> Mend:
        _machine(site, fault).strike(part, signal.SIGKILL)
        return _nothing

    return strike


def _pause(part: str) -> Strike:
    def strike(site: Site, fault: Fault) -> Mend:
        pid = _machine(site, fault).pid(part)
        _signal(pid, signal.SIGSTOP)
        return lambda: _signal(pid, signal.SIGCONT)

    return strike


def _kill_node(site: Site, fault: Fault) -> Mend:
    machine = _machine(site, fault)
    for unit in machine.units.values():
        unit.hold.set()
    machine.kill_all()

    def mend() -> None:
        for unit in machine.units.values():
            unit.hold.clear()

    return mend


def _kill_peer(name: str) -> Strike:
    def strike(site: Site, _fault: Fault) -> Mend:
        peer = next(one for one in site.peers if one.name == name)
        peer.kill()
        return lambda: None if peer.alive else peer.start()

    return strike


def _kill_database(site: Site, _fault: Fault) -> Mend:
    assert site.shared is not None, "PostgreSQL is only there for two machines"
    site.shared.server.crash()
    return site.shared.server.start


def _wire(which: Callable[[Site, Fault], Wire | None], behaviour: Behaviour) -> Strike:
    def strike(site: Site, fault: Fault) -> Mend:
        wire = which(site, fault)
        assert wire is not None, f"there is no line for {fault.kind}"
        wire.behaviour = behaviour

        def mend() -> None:
            if wire.behaviour is behaviour:
                wire.behaviour = STRAIGHT

        return mend

    return strike


def _mode(name: str, text: str) -> Strike:
    def strike(site: Site, _fault: Fault) -> Mend:
        peer = next(one for one in site.peers if one.name == name)
        peer.mode(text)
        return lambda: peer.mode("")

    return strike


def _both(first: Strike, second: Strike) -> Strike:
    def strike(site: Site, fault: Fault) -> Mend:
        mends = [first(site, fault), second(site, fault)]

        def mend() -> None:
            for one in mends:
                one()

        return mend

    return strike


def _leap(ahead_s: int) -> Strike:
    def strike(site: Site, fault: Fault) -> Mend:
        clock = _machine(site, fault).clock
        clock.set(ahead_s)
        return lambda: clock.set(0)

    return strike


def _fill_disk(site: Site, _fault: Fault) -> Mend:
    assert is_small(site.data), "no disk but a small one of its own is filled"
    ballast = site.data / _BALLAST
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()
        except OSError:
            pass
    return lambda: ballast.unlink(missing_ok=True)


def _pacs(site: Site, _: Fault) -> Wire:
    return site.pacs.wire


def _record(site: Site, _: Fault) -> Wire:
    return site.record.wire


def _ris(site: Site, _: Fault) -> Wire:
    return site.ris.wire


def _sender(site: Site, fault: Fault) -> Wire:
    return _machine(site, fault).wire


def _database(site: Site, _: Fault) -> Wire | None:
    return site.database_wire


STRIKES: Final[dict[FaultKind, Strike]] = {
    FaultKind.KILL_LISTEN: _kill_part("listen"),
    FaultKind.KILL_WORK: _kill_part("work"),
    FaultKind.KILL_DELIVER: _kill_part("deliver"),
    FaultKind.KILL_NODE: _kill_node,
    FaultKind.KILL_PACS: _kill_peer("pacs"),
    FaultKind.KILL_RECORD: _kill_peer("record"),
    FaultKind.KILL_RIS: _kill_peer("ris"),
    FaultKind.KILL_DATABASE: _kill_database,
    FaultKind.PAUSE_LISTEN: _pause("listen"),
    FaultKind.PAUSE_WORK: _pause("work"),
    FaultKind.PAUSE_DELIVER: _pause("deliver"),
    FaultKind.CLOCK_AHEAD: _leap(3 * 3600),
    FaultKind.CLOCK_BEHIND: _leap(-2 * 3600),
    FaultKind.DISK_FULL: _fill_disk,
    FaultKind.PACS_DAY: _wire(_pacs, _AWAY),
    FaultKind.RECORD_DAY: _wire(_record, _AWAY),
    FaultKind.RIS_DAY: _wire(_ris, _AWAY),
    FaultKind.PACS_SLOW: _wire(_pacs, Behaviour(bytes_per_s=20_000)),
    FaultKind.PACS_SILENT: _wire(_pacs, _SILENT),
    FaultKind.PACS_CUT: _wire(_pacs, Behaviour(cut_after=7_000)),
    FaultKind.PACS_WARNS: _wire(_pacs, Behaviour(status=0xB000)),
    FaultKind.PACS_FALSE_ALARM: _wire(_pacs, Behaviour(status=0xA700)),
    FaultKind.PACS_FULL: _mode("pacs", "full"),
    FaultKind.PACS_PUZZLED: _both(_mode("pacs", "lose"), _wire(_pacs, Behaviour(status=0xC000))),
    FaultKind.PACS_LIES: _mode("pacs", "lose"),
    FaultKind.RECORD_REFUSES: _mode("record", "refuse"),
    FaultKind.RECORD_SLOW: _mode("record", "slow"),
    FaultKind.RECORD_LIES: _mode("record", "lose"),
    FaultKind.RECORD_CUT: _wire(_record, Behaviour(cut_after=9_000)),
    FaultKind.RIS_BUSY: _mode("ris", "busy"),
    FaultKind.RIS_SILENT: _mode("ris", "silent"),
    FaultKind.RIS_FORGETS: _mode("ris", "forget"),
    FaultKind.SENDER_CUT: _wire(_sender, Behaviour(cut_after=12_000)),
    FaultKind.SENDER_AWAY: _wire(_sender, _AWAY),
    FaultKind.DATABASE_AWAY: _wire(_database, _AWAY),
    FaultKind.DATABASE_SILENT: _wire(_database, _SILENT),
}


def possible(site_data: Path, postgres: bool) -> dict[FaultKind, str]:
    """Every kind of fault, with why it cannot be made here ("" where it can)."""
    why = dict.fromkeys(FaultKind, "")
    for kind in NEEDS_POSTGRES if not postgres else ():
        why[kind] = "the node is on SQLite"
    for kind in CLOCKS if not compiler() else ():
        why[kind] = "there is no C compiler"
    if not is_small(site_data):
        why[FaultKind.DISK_FULL] = "the node's data is on no small disk of its own (mount needs root)"
    return why


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, number)


def _nothing() -> None:
    """What was killed comes back by itself."""
