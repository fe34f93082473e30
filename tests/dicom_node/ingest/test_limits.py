"""Memory, disk and lines at their limits: large objects, a disk that is really full, senders that break off."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.ingest import receive
from dicom_node.ingest.listener import Listener, ListenerSettings
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.instances import find_instance
from tests.dicom_node.ingest.wire import CT, Peer, associate_rq, command, data_set, p_data, pdv, store

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of test_kill's senders, late

Start = Callable[..., Any]
BYTES = int(os.environ.get("WETREAD_BIG_OBJECT") or 300_000_000)  # 4000000000 is tried by hand


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
def test_memory_does_not_grow_with_the_object(start: Start) -> None:
    node = start()
    small = Peer.associated(node.port)
    small.send(store("1.2.1", data_set("1.2.1")))
    assert small.status() == 0
    head = data_set("1.2.2", pixels=b"")[:-4] + BYTES.to_bytes(4, "little")
    fragment = p_data(pdv(1, 0, bytes(131066)))
    peer = Peer.associated(node.port, associate_rq(max_pdu=131072))
    before, most = _resident(), 0
    peer.send(p_data(pdv(1, 3, command(1, CT, "1.2.2"))) + p_data(pdv(1, 0, head)))
    whole, rest = divmod(BYTES, 131066)
    for number in range(whole):
        peer.send(fragment)
        if number % 100 == 0:
            most = max(most, _resident())
    peer.send(p_data(pdv(1, 2, bytes(rest))))
    assert peer.status() == 0
    assert max(most, _resident()) - before < 2_000_000
    (row,) = node.rows("1.2.2")
    assert row.size == len(head) + BYTES
    assert node.files.path(row.path).stat().st_size - row.size < 500


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, check=False)
    if not done or done.returncode:
        pytest.skip("a small disk cannot be mounted here: that needs the rights of root")
    yield folder
    subprocess.run([str(shutil.which("umount")), "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    db, files = Database.open(small_disk / "node.sqlite"), FileStore(small_disk)
    listener = Listener(ListenerSettings(port=0, allowed=(AllowedPeer("*", ("127.0.0.1",)),), watermark_bytes=0), db, files)
    listener.start()
    peer = Peer.associated(listener.port)
    sent = {f"1.2.{n}": data_set(f"1.2.{n}", pixels=bytes([n]) * 400_000) for n in range(1, 30)}
    statuses = {}
    for uid, data in sent.items():
        peer.send(store(uid, data))
        statuses[uid] = peer.status()
    assert set(statuses.values()) == {0x0000, 0xA700}
    kept = [uid for uid, status in statuses.items() if status == 0]
    for uid in kept:
        with db.read() as conn:
            (row,) = find_instance(conn, uid)
        assert files.path(row.path).read_bytes()[-row.size :] == sent[uid]
    assert list((small_disk / "spool").iterdir()) == []
    with db.read() as conn:
        (row,) = find_instance(conn, kept[0])
    files.path(row.path).unlink()  # room again
    peer.send(store("1.2.99", data_set("1.2.99", pixels=b"\1\2" * 1000)))
    assert peer.status() == 0
    peer.release()
    listener.stop()
    db.close()


def test_an_abort_a_reset_and_a_line_that_goes_dead_in_the_middle(start: Start) -> None:
    """A modality that gives up, one that loses power, and a cable that is pulled: no byte and no end comes any more."""
    node = start(idle_timeout_s=1.0)
    half = store("1.2.1", data_set("1.2.1", pixels=bytes(1_000_000)))[:600_000]
    gives_up, loses_power, cable = (Peer.associated(node.port) for _ in range(3))
    for peer in (gives_up, loses_power, cable):
        peer.send(half)
    _until(lambda: len(node.partials()) == 3)
    gives_up.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gives_up.close()
    loses_power.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
    loses_power.close()
    _until(lambda: not node.partials() and node.listener.associations == 0)
    assert node.rows("1.2.1") == ()
    again = Peer.associated(node.port)
    again.send(store("1.2.1", data_set("1.2.1", pixels=bytes(1_000_000))))
    assert again.status() == 0
    again.release()
    texts = sorted(event.text for event in node.events())
    assert texts[0] == "Aborted: nothing came in time"
    assert all(text.startswith("Ended in the middle of an object") for text in texts[1:])


def test_stopping_in_the_middle_of_an_object_leaves_nothing(start: Start) -> None:
    node = start()
    peer = Peer.associated(node.port)
    peer.send(store("1.2.1", data_set("1.2.1", pixels=bytes(1_000_000)))[:600_000])
    _until(lambda: len(node.partials()) == 1)
    begun = time.monotonic()
    node.listener.stop(grace_s=0.3)
    assert time.monotonic() - begun < 5
    assert peer.ended() == (0, 0)
    assert node.partials() == []
    assert node.rows("1.2.1") == ()


def test_a_peer_that_takes_no_answers_is_given_up(start: Start) -> None:
    node = start(idle_timeout_s=0.5)
    peer = Peer.associated(node.port)
    peer.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    request = p_data(pdv(3, 3, command(0x30, "1.2.840.10008.1.1", data=False))) * 500
    peer.line.settimeout(0.5)
    try:
        for _ in range(2000):
            peer.send(request)
    except OSError:
        pass  # both directions are full
    _until(lambda: node.listener.associations == 0)
    peer.close()


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_a_connection_for_which_there_is_no_thread_costs_only_itself(start: Start) -> None:
    node = start()
    before = threading.stack_size(1 << 47)  # more than the address space: the system makes no thread
    try:
        assert Peer.call(node.port).pdu() == (0, b"")
    finally:
        threading.stack_size(before)
    Peer.associated(node.port).release()
    node.listener.stop(grace_s=1.0)


def test_no_descriptor_to_read_a_header_again_is_a_reason_to_send_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    node = start()
    peer = Peer.associated(node.port)
    monkeypatch.setattr(receive, "read_header", none_left)
    peer.send(store("1.2.1", data_set("1.2.1"), step=100))  # the first piece does not tell enough
    assert peer.status() == 0xA700
    monkeypatch.undo()
    peer.send(store("1.2.1", data_set("1.2.1"), step=100))
    assert peer.status() == 0
    peer.release()


def test_a_hundred_associations_at_once_leave_nothing_behind(start: Start) -> None:
    """Probes, garbage and real senders again and again: memory, threads and descriptors are as before."""
    node = start(max_associations=120)

    def round_of_a_hundred(number: int) -> None:
        peers = [Peer.associated(node.port) for _ in range(100)]
        assert node.listener.associations == 100
        for at, peer in enumerate(peers):
            uid = f"1.2.{number + 1}.{at + 1}"
            peer.send(store(uid, data_set(uid, "1.2.9", pixels=bytes(20_000))))
        assert [peer.status() for peer in peers] == [0] * 100
        for peer in peers[:50]:
            peer.release()
        for peer in peers[50:]:
            peer.close()
        for content in (b"", b"GET / HTTP/1.0\r\n\r\n", bytes(100)):
            for _ in range(10):
                probe = Peer.call(node.port)
                probe.send(content)
                probe.close()
        _until(lambda: node.listener.associations == 0 and threading.active_count() <= threads)

    threads = threading.active_count()
    round_of_a_hundred(0)
    before = _held()
    for number in range(1, 4):
        round_of_a_hundred(number)
    after = _held()
    assert after[0] <= before[0] + 8  # descriptors; the database keeps a few connections
    assert after[1] - before[1] < 16 << 20  # bytes of memory
    assert node.partials() == []


def _held() -> tuple[int, int]:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), _resident()
