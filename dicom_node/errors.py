"""Errors of the node.

NodeError
├── SettingsError   the configuration cannot be used; the message names file, key and what is allowed
├── PixelError      permanent: this file or frame cannot be read as an image; ``reason`` says why
├── StudySlow       retryable: a study's images took longer to open and decode than one study may
├── StorageError    permanent: the disk or the database failed; the message names it
│   ├── StorageBusy      retryable: locked, unreachable, out of space
│   │   └── StorageFull  the disk has less room than its watermark
│   └── LeaseLost        another worker has taken the job; what was done must not be saved
├── ListenError     the node cannot listen: the message names the address and port
└── RemoteError     a peer that we call
    ├── PeerUnavailable  retryable: no answer, rejected association, out of resources, login
    └── PeerRefused      permanent: the peer refuses this object

Retry is decided by class, never by message.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from inference.errors import InferenceError
from reporting.errors import ReportingError


class NodeError(Exception):
    """Base of all errors raised by ``dicom_node``."""


class SettingsError(NodeError):
    """The configuration cannot be used. The message names the file, the key and what is allowed."""


class PixelError(NodeError):
    """This file or frame cannot be read as an image, now or later.

    ``reason`` is a plain sentence part without patient data and without the path ("has no pixel data"): it follows the name
    of the instance in logs and becomes ``inference.reading.Skipped.reason``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StudySlow(NodeError):  # noqa: N818
    """Opening and decoding a study's images took longer than one study may; its disk may be quicker later."""


class StorageError(NodeError):
    """The disk or the database failed."""


class StorageBusy(StorageError):  # noqa: N818
    """The disk or the database cannot serve at the moment; the same call may work later."""


class StorageFull(StorageBusy):
    """The disk has less room than its watermark; nothing was written."""


class LeaseLost(StorageError):  # noqa: N818
    """The lease of a job has passed to another owner."""


class ListenError(NodeError):
    """The node cannot listen at the configured address."""


class RemoteError(NodeError):
    """A peer that we call failed."""


class PeerUnavailable(RemoteError):  # noqa: N818
    """The peer cannot take anything now; the same call may work later."""


class PeerRefused(RemoteError):  # noqa: N818
    """The peer refuses this object; the same call will be refused again."""


def describe(error: BaseException) -> str:
    """What an operator may read of a failure. Our own messages hold no patient data; of others, only the kind and place."""
    if isinstance(error, NodeError | InferenceError | ReportingError):
        return f"{type(error).__name__}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return f"{type(error).__name__}" + "".join(f" in {Path(frame.filename).name}:{frame.lineno}" for frame in place)
