"""DICOM peers that we call: C-ECHO and C-STORE (PS3.4 annexes A and B; PS3.7 chapter 9), over TLS where wished (PS3.15 B.9)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_role
from pynetdicom.sop_class import Verification

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.tls import TlsFiles, client_context, tls_fault

CONTEXT_LIMIT: Final = 128  # presentation contexts of one association: odd ids 1..255 (PS3.8 9.3.2.2)
PDU_SIZE: Final = 131072
DUPLICATE: Final = 0x0111  # PS3.7 C.5.7

_config.STORE_SEND_CHUNKED_DATASET = True  # a file goes out as its own bytes, never decoded and encoded again


@dataclass(frozen=True, slots=True)
class DicomPeer:
    """Where to call, and as whom."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    timeout_s: float = 30
    tls: TlsFiles | None = None  # PS3.15 B.9, BCP 195; None: none

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}{' over TLS' if self.tls else ''}"


def is_accepted(status: int) -> bool:
    """Success, or a warning: the object was stored, perhaps with coercion (PS3.4 table B.2-1)."""
    return status == 0x0000 or status & 0xF000 == 0xB000


def echo(peer: DicomPeer) -> None:
    """C-ECHO. Raises PeerUnavailable where the peer does not answer, PeerRefused where it says no."""
    with associated(peer, [(Verification, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])]) as association:
        if not association.accepted_contexts:
            raise PeerRefused(f"{peer}: does not accept Verification")
        status = association.send_c_echo()
        if "Status" not in status:
            raise PeerUnavailable(f"{peer}: no answer to C-ECHO within {peer.timeout_s:g} s")
        if status.Status != 0:
            raise PeerRefused(f"{peer}: answered C-ECHO with status 0x{status.Status:04X}")


@dataclass(frozen=True, slots=True)
class Stored:
    """What came of one object. ``error`` None: it is there; ``status`` then tells success from a warning."""

    sop_class_uid: str
    sop_uid: str
    status: int
    error: PeerUnavailable | PeerRefused | None = None


def store(peer: DicomPeer, content: bytes) -> int:
    """C-STORE one Part 10 object; returns the status, success or warning.

    Raises PeerUnavailable where trying again may help, PeerRefused where the peer refuses this object.
    """
    with closing(store_many(peer, [content])) as outcomes:
        one = next(outcomes)
    if one.error:
        raise one.error
    return one.status


