"""DICOM peers that we call: C-ECHO and C-STORE (PS3.4 annexes A and B; PS3.7 chapter 9)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification

from dicom_node.errors import PeerRefused, PeerUnavailable

CONTEXT_LIMIT: Final = 128  # presentation contexts of one association: odd ids 1..255 (PS3.8 9.3.2.2)
PDU_SIZE: Final = 131072

_config.STORE_SEND_CHUNKED_DATASET = True  # a file goes out as its own bytes, never decoded and encoded again


@dataclass(frozen=True, slots=True)
class DicomPeer:
    """Where to call, and as whom."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    timeout_s: float = 30

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the peer said of one file: ``status`` as in PS3.4 B.2.3, None where no answer came; ``reason`` for a person."""

    path: Path
    status: int | None
    reason: str

    @property
    def accepted(self) -> bool:
        return self.status is not None and is_accepted(self.status)


def is_accepted(status: int) -> bool:
    """Success, or a warning: the object was stored, perhaps with coercion (PS3.4 table B.2-1)."""
    return status == 0x0000 or status & 0xF000 == 0xB000


def echo(peer: DicomPeer) -> None:
    """C-ECHO. Raises PeerUnavailable where the peer does not answer, PeerRefused where it says no."""
    with _associated(peer, [(Verification, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])]) as association:
        if not association.accepted_contexts:
            raise PeerRefused(f"{peer}: does not accept Verification")
        status = association.send_c_echo()
        if "Status" not in status:
            raise PeerUnavailable(f"{peer}: no answer to C-ECHO within {peer.timeout_s:g} s")
        if status.Status != 0:
            raise PeerRefused(f"{peer}: answered C-ECHO with status 0x{status.Status:04X}")


def store(peer: DicomPeer, content: bytes) -> int:
    """C-STORE one Part 10 object; returns the status, success or warning.

    Raises PeerUnavailable where trying again may help, PeerRefused where the peer refuses this object.
    """
    dataset = dcmread(BytesIO(content))
    context = (dataset.file_meta.MediaStorageSOPClassUID, [dataset.file_meta.TransferSyntaxUID])
    with _associated(peer, [context]) as association:
        if not association.accepted_contexts:
            raise PeerRefused(f"{peer}: accepts no {context[0].name} in {context[1][0].name}")
        answer = association.send_c_store(dataset)
        if "Status" not in answer:
            raise PeerUnavailable(f"{peer}: ended the association or gave no answer to C-STORE within {peer.timeout_s:g} s")
        status = int(answer.Status)
    if is_accepted(status):
        return status
    # A7xx out of resources and 0110 processing failure pass; the others are about this object (PS3.4 B.2.3, PS3.7 C.5)
    kind = PeerUnavailable if status & 0xFF00 == 0xA700 or status == 0x0110 else PeerRefused
    raise kind(f"{peer}: answered C-STORE with status 0x{status:04X}")


def send_files(peer: DicomPeer, paths: Sequence[Path]) -> Iterator[Sent]:
    """C-STORE many files over as few associations as their presentation contexts allow, in order.

    Yields an outcome per file. Raises PeerUnavailable or PeerRefused where no association can be had.
    """
    waiting = iter(paths)
    while batch := list(islice(waiting, 1000)):
        yield from _send_batch(peer, batch)


def _send_batch(peer: DicomPeer, paths: list[Path]) -> Iterator[Sent]:
    described = [(path, _describe(path)) for path in paths]
    pairs = list(dict.fromkeys(what for _, what in described if isinstance(what, tuple)))
    for start in range(0, len(pairs), CONTEXT_LIMIT):
        group = pairs[start : start + CONTEXT_LIMIT]
        files = [path for path, what in described if what in group]
        yield from _send_over_one(peer, files, [(sop_class, [syntax]) for sop_class, syntax in group])
    for path, what in described:
        if isinstance(what, str):
            yield Sent(path, None, what)


def _send_over_one(peer: DicomPeer, paths: list[Path], contexts: list[tuple[str, list[str]]]) -> Iterator[Sent]:
    with _associated(peer, contexts) as association:
        for path in paths:
            if not association.is_established:
                yield Sent(path, None, "the peer ended the association")
                continue
            try:
                answer = association.send_c_store(path)
            except (ValueError, RuntimeError, AttributeError, OSError) as error:
                yield Sent(path, None, f"not sent: {str(error).splitlines()[0]}")
                continue
            if "Status" not in answer:
                yield Sent(path, None, "no answer from the peer")
            else:
                yield Sent(path, int(answer.Status), str(answer.get("ErrorComment", "") or ""))


def _describe(path: Path) -> tuple[str, str] | str:
    """(SOP class, transfer syntax) of a Part 10 file, or why it cannot be sent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = read_file_meta_info(path)
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except InvalidDicomError:
        return "not a DICOM Part 10 file (no DICM prefix)"
    except AttributeError as error:
        return f"file meta information is incomplete ({error.name})"
    except (OSError, ValueError) as error:
        return f"cannot be read ({type(error).__name__})"


@contextmanager
def _associated(peer: DicomPeer, contexts: Sequence[tuple[Any, Sequence[Any]]]) -> Iterator[Any]:
    entity = AE(ae_title=peer.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.timeout_s
    entity.connection_timeout = min(peer.timeout_s, 10)
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, list(syntaxes))
    try:
        association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title, max_pdu=PDU_SIZE)
    except OSError as error:  # the name does not resolve
        raise PeerUnavailable(f"{peer}: cannot be reached ({error.strerror}); is the host name right?") from error
    if association.is_rejected:
        answer = association.acceptor.primitive
        why = f"{answer.source_str}: {answer.reason_str}" if answer is not None else "no reason given"
        raise PeerUnavailable(f"{peer}: rejected the association ({why}); is {peer.calling_ae_title} known there?")
    if not association.is_established:
        # An association with no accepted context is aborted by pynetdicom after it was accepted
        if association.rejected_contexts:
            raise PeerRefused(f"{peer}: accepts none of the presentation contexts we propose")
        raise PeerUnavailable(f"{peer}: no association (nothing listens there, or it closed the connection)")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
