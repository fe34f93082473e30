"""C-MOVE and C-GET at an archive (PS3.4 C.4.2 and C.4.3).

pynetdicom waits for the answers in a thread of its own and may never come back where a peer falls silent in the middle of a
C-GET (its issue 1004). So the association lives in a thread that nobody waits for longer than the peer's timeout.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import StoragePresentationContexts, evt

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.dimse import CONTEXT_LIMIT, associated
from dicom_node.remote.finding import CANCELLED, GET, MOVE, OUT_OF_RESOURCES, PENDING, SYNTAXES, QueryPeer
from dicom_node.remote.matches import Level, Query, identifier

_MESSAGE: Final = 1
_GRACE_S: Final = 5.0  # beyond the peer's timeout, before its thread is given up
NATIVE: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
# In which an archive may hold an object; where it may not change it, it can send it only as it is
AS_STORED: Final = (
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLossless, JPEG2000Lossless, JPEG2000, JPEGLSLossless,
    JPEGLSNearLossless, RLELossless, HTJ2KLossless, HTJ2K, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arrived:
    """An object that an archive sends. ``chunks``: its data set as encoded, without file meta; to be read once, in order."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    sender: str
    chunks: Iterable[bytes]


Keep = Callable[[Arrived], int]  # stores it for good, then returns the status of PS3.4 B.2.3; raises nothing


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What an archive says of its sub-operations; of a C-GET and WADO-RS, what was kept here.

    ``failed_uids``: as far as the archive names them. ``warning``: stored with a warning.
    """

    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: tuple[str, ...] = ()

    @property
    def stored(self) -> int:
        return self.completed + self.warning


def move(archive: QueryPeer, wanted: Query, destination: str, stop: threading.Event | None = None) -> Retrieved:
    """C-MOVE what ``wanted`` names to the AE title ``destination``. When ``stop`` is set, the rest is cancelled.

    Raises PeerUnavailable where asking again may help, PeerRefused where the archive will not, such as for a destination that
    it does not know.
    """
    model = MOVE[archive.root]

    def run(tell: _Tell) -> None:
        with associated(archive.peer, [(model, SYNTAXES)]) as association:
            answers = association.send_c_move(identifier(wanted), destination, model, msg_id=_MESSAGE)
            tell.all(association, answers, model)

    return _judged(archive, _watched(archive, run, stop), f"C-MOVE to {destination}")


def get(
    archive: QueryPeer, wanted: Query, classes: Mapping[str, Sequence[str]], keep: Keep, stop: threading.Event | None = None
) -> Retrieved:
    """C-GET what ``wanted`` names; ``keep`` stores each object before the archive is answered.

    ``classes``: the SOP classes to expect and, where known, the transfer syntaxes; none: all common ones. Raises as ``move``.
    """
    model = GET[archive.root]
    contexts = storage_contexts(classes)
    tally = _Tally(keep)

    def run(tell: _Tell) -> None:
        handlers = [(evt.EVT_C_STORE, partial(tally.store, beat=tell.beat))]
        proposed = [(model, SYNTAXES), *contexts]
        with associated(
            archive.peer, proposed, handlers, as_scp=list(dict.fromkeys(one for one, _ in contexts))
        ) as association:
            answers = association.send_c_get(identifier(wanted), model, msg_id=_MESSAGE)
            tell.all(association, answers, model)

    told = _judged(archive, _watched(archive, run, stop), "C-GET")
    return replace(told, completed=tally.stored, warning=0, failed=max(told.failed, tally.refused))


def storage_contexts(classes: Mapping[str, Sequence[str]]) -> list[tuple[str, list[UID]]]:
    """The presentation contexts of a C-GET, at most 127.

    Each transfer syntax that is not native has a context of its own: an acceptor chooses one for a context, and an archive
    that does not transcode could then send nothing else.
    """
    if not classes:
        common = [str(one.abstract_syntax) for one in StoragePresentationContexts]
        return [(one, [*NATIVE, *AS_STORED]) for one in common][: CONTEXT_LIMIT - 1]
    natively = [(one, list(NATIVE)) for one in classes]
    known = [(one, [UID(syntax)]) for one, syntaxes in classes.items() for syntax in syntaxes if syntax not in NATIVE]
    guessed = [(one, [syntax]) for syntax in AS_STORED for one, syntaxes in classes.items() if not syntaxes]
    return [*natively, *known, *guessed][: CONTEXT_LIMIT - 1]


class _Tally:
    """Counts what is kept of a C-GET."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self.stored = self.refused = 0

    def store(self, event: Any, beat: Callable[[], None]) -> int:
        request = event.request
        held = request.DataSet.getvalue()
        named = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), str(event.context.transfer_syntax))
        status = self._keep(Arrived(*named, str(event.assoc.remote["ae_title"]).strip(), (held,)))
        self.stored += status == 0x0000
        self.refused += status != 0x0000
        beat()
        return status


