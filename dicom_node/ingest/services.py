"""Other services on the listener's port and AE title: the seam by which query/retrieve or storage commitment is plugged in.

The listener knows of a service only its SOP classes. Its commands come here whole; storing objects costs nothing more for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dicom_node.ingest.policy import Caller
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore

MAX_DATA_SET = 32 << 20  # bytes of a request's identifier or action information; 100,000 references have 15 MB


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context, with the roles of the peer in it (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntax: str
    id: int = 0
    peer_is_scu: bool = True
    peer_is_scp: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its data set.

    ``field``: Command Field (0000,0100). ``elements``: the command set, element number of group 0000 → value as sent (little
    endian, padded). ``data_set``: encoded in the context's transfer syntax; empty where there is none.
    """

    field: int
    message_id: int
    elements: Mapping[int, bytes]
    context: Context
    data_set: bytes
    caller: Caller


class Exchange(Protocol):
    """What a service answers with. Every call may raise what ends an association; a service lets that pass."""

    @property
    def contexts(self) -> tuple[Context, ...]:
        """All that were accepted."""
        ...

    @property
    def stopping(self) -> bool:
        """The node stops: end soon."""
        ...

    def respond(self, status: int, data_set: bytes = b"", comment: str = "", elements: Mapping[int, bytes] = {}) -> None:
        """Send one response, pending or final. ``elements``: more of group 0000, each of even length."""
        ...

    def cancelled(self) -> bool:
        """Whether the peer has sent a C-CANCEL; does not wait."""
        ...

    def quiet(self, seconds: float) -> bool:
        """Whether the peer says nothing for so long, and does not end the association either; waits for it."""
        ...

    def report(self, event: int, data_set: bytes, sop_class_uid: str, sop_uid: str, heard: Callable[[int], None]) -> None:
        """Send an N-EVENT-REPORT, after the response. ``heard``: called with the status that the peer answers, if it does."""
        ...

    def store(
        self,
        context: Context,
        sop_class_uid: str,
        sop_uid: str,
        data_set: Path,
        offset: int,
        originator: tuple[str, int] | None = None,
    ) -> int:
        """A C-STORE sub-operation to the peer: the bytes of a file from ``offset``; returns the peer's status.

        ``originator``: AE title and message ID of the C-MOVE that asked for it.
        """
        ...


class Service(Protocol):
    """Serves the commands of some SOP classes, in the thread of the association that they come on."""

    @property
    def sop_classes(self) -> frozenset[str]:
        """Abstract syntaxes; none of storage or verification."""
        ...

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """Those that it reads and writes."""
        ...

    @property
    def gets(self) -> bool:
        """Whether storage contexts are accepted with the peer as SCP too, which C-GET needs."""
        ...

    def serve(self, request: Request, exchange: Exchange) -> None:
        """Send one final response. Where it raises, or returns without one, 0x0110 (processing failure) is sent."""
        ...


ServiceMaker = Callable[[Database, FileStore], Sequence[Service]]


def no_services(_db: Database, _files: FileStore) -> Sequence[Service]:
    return ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What the listener offers beyond verification and the standard's storage classes.

    ``extra``: storage SOP classes; ``any_private``: every SOP class that PS3.6 does not know, too.
    """

    extra: frozenset[str] = frozenset()
    any_private: bool = False
    services: tuple[Service, ...] = ()
    by_class: Mapping[str, Service] = field(init=False)

    def __post_init__(self) -> None:
        found = {uid: service for service in self.services for uid in service.sop_classes}
        object.__setattr__(self, "by_class", found)

    @property
    def gets(self) -> bool:
        return any(service.gets for service in self.services)
