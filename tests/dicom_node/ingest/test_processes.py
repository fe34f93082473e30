"""Several receiving processes on one port: shared out evenly, one limit for all, and the death of one is only its own."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from dicom_node.errors import StorageBusy
from dicom_node.ingest import channel, processes
from dicom_node.ingest.counts import SharedCounts
from dicom_node.ingest.listener import ListenerSettings
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.ingest.processes import Listeners
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import find_instance
from tests.dicom_node.ingest.wire import Peer, associate_rq, data_set, store
from tests.support import peer_path

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of test_kill's senders, late

ALLOWED = (AllowedPeer("SENDER", ("127.0.0.0/8",)),)


@dataclass(frozen=True)
class Stores:
    db: Database
    files: FileStore


@contextmanager
def open_stores(folder: Path) -> Iterator[Stores]:
    """Module-level, so that it can be pickled and found again in a receiving process."""
    stores = Stores(Database.open(folder / "node.sqlite"), FileStore(folder / "files"))
    try:
        yield stores
    finally:
        stores.db.close()


Start = Callable[..., Listeners]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    started: list[Listeners] = []

    def begin(count: int = 2, deaths: Callable[[], None] = lambda: None, **settings: object) -> Listeners:
        wished = ListenerSettings(port=0, allowed=ALLOWED, watermark_bytes=0, processes=count, **settings)  # type: ignore[arg-type]
        with open_stores(tmp_path):
            pass  # made once, by the parent
        listeners = Listeners(wished, partial(open_stores, tmp_path), on_death=deaths)
        listeners.start()
        started.append(listeners)
        _until(lambda: len(listeners.running()) == count)
        return listeners

    yield begin
    for listeners in started:
        listeners.stop(grace_s=1.0)


def _until(condition: Callable[[], bool], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _children_of(pid: int, port: int) -> int:
    """How many connections of our port a process holds."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return sum(link in inodes for link in links)


def test_connections_are_shared_out_evenly_and_counted_over_all(start: Start) -> None:
    listeners = start(3)
    peers = [Peer.associated(listeners.port) for _ in range(12)]
    _until(lambda: listeners.associations == 12)
    assert [_children_of(pid, listeners.port) for pid in listeners.running().values()] == [4, 4, 4]
    for peer in peers:
        peer.release()
    _until(lambda: listeners.associations == 0)


def test_the_limit_of_associations_is_one_over_all_processes(start: Start) -> None:
    listeners = start(2, max_associations=3)
    peers = [Peer.associated(listeners.port) for _ in range(3)]
    fourth = Peer.call(listeners.port)
    fourth.send(associate_rq())
    assert fourth.pdu() == (3, bytes([0, 2, 3, 2]))  # transient, local limit exceeded
    peers[0].release()
    _until(lambda: listeners.associations == 2)
    Peer.associated(listeners.port).release()


def test_many_at_once_are_stored_and_answered(start: Start, tmp_path: Path) -> None:
    listeners = start(2)
    failures: list[str] = []

    def send(number: int) -> None:
        peer = Peer.associated(listeners.port)
        for image in range(6):
            uid = f"1.2.{number + 1}.{image + 1}"
            peer.send(store(uid, data_set(uid, f"1.9.{number + 1}", pixels=bytes([number]) * 100_000)))
            failures.extend([uid] if peer.status() else [])
        peer.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with open_stores(tmp_path) as stores, stores.db.read() as conn:
        for number in range(16):
            for image in range(6):
                uid = f"1.2.{number + 1}.{image + 1}"
                (row,) = find_instance(conn, uid)
                content = stores.files.path(row.path).read_bytes()[-row.size :]
                assert content == data_set(uid, f"1.9.{number + 1}", pixels=bytes([number]) * 100_000)


def test_one_that_is_killed_takes_only_its_own_and_is_started_again(start: Start) -> None:
    deaths: list[None] = []
    listeners = start(2, deaths=lambda: deaths.append(None))
    peers = [Peer.associated(listeners.port) for _ in range(4)]
    before = listeners.running()
    os.kill(before[0], signal.SIGKILL)
    _until(lambda: listeners.associations == 2)
    served = Counter(_lives(peer) for peer in peers)
    assert served == {True: 2, False: 2}
    Peer.associated(listeners.port).release()  # the port is open all the while
    _until(lambda: len(listeners.running()) == 2)
    after = listeners.running()
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    assert len(deaths) == 1


def _lives(peer: Peer) -> bool:
    try:
        peer.send(store("1.2.77", data_set("1.2.77")))
        return peer.pdu()[0] == 4
    except ConnectionError:
        return False