def store_many(peer: DicomPeer, contents: Sequence[bytes]) -> Generator[Stored, None, None]:
    """C-STORE Part 10 objects over one association, in order; at most 128.

    Yields what came of each, up to the one at which the peer ended the association or fell silent: those after it were not
    sent. Raises PeerUnavailable or PeerRefused where no association can be had.
    """
    datasets = [_opened(content) for content in contents]
    metas = [dataset.file_meta for dataset in datasets if dataset is not None]
    if not metas:
        yield from (_no_dicom() for _ in contents)
        return
    contexts = list(dict.fromkeys((meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas))
    with associated(peer, [(sop_class, [syntax]) for sop_class, syntax in contexts]) as association:
        accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
        for dataset in datasets:
            if dataset is None:
                yield _no_dicom()
                continue
            yield _store_one(peer, association, dataset, accepted)
            if not association.is_established:
                return


def _no_dicom() -> Stored:
    return Stored("", "", 0xC000, PeerRefused("the document is not a DICOM Part 10 file"))


def _opened(content: bytes) -> Dataset | None:
    try:
        return dcmread(BytesIO(content))
    except InvalidDicomError:
        return None


def _store_one(peer: DicomPeer, association: Any, dataset: Dataset, accepted: Container[tuple[Any, Any]]) -> Stored:
    sop_class, syntax = dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.TransferSyntaxUID
    named = (str(sop_class), str(dataset.file_meta.MediaStorageSOPInstanceUID))
    if (sop_class, syntax) not in accepted:
        return Stored(*named, 0x0122, PeerRefused(f"{peer}: accepts no {sop_class.name} in {syntax.name}"))
    try:
        answer = association.send_c_store(dataset)
    except RuntimeError:  # the association ended just now
        answer = Dataset()
    if "Status" not in answer:
        if association.is_established:
            association.abort()
        why = f"ended the association or gave no answer to C-STORE within {peer.timeout_s:g} s"
        return Stored(*named, 0x0110, PeerUnavailable(f"{peer}: {why}"))
    status = int(answer.Status)
    return Stored(*named, status, refusal(f"{peer}: answered C-STORE with", status))


def refusal(what: str, status: int) -> PeerUnavailable | PeerRefused | None:
    """None for a status that means stored, else the error of its class.

    A7xx out of resources, 0110 processing failure and 0213 resource limitation pass; the others are about this object (PS3.4
    B.2.3, PS3.7 annex C). 0111, duplicate SOP instance, means that it is there: our UIDs are made of what they name.
    """
    if is_accepted(status) or status == DUPLICATE:
        return None
    kind = PeerUnavailable if status & 0xFF00 == 0xA700 or status in (0x0110, 0x0213) else PeerRefused
    return kind(f"{what} status 0x{status:04X}")


@contextmanager
def associated(
    peer: DicomPeer,
    contexts: Sequence[tuple[Any, Sequence[Any]]],
    handlers: Sequence[tuple[Any, Any]] = (),
    as_scp: Sequence[Any] = (),
) -> Iterator[Any]:
    """An association with these presentation contexts, released at the end. Raises PeerUnavailable, PeerRefused.

    ``as_scp``: SOP classes for which we propose to be the SCP (PS3.7 D.3.3.4).
    """
    entity = AE(ae_title=peer.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.timeout_s
    entity.connection_timeout = min(peer.timeout_s, 10)
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, list(syntaxes))
    tls = {"tls_args": (client_context(peer, peer.tls), peer.host)} if peer.tls else {}
    roles = [build_role(sop_class, scp_role=True) for sop_class in as_scp]
    title = {"ae_title": peer.ae_title, "max_pdu": PDU_SIZE, "ext_neg": roles or None}
    try:
        association = entity.associate(peer.host, peer.port, **title, **tls, evt_handlers=list(handlers))
    except OSError as error:  # the name does not resolve
        raise PeerUnavailable(f"{peer}: cannot be reached ({error.strerror}); is the host name right?") from error
    _must_be_established(peer, association)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _must_be_established(peer: DicomPeer, association: Any) -> None:
    if association.is_rejected:
        answer = association.acceptor.primitive
        why = f"{answer.source_str}: {answer.reason_str}" if answer is not None else "no reason given"
        raise PeerUnavailable(f"{peer}: rejected the association ({why}); is {peer.calling_ae_title} known there?")
    if association.is_established:
        return
    # An association with no accepted context is aborted by pynetdicom after it was accepted
    if association.rejected_contexts:
        raise PeerRefused(f"{peer}: accepts none of the presentation contexts we propose")
    why = _tls_failure(peer) if peer.tls else ""
    raise PeerUnavailable(f"{peer}: no association ({why or 'nothing listens there, or it closed the connection'})")


def _tls_failure(peer: DicomPeer) -> str:
    """Why the peer cannot be spoken to over TLS, by trying once more: pynetdicom does not tell. "" where it can be."""
    if peer.tls is None:
        return ""
    limit = min(peer.timeout_s, 10)
    try:
        with socket.create_connection((peer.host, peer.port), timeout=limit) as plain:
            wrapped = client_context(peer, peer.tls).wrap_socket(plain, server_hostname=peer.host)
            with wrapped:
                wrapped.settimeout(1)
                wrapped.recv(1)  # under TLS 1.3 a refusal of our certificate comes with the first read
    except ssl.SSLError as error:
        return tls_fault(error)
    except OSError:
        return ""
    return ""
