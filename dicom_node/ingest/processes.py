"""Several receiving processes on one port: more than one processor core for what many senders send at once.

This process accepts, and hands each connection to the receiving process that has the fewest. (``SO_REUSEPORT`` would share them
out by a hash of the addresses: of four connections, two processes would serve two each in three cases of eight; and what waits
in the queue of a process that dies would be lost.) A process that dies, or that shows no sign of life, takes only its own
associations with it, and is started again; the port stays open.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from dicom_node.errors import ListenError, describe
from dicom_node.ingest import channel
from dicom_node.ingest.counts import SharedCounts
from dicom_node.ingest.listener import ListenerSettings, bind
from dicom_node.ingest.services import ServiceMaker, no_services

_LONGEST_WAIT_S: Final = 60.0  # before a process that dies again and again is started anew
_SILENT_S: Final = 30.0  # without a sign of life, and a process is ended
_LATE_S: Final = 3.0  # without one, and others are given connections first
_START_S: Final = 180.0  # as long as it is not ready; its database may be slow to answer
_TICK_S: Final = 0.25
_FULL_S: Final = 0.05
_log = structlog.get_logger()


@dataclass
class Process:
    """One receiving process at a time: ``given`` connections have been handed to it. ``line``: to it, once it is ready.

    ``seen``: when it last showed a sign of life (monotonic seconds).
    """

    slot: int
    process: subprocess.Popen[bytes] | None = None
    line: socket.socket | None = None
    given: int = 0
    seen: float = 0.0


class Listeners:
    """As ``listener.Listener``, with ``settings.processes`` receiving processes.

    ``opener`` opens database and files in each of them, and ``services`` makes its services: both are pickled.
    ``on_death``: called after a process has died. ``serial_commits``: they take turns at the database (SQLite).
    """

    def __init__(
        self,
        settings: ListenerSettings,
        opener: channel.Opener,
        services: ServiceMaker = no_services,
        on_death: Callable[[], None] = lambda: None,
        serial_commits: bool = True,
    ) -> None:
        self._settings = settings
        self._opener, self._services = opener, services
        self._on_death, self._serial_commits = on_death, serial_commits
        self._counts = SharedCounts.made(settings.processes)
        self._processes = [Process(slot) for slot in range(settings.processes)]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._woken, self._waker = socket.socketpair()
        self._listening: socket.socket | None = None
        self._port = 0
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The bound port. Raises ListenError before ``start``."""
        if self._listening is None:
            raise ListenError("The listener has not been started")
        return self._port

    @property
    def associations(self) -> int:
        """How many are open, over all processes."""
        return self._counts.inside()

    def running(self) -> dict[int, int]:
        """Process ID of each process that is ready, by its number."""
        with self._lock:
            return {one.slot: one.process.pid for one in self._processes if one.line is not None and one.process is not None}

    def start(self) -> None:
        """Bind and listen; peers are served when this returns. Raises ListenError, which names the address."""
        self._listening = bind(self._settings)
        self._port = int(self._listening.getsockname()[1])
        self._threads = [
            threading.Thread(target=self._keep, args=(one,), name=f"keep-receiving-{one.slot}", daemon=True)
            for one in self._processes
        ]
        self._threads.append(threading.Thread(target=self._hand_over, args=(self._listening,), name="dicom-port", daemon=True))
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + _START_S
        while not self.running() and time.monotonic() < deadline:
            self._closing.wait(_FULL_S)

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept no more, let open associations finish for up to ``grace_s`` seconds, then abort them."""
        if self._listening is None:
            return
        self._closing.set()
        self._waker.send(b"x")
        self._threads.pop().join()
        self._listening.close()
        self._listening = None
        self._tell_to_stop(grace_s)
        deadline = time.monotonic() + grace_s + 10.0
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._kill_all()
        for thread in self._threads:
            thread.join()
        for end in (self._woken, self._waker):
            end.close()
        self._counts.close()

    def _tell_to_stop(self, grace_s: float) -> None:
        with self._lock:
            for one in self._processes:
                if one.line is not None:
                    with contextlib.suppress(OSError):  # it may end at any moment; its keeper sees to that
                        one.line.send(channel.STOP + str(grace_s).encode())
                elif one.process is not None:
                    one.process.kill()  # it serves nobody yet

    def _kill_all(self) -> None:
        with self._lock:
            left = [one.process for one in self._processes if one.process is not None]
        for process in left:
            process.kill()

    def _hand_over(self, listening: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listening, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing.is_set():
                if any(key.fileobj is listening for key, _ in selector.select()):
                    self._accept(listening)

    def _accept(self, listening: socket.socket) -> None:
        """A connection is taken from the system only when there is a process for it: until then it waits there."""
        ready = self._by_load()
        if not ready:
            self._closing.wait(_FULL_S)
            return
        try:
            connection, address = listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            _log.error("a connection cannot be accepted", error=str(error))
            self._closing.wait(0.1)
            return
        with connection:
            if not any(self._give(one, connection, str(address[0])) for one in ready):
                _log.error("a connection was closed: no receiving process takes it", host=str(address[0]))

    def _by_load(self) -> list[Process]:
        """Those that are ready; first the ones that live and take what they are given, of those the one with the fewest."""
        late = time.monotonic() - _LATE_S
        with self._lock:
            ready = [one for one in self._processes if one.line is not None]
            return sorted(ready, key=lambda one: (one.seen < late, *self._counts.load(one.slot, one.given)))

    def _give(self, one: Process, connection: socket.socket, host: str) -> bool:
        with self._lock:
            if one.line is None:
                return False
            try:
                channel.give(one.line, connection, host)
            except OSError:
                return False
            one.given += 1
            return True

    def _keep(self, one: Process) -> None:
        """Start the process, and again when it dies: after 1, 2, 4 … 60 seconds, from 1 again once it has run a minute."""
        wait = 1.0
        while not self._closing.is_set():
            started = time.monotonic()
            status = self._life(one)
            if self._closing.is_set():
                return
            wait = 1.0 if time.monotonic() - started > _LONGEST_WAIT_S else wait
            _log.error("a receiving process ended; it will be started again", status=status, seconds=wait)
            self._tell_of_death()
            self._closing.wait(wait if time.monotonic() - started < _LONGEST_WAIT_S else 0.0)
            wait = min(2 * wait, _LONGEST_WAIT_S)

    def _life(self, one: Process) -> int | None:
        """As ``_run``; None where there is no descriptor or memory for a process."""
        try:
            return self._run(one)
        except OSError as error:
            _log.error("a receiving process cannot be started", error=str(error))
            return None

    def _tell_of_death(self) -> None:
        try:
            self._on_death()
        except Exception as error:  # noqa: BLE001 - it is started again, whatever becomes of what it left
            _log.error("what a receiving process left is not cleared away", error=describe(error))

    def _run(self, one: Process) -> int:
        """One life of a process; its exit status."""
        ours, theirs = channel.pair()
        with ours, theirs:
            process = self._spawn(theirs)
            theirs.close()
            with self._lock:
                one.process, one.given = process, 0
                if self._closing.is_set():
                    process.kill()
            task = channel.Assignment(self._settings, self._opener, self._services, one.slot, self._serial_commits)
            try:
                channel.assign(ours, task)
            except OSError:  # it has ended, or there is no descriptor for its task, for which it would wait
                process.kill()
            self._watch(one, process, ours)
            with self._lock:
                one.process = one.line = None
        self._counts.clear(one.slot)
        return process.wait()

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = (theirs.fileno(), self._counts.descriptor)
        command = [sys.executable, "-m", "dicom_node.ingest.receiving", *map(str, descriptors)]
        return subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL)

    def _watch(self, one: Process, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        """Until it is gone; one that shows no sign of life is ended. To start it may take longer."""
        beats, one.seen = -1, time.monotonic()
        line.settimeout(_TICK_S)
        while process.poll() is None:
            self._look_for_ready(one, process, line)
            now, longest = time.monotonic(), _START_S if one.line is None else _SILENT_S
            if self._counts.beats(one.slot) != beats or now - one.seen > 2 * longest:
                beats, one.seen = self._counts.beats(one.slot), now  # or this process itself was stopped meanwhile
            elif now - one.seen > longest:
                _log.error("a receiving process shows no sign of life and is ended", process=process.pid)
                process.kill()
                process.wait()

    def _look_for_ready(self, one: Process, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        try:
            told = line.recv(1)
        except TimeoutError:
            return
        except ConnectionError:
            told = b""
        if told == channel.READY:
            with self._lock:
                if self._closing.is_set():  # too late to be told
                    process.kill()
                else:
                    one.line = line
        elif not told:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SILENT_S)
            process.kill()  # nothing, where it has ended