def test_one_that_is_stopped_gets_no_more_and_is_replaced(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SILENT_S", 3.0)
    listeners = start(2)
    stopped = listeners.running()[0]
    os.kill(stopped, signal.SIGSTOP)
    _until(lambda: Path(f"/proc/{stopped}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    Peer.call(listeners.port)  # it may be given one, which it does not take
    for _ in range(4):
        Peer.associated(listeners.port).release()
    _until(lambda: listeners.running().get(0, stopped) != stopped)
    assert not Path(f"/proc/{stopped}").exists()


def test_one_without_a_sign_of_life_is_passed_over_while_it_is_waited_for(start: Start) -> None:
    listeners = start(2)
    stopped = listeners.running()[0]
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(processes._LATE_S + 0.5)
    peers = [Peer.call(listeners.port, timeout=10) for _ in range(20)]
    for peer in peers:
        peer.send(associate_rq())
    answers = [peer.pdu()[0] for peer in peers]
    os.kill(stopped, signal.SIGKILL)
    assert answers == [2] * 20


def test_one_is_started_again_whatever_fails_over_its_death(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a new process, no descriptor for its task, and a database that does not tell what the old one left."""
    failures = [OSError(errno.ENOMEM, "Cannot allocate memory")]
    untold = [OSError(errno.EMFILE, "Too many open files")]
    spawn, assign = Listeners._spawn, channel.assign

    def untold_once(line: socket.socket, task: channel.Assignment) -> None:
        if untold:
            raise untold.pop()
        assign(line, task)

    def fail_once(listeners: Listeners, theirs: socket.socket) -> subprocess.Popen[bytes]:
        if failures:
            raise failures.pop()
        return spawn(listeners, theirs)

    def nothing_cleared() -> None:
        raise StorageBusy("the database does not answer")

    listeners = start(1, deaths=nothing_cleared)
    before = listeners.running()[0]
    monkeypatch.setattr(Listeners, "_spawn", fail_once)
    monkeypatch.setattr(channel, "assign", untold_once)
    os.kill(before, signal.SIGKILL)
    _until(lambda: listeners.running().get(0, before) != before, 60.0)
    Peer.associated(listeners.port).release()


def test_stopping_lets_what_is_under_way_finish_and_leaves_no_process(start: Start) -> None:
    listeners = start(2)
    pids = list(listeners.running().values())
    peer = Peer.associated(listeners.port)
    data = data_set("1.2.5", pixels=bytes(3_000_000))
    sent = store("1.2.5", data)
    peer.send(sent[: len(sent) // 2])
    stopping = threading.Thread(target=listeners.stop, args=(20.0,))
    stopping.start()
    time.sleep(0.3)
    peer.send(sent[len(sent) // 2 :])
    assert peer.status() == 0
    peer.release()
    stopping.join(30)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_stopping_waits_for_no_process_that_only_starts(start: Start) -> None:
    listeners = start(3)
    for pid in listeners.running().values():
        os.kill(pid, signal.SIGKILL)
    _until(lambda: any(one.process is not None and one.line is None for one in listeners._processes))
    begun = time.monotonic()
    listeners.stop(grace_s=200.0)
    assert time.monotonic() - begun < 150


@pytest.mark.skipif(shutil.which("storescu", path=peer_path()) is None, reason="storescu (DCMTK) is not installed")
def test_dcmtk_over_sixteen_associations(start: Start, tmp_path: Path) -> None:
    from dicom_node.ingest.part10 import file_head
    from tests.dicom_node.ingest.wire import CT, EXPLICIT

    listeners = start(3)
    program = shutil.which("storescu", path=peer_path())
    senders = []
    for number in range(16):
        folder = tmp_path / f"sent-{number}"
        folder.mkdir()
        for image in range(4):
            uid = f"1.2.3.{number + 1}.{image + 1}"
            (folder / f"{image}.dcm").write_bytes(file_head(CT, uid, EXPLICIT, "SENDER") + data_set(uid, pixels=bytes(50_000)))
        command = [
            str(program),
            "-xe",
            "-aet",
            "SENDER",
            "-aec",
            "WETREAD",
            "+sd",
            "127.0.0.1",
            str(listeners.port),
            str(folder),
        ]
        senders.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    told = [sender.communicate(timeout=120)[0] for sender in senders]
    assert [sender.returncode for sender in senders] == [0] * 16, [one[-1500:] for one in told if one]
    with open_stores(tmp_path) as stores, stores.db.read() as conn:
        assert all(find_instance(conn, f"1.2.3.{n + 1}.{i + 1}") for n in range(16) for i in range(4))


def test_turns_are_taken_one_at_a_time_over_processes(tmp_path: Path) -> None:
    """Two processes count in a file under the turn; without it, numbers would be lost."""
    counts = SharedCounts.made(2)
    file = tmp_path / "number"
    file.write_text("0")
    children = []
    for slot in range(2):
        pid = os.fork()
        if not pid:
            mine = SharedCounts(counts.descriptor, slot)
            for _ in range(300):
                with mine.turn():
                    file.write_text(str(int(file.read_text()) + 1))
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    counts.close()
    assert file.read_text() == "600"


def test_a_turn_and_an_admission_are_never_taken_for_a_deadlock() -> None:
    """In each process one thread goes round by turns, one by admissions: neither ever holds one and waits for the other."""
    counts = SharedCounts.made(2)
    children = []
    for slot in range(2):
        pid = os.fork()
        if not pid:
            mine = SharedCounts(counts.descriptor, slot)
            with ThreadPoolExecutor(2) as both:
                rounds = [both.submit(_go_round, one) for one in (mine.turn, mine.held)]
                os._exit(any(one.exception() is not None for one in rounds))
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    counts.close()


def _go_round(lock: Callable[[], AbstractContextManager[None]]) -> None:
    for _ in range(100):
        with lock():
            time.sleep(0.001)
