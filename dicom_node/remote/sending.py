"""C-STORE of many files (PS3.4 annex B), as they are or, where the peer takes no such transfer syntax, converted for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import NodeError
from dicom_node.remote.dimse import CONTEXT_LIMIT, DicomPeer, associated, is_accepted

NATIVE: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
Originator = tuple[str, int]  # of a C-MOVE: who asked for it, and the message ID of the request (PS3.7 9.1.1.1)
Convert = Callable[[Path, str], AbstractContextManager[Path]]
_Pair = tuple[str, str]  # SOP class, transfer syntax


@dataclass(frozen=True, slots=True)
class Sent:
    """What the peer said of one file: ``status`` as in PS3.4 B.2.3, None where no answer came; ``reason`` for a person."""

    path: Path
    status: int | None
    reason: str

    @property
    def accepted(self) -> bool:
        return self.status is not None and is_accepted(self.status)


def send_files(
    peer: DicomPeer, paths: Sequence[Path], originator: Originator | None = None, convert: Convert | None = None
) -> Generator[Sent, None, None]:
    """C-STORE many files over as few associations as their presentation contexts allow, in order.

    ``convert``: gives a file in another transfer syntax, one of ``NATIVE``, for as long as its context lasts, or raises
    NodeError; without it files go out as they are or not at all.

    Yields an outcome per file. Raises PeerUnavailable or PeerRefused where no association can be had.
    """
    waiting = iter(paths)
    while batch := list(islice(waiting, 1000)):
        yield from _send_batch(peer, batch, originator, convert)


def _send_batch(peer: DicomPeer, paths: list[Path], originator: Originator | None, convert: Convert | None) -> Iterator[Sent]:
    described = [(path, _describe(path)) for path in paths]
    pairs = list(dict.fromkeys(what for _, what in described if isinstance(what, tuple)))
    step = CONTEXT_LIMIT if convert is None else CONTEXT_LIMIT // 2  # with a native context for each SOP class
    for start in range(0, len(pairs), step):
        group = pairs[start : start + step]
        files = [(path, what) for path, what in described if isinstance(what, tuple) and what in group]
        yield from _send_over_one(peer, files, group, originator, convert)
    for path, what in described:
        if isinstance(what, str):
            yield Sent(path, None, what)


def _send_over_one(
    peer: DicomPeer,
    files: list[tuple[Path, _Pair]],
    group: list[_Pair],
    originator: Originator | None,
    convert: Convert | None,
) -> Iterator[Sent]:
    contexts: list[tuple[str, Sequence[str]]] = [(sop_class, [syntax]) for sop_class, syntax in group]
    if convert is not None:
        contexts += [(sop_class, NATIVE) for sop_class in dict.fromkeys(sop_class for sop_class, _ in group)]
    with associated(peer, contexts) as association:
        accepted = {(str(cx.abstract_syntax), str(cx.transfer_syntax[0])) for cx in association.accepted_contexts}
        for path, (sop_class, syntax) in files:
            target = next((one for one in NATIVE if (sop_class, one) in accepted), None)
            if convert is None or target is None or (sop_class, syntax) in accepted:
                yield _send_one(association, path, path, originator)
                continue
            try:
                with convert(path, target) as made:
                    yield _send_one(association, path, made, originator)
            except NodeError as error:
                yield Sent(path, None, f"not sent: it cannot be given in a transfer syntax that the peer takes: {error}")


def _send_one(association: Any, path: Path, content: Path, originator: Originator | None) -> Sent:
    """``content``: the file that goes out for ``path``."""
    if not association.is_established:
        return Sent(path, None, "the peer ended the association")
    title, number = originator or (None, None)
    try:
        answer = association.send_c_store(content, originator_aet=title, originator_id=number)
    except (ValueError, RuntimeError, AttributeError, OSError) as error:
        return Sent(path, None, f"not sent: {str(error).splitlines()[0]}")
    if "Status" not in answer:
        return Sent(path, None, "no answer from the peer")
    return Sent(path, int(answer.Status), str(answer.get("ErrorComment", "") or ""))


def _describe(path: Path) -> _Pair | str:
    """Of a Part 10 file, or why it cannot be sent."""
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
