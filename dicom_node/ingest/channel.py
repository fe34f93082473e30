"""What a parent and a receiving process say to each other: packets of a local socket, each one message."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dicom_node.ingest.services import ServiceMaker
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

CONNECTION, STOP, READY = b"c", b"s", b"r"
_HEAD: Final = 1
_LARGEST: Final = 1 << 16


class Stores(Protocol):
    @property
    def db(self) -> Database: ...

    @property
    def files(self) -> FileStore: ...


Opener = Callable[[], AbstractContextManager[Stores]]


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a receiving process must know; it is pickled. ``opener``: opens database and files, and closes them."""

    settings: Any
    opener: Opener
    services: ServiceMaker
    slot: int
    serial_commits: bool


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def assign(channel: socket.socket, assignment: Assignment) -> None:
    """By a file in memory: it may be larger than a packet."""
    descriptor = os.memfd_create("wetread-assignment")
    try:
        os.write(descriptor, pickle.dumps(assignment))
        socket.send_fds(channel, [CONNECTION], [descriptor])
    finally:
        os.close(descriptor)


def assigned(channel: socket.socket) -> Assignment:
    """Raises EOFError where the parent is gone."""
    _, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 1)
    if not descriptors:
        raise EOFError
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        return pickle.load(file)  # type: ignore[no-any-return]  # from our own parent, by a socket that no other has


def give(channel: socket.socket, connection: socket.socket, host: str) -> None:
    """Hand a connection over. Raises OSError where the process is gone, BlockingIOError where it takes no more."""
    socket.send_fds(channel, [CONNECTION + host.encode()], [connection.fileno()], socket.MSG_DONTWAIT)


@dataclass(frozen=True, slots=True)
class Message:
    """A CONNECTION's ``text`` is the address it comes from; that of a STOP, how many seconds of grace there are."""

    kind: bytes
    text: str = ""
    connection: socket.socket | None = None


def receive(channel: socket.socket) -> Message | None:
    """The next message; None where the other side is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 1)
    except ConnectionError:
        return None
    if not data:
        return None
    connection = socket.socket(fileno=descriptors[0]) if descriptors else None
    return Message(data[:_HEAD], data[_HEAD:].decode(), connection)
