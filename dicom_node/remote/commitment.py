"""Storage commitment with the peers that we store to (PS3.4 annex J): we ask as SCU, and hear the answer.

The answer comes over the association of the request while that lasts, or over one that the peer opens to us later, in which
it proposes itself as SCP by role selection (J.3.3.1).
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_node.errors import ListenError, PeerRefused, PeerUnavailable
from dicom_node.remote.dimse import DicomPeer, associated

REQUEST: Final = 1  # Action Type ID, J.3.2.1
ALL_COMMITTED: Final = 1  # Event Type ID, J.3.3.1
FAILURES_EXIST: Final = 2
_SYNTAXES: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
# N-ACTION statuses that say "not for you" or "never" (PS3.7 annex C); all others may pass
_REFUSALS: Final = frozenset({0x0112, 0x0117, 0x0118, 0x0119, 0x0122, 0x0123, 0x0124, 0x0211})
# Success; or, from before we were interrupted, a request that the peer has: duplicate transaction UID, duplicate invocation
_TAKEN: Final = frozenset({0x0000, 0x0131, 0x0210})
_ENTRIES: Final = 100_000  # of a report; more is none of ours
REASONS: Final = {  # Failure Reason (0008,1197), PS3.3 C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance conflict",
    0x0122: "referenced SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}


@dataclass(frozen=True, slots=True)
class CommitmentPeer:
    """Whom to ask. ``hold_s``: how long the association is kept open for an answer over it."""

    peer: DicomPeer
    hold_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One object to be committed to."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a peer says of one request.

    ``committed``: SOP Instance UIDs it will keep. ``failed``: the others, each with its Failure Reason (0008,1197).
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int]


Hear = Callable[[Report], None]  # raises where the report could not be noted; the peer is then told so, and may repeat it


def ask(whom: CommitmentPeer, transaction_uid: str, objects: Sequence[Asked], hear: Hear, wait: threading.Event) -> None:
    """N-ACTION; then listen for ``hold_s`` on the same association, or until ``wait`` is set.

    Raises PeerUnavailable where asking again may help, PeerRefused where the peer does not offer storage commitment.
    """
    came = threading.Event()

    def heard(report: Report) -> None:
        hear(report)
        came.set()

    handlers = [(evt.EVT_N_EVENT_REPORT, _hearing(heard))]
    peer = whom.peer
    with associated(peer, [(StorageCommitmentPushModel, _SYNTAXES)], handlers) as association:
        if not association.accepted_contexts:
            raise PeerRefused(f"{peer}: does not accept Storage Commitment; set `commitment: false` for it")
        answer, _ = association.send_n_action(
            _request(transaction_uid, objects), REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        if "Status" not in answer:
            raise PeerUnavailable(f"{peer}: no answer to a storage commitment request within {peer.timeout_s:g} s")
        status = int(answer.Status)
        if status not in _TAKEN:
            kind = PeerRefused if status in _REFUSALS else PeerUnavailable
            raise kind(f"{peer}: answered a storage commitment request with status 0x{status:04X}")
        steps = int(whom.hold_s / 0.05)
        while steps > 0 and association.is_established and not came.is_set() and not wait.wait(0.05):
            steps -= 1


def offer(peer: DicomPeer) -> None:
    """Raises PeerRefused where the peer does not accept Storage Commitment, PeerUnavailable where it does not answer."""
    with associated(peer, [(StorageCommitmentPushModel, _SYNTAXES)]):
        pass


def _request(transaction_uid: str, objects: Sequence[Asked]) -> Dataset:
    """Table J.3-1."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(one) for one in objects]
    return request


def _reference(one: Asked) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = one.sop_class_uid
    item.ReferencedSOPInstanceUID = one.sop_uid
    return item


