"""What a destination is to the outbox: how documents go there, how many at once, and what counts as delivered."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dicom_node.errors import RemoteError
from dicom_node.remote.commitment import CommitmentPeer
from dicom_node.storage.commitments import StoredObject
from dicom_node.storage.results import DocumentRow

Send = Callable[[DocumentRow, bytes], str]  # returns what an operator should know ("" or a warning); raises RemoteError


@dataclass(frozen=True, slots=True)
class Parcel:
    """A document on its way. ``key`` is the same whenever the same document goes to the same destination."""

    document: DocumentRow
    content: bytes
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one parcel. ``error``: why it was not taken; ``note``: what an operator should know of one that was."""

    parcel: Parcel
    error: RemoteError | None = None
    note: str = ""
    stored: StoredObject | None = None


SendMany = Callable[[Sequence[Parcel]], Generator[Answer, None, None]]
"""Yields an answer for each parcel that was tried, as it comes; those without one were not tried.

Raises RemoteError where none of the remaining can be tried.
"""


@dataclass(frozen=True, slots=True)
class CommitmentPolicy:
    """``answer_s``: how long an answer may take. After ``asks`` requests without one, or a bad one, the object is stored again,

    ``sends`` times in all; then it is a dead letter.
    """

    peer: CommitmentPeer
    answer_s: float = 3600
    asks: int = 2
    sends: int = 3


class Witness(Protocol):
    """Told of what leaves the node: the audit trail."""

    def begun(self, documents: Sequence[DocumentRow]) -> None:
        """They are about to be sent. Raises StorageError."""
        ...

    def delivered(self, connection: Any, document: DocumentRow) -> None:
        """The peer has taken it; in the transaction that says so. Raises StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class Destination:
    """``batch``: documents in one go; ``concurrency``: how many such goes at once, of this process.

    With ``commitment`` a stored object is delivered only when the peer has committed itself to keep it. ``witness``: None where
    no audit trail is kept.
    """

    send: SendMany
    batch: int = 1
    concurrency: int = 1
    commitment: CommitmentPolicy | None = None
    witness: Witness | None = None


def one_by_one(send: Send) -> SendMany:
    """For a destination that takes one document at a time."""

    def send_many(parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
        for parcel in parcels:
            try:
                yield Answer(parcel, note=send(parcel.document, parcel.content))
            except RemoteError as error:
                yield Answer(parcel, error)

    return send_many