_End = tuple[Dataset, Dataset | None]


class _Tell:
    """From the thread of the association to the one that waits: a sign of life, the last answer, or why there is none."""

    def __init__(self) -> None:
        self.box: queue.SimpleQueue[_End | BaseException | None] = queue.SimpleQueue()
        self.cancel = threading.Event()
        self.abort: Callable[[], None] = lambda: None

    def beat(self) -> None:
        self.box.put(None)

    def all(self, association: Any, answers: Iterator[_End], model: Any) -> None:
        """Pass on the answers of an operation; cancel it when told to."""
        self.abort = association.abort
        cancelled = False
        for status, dataset in answers:
            if "Status" in status and int(status.Status) in PENDING:
                self.beat()
                if self.cancel.is_set() and not cancelled:
                    association.send_c_cancel(_MESSAGE, query_model=model)
                    cancelled = True
                continue
            self.box.put((status, dataset))
            return


def _watched(archive: QueryPeer, run: Callable[[_Tell], None], stop: threading.Event | None) -> _End:
    """The last answer. Raises PeerUnavailable after a silence longer than the peer's timeout, PeerRefused."""
    tell = _Tell()

    def body() -> None:
        try:
            run(tell)
        except BaseException as error:  # noqa: BLE001  it is raised again in the thread that waits
            tell.box.put(error)

    threading.Thread(target=body, name="retrieval", daemon=True).start()
    while True:
        if stop is not None and stop.is_set():
            tell.cancel.set()
        try:
            told = tell.box.get(timeout=archive.peer.timeout_s + _GRACE_S)
        except queue.Empty:
            threading.Thread(target=tell.abort, name="abort", daemon=True).start()
            raise PeerUnavailable(
                f"{archive}: fell silent for {archive.peer.timeout_s:g} s in the middle of a retrieval"
            ) from None
        if isinstance(told, BaseException):
            raise told
        if told is not None:
            return told


def _judged(archive: QueryPeer, end: _End, what: str) -> Retrieved:
    status, identified = end
    if "Status" not in status:
        limit = archive.peer.timeout_s
        raise PeerUnavailable(f"{archive}: ended the association or gave no answer to {what} within {limit:g} s")
    code = int(status.Status)
    told = Retrieved(
        int(status.get("NumberOfCompletedSuboperations") or 0),
        int(status.get("NumberOfFailedSuboperations") or 0),
        int(status.get("NumberOfWarningSuboperations") or 0),
        _failed_uids(identified),
    )
    if code in (0x0000, 0xB000, CANCELLED) or told.stored:
        return told
    if code == 0xA801:
        raise PeerRefused(f"{archive}: answered {what} with status 0xA801, it does not know that AE title; enter it there")
    kind = PeerUnavailable if code in OUT_OF_RESOURCES or code in (0x0110, 0x0213) else PeerRefused
    raise kind(f"{archive}: answered {what} with status 0x{code:04X}")


def _failed_uids(identified: Dataset | None) -> tuple[str, ...]:
    """Failed SOP Instance UID List (0008,0058)."""
    found = identified.get("FailedSOPInstanceUIDList") if identified is not None else None
    if not found:
        return ()
    return (str(found),) if isinstance(found, str) else tuple(map(str, found))


def of_study(study_uid: str, series_uid: str = "") -> Query:
    """What to retrieve: a study, or one series of it (PS3.4 C.4.2.2.1: the unique keys of the levels above too)."""
    if series_uid:
        return Query(Level.SERIES, {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid})
    return Query(Level.STUDY, {"StudyInstanceUID": study_uid})
