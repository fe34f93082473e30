"""The line with a peer where descriptors are scarce, or many."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

import pytest

from dicom_node.ingest.line import Line
from tests.dicom_node.ingest.wire import Peer, data_set, store


def test_without_a_descriptor_for_a_pipe_an_object_is_received_all_the_same(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    node = start()
    peer = Peer.associated(node.port)
    data = data_set("1.2.1", pixels=bytes(range(256)) * 2000)
    monkeypatch.setattr(os, "pipe", none_left)
    peer.send(store("1.2.1", data))
    assert peer.status() == 0
    monkeypatch.undo()
    peer.send(store("1.2.2", data_set("1.2.2", pixels=bytes(300_000))))
    assert peer.status() == 0
    peer.release()
    (row,) = node.rows("1.2.1")
    assert node.files.path(row.path).read_bytes()[-row.size :] == data


def test_whether_something_has_come_is_known_of_a_high_descriptor() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("no descriptor above 1023 is allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500)) as high:
        line = Line(high, 5.0)
        assert not line.waiting()
        theirs.send(b"x")
        assert line.waiting()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