class ReportListener:
    """Listens for N-EVENT-REPORT over associations that the peers open.

    ``own_titles``: the AE titles under which we ask, and by which they call. ``peers``: AE titles that may call.
    """

    def __init__(
        self, host: str, port: int, own_titles: Collection[str], peers: Collection[str], hear: Hear,
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._address, self._hear, self._tls = (host, port), hear, tls
        self._own = frozenset(own_titles)
        self._entity = AE(ae_title=sorted(own_titles)[0])
        self._entity.require_calling_aet = sorted(peers)
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = 60
        self._entity.maximum_associations = 64
        self._entity.add_supported_context(StorageCommitmentPushModel, _SYNTAXES, scu_role=False, scp_role=True)
        self._entity.add_supported_context(Verification, _SYNTAXES)
        self._server: Any = None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Raises ListenError where the address cannot be listened on."""
        handlers = [(evt.EVT_N_EVENT_REPORT, _hearing(self._hear)), (evt.EVT_REQUESTED, self._judge)]
        try:
            self._server = self._entity.start_server(self._address, block=False, evt_handlers=handlers, ssl_context=self._tls)
        except OSError as error:
            host, port = self._address
            why = f"{host} port {port}: {error.strerror}"
            raise ListenError(f"cannot listen for storage commitment on {why}; change `commitment`") from error

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _judge(self, event: Any) -> None:
        """Rejected permanently by the service user: called AE title not recognised (PS3.8 table 9-21)."""
        called = event.assoc.requestor.primitive.called_ae_title
        if str(called).strip() not in self._own:
            event.assoc.acse.send_reject(0x01, 0x01, 0x07)
            event.assoc.kill()


def _hearing(hear: Hear) -> Callable[[Any], tuple[int, None]]:
    """An N-EVENT-REPORT handler: the peer is answered when ``hear`` has returned (0x0000) or failed (0x0110)."""

    def handle(event: Any) -> tuple[int, None]:
        try:
            report = read_report(int(event.request.EventTypeID), event.event_information)
        except (AttributeError, ValueError, TypeError, KeyError):
            return 0x0115, None  # invalid argument value
        try:
            hear(report)
        except Exception:  # noqa: BLE001  whatever it was, the peer must not believe that we know
            return 0x0110, None
        return 0x0000, None

    return handle


def read_report(event_type: int, information: Dataset) -> Report:
    """Tables J.3-2 and J.3-3; an object that is named both ways has failed. Raises ValueError, AttributeError for no report."""
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise ValueError(f"Event Type ID {event_type}")
    good = information.get("ReferencedSOPSequence") or []
    bad = information.get("FailedSOPSequence") or []
    if len(good) + len(bad) > _ENTRIES or (event_type == ALL_COMMITTED and bad):
        raise ValueError("not a report of storage commitment")
    failed = {str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", 0x0110)) for item in bad}
    committed = frozenset(str(item.ReferencedSOPInstanceUID) for item in good) - failed.keys()
    return Report(str(information.TransactionUID), committed, failed)


def tell(peer: DicomPeer, report: Report, classes: Mapping[str, str]) -> None:
    """Our own report to a peer that asked us, over an association in which we are the SCP (J.3.3.1).

    ``classes``: SOP Class UID of each SOP Instance UID. Raises PeerUnavailable, PeerRefused.
    """
    with associated(peer, [(StorageCommitmentPushModel, _SYNTAXES)], as_scp=[StorageCommitmentPushModel]) as association:
        if not association.accepted_contexts:
            raise PeerRefused(f"{peer}: does not accept Storage Commitment with us as its provider")
        answer, _ = association.send_n_event_report(
            information(report, classes), event_of(report), StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    if "Status" not in answer:
        raise PeerUnavailable(f"{peer}: no answer to a storage commitment report within {peer.timeout_s:g} s")
    status = int(answer.Status)
    if not is_taken(status):
        raise PeerUnavailable(f"{peer}: answered a storage commitment report with status 0x{status:04X}")


def is_taken(status: int) -> bool:
    """Whether an answer to N-EVENT-REPORT says that the peer has it: success, or a warning (PS3.7 C.4)."""
    return status in (0x0000, 0x0001) or status & 0xF000 == 0xB000


def event_of(report: Report) -> int:
    """Event Type ID (J.3.3.1)."""
    return FAILURES_EXIST if report.failed else ALL_COMMITTED


def information(report: Report, classes: Mapping[str, str]) -> Dataset:
    """Tables J.3-2 and J.3-3. ``classes``: SOP Class UID of each SOP Instance UID."""
    told = Dataset()
    told.TransactionUID = report.transaction_uid
    kept = [_reference(Asked(classes[uid], uid)) for uid in sorted(report.committed)]
    if kept:
        told.ReferencedSOPSequence = kept
    failed = [_failure(Asked(classes[uid], uid), reason) for uid, reason in sorted(report.failed.items())]
    if failed:
        told.FailedSOPSequence = failed
    return told


def _failure(one: Asked, reason: int) -> Dataset:
    item = _reference(one)
    item.FailureReason = reason
    return item
