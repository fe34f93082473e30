"""DICOMweb archives that we ask: QIDO-RS and WADO-RS (PS3.18 10.6 and 10.4).

By httpx, as for STOW-RS: dicomweb-client collects a whole study in memory, knows no limit of time for an answer as a whole,
and takes none of our TLS and login files. What an archive sends goes part by part to its place.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlencode

from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.pixels.quiet import quiet
from dicom_node.remote.http import HttpPeer, refusal, request, streamed
from dicom_node.remote.matches import Found, Level, Match, Query, match_of_json
from dicom_node.remote.retrieving import Arrived, Keep, Retrieved

_JSON: Final = "application/dicom+json"
_PAGE: Final = 200
_META: Final = 65536  # bytes: preamble and file meta of any sane object
_PATHS: Final = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
_AS_STORED: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True, slots=True)
class _Head:
    """The file meta of a Part 10 object, and where its data set begins."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    size: int


def search(peer: HttpPeer, query: Query) -> Found:
    """QIDO-RS, page by page. Raises PeerUnavailable, PeerRefused.

    The values travel in the address: use TLS where they name a patient.
    """
    if query.level not in _PATHS:
        raise PeerRefused(f"{peer}: QIDO-RS searches studies, series and instances only")
    matches: list[Match] = []
    while len(matches) < query.most:
        step = min(_PAGE, query.most - len(matches))
        page = _page(peer, query, len(matches), step)
        matches += [match_of_json(one, query.all_keys) for one in page[:step]]
        if len(page) < step:
            return Found(tuple(matches))
        if len(page) > step:  # it knows no paging, and has told all
            matches += [match_of_json(one, query.all_keys) for one in page[step : query.most]]
            return Found(tuple(matches[: query.most]), len(matches) >= len(page))
    return Found(tuple(matches), not _page(peer, query, len(matches), 1))


def _page(peer: HttpPeer, query: Query, offset: int, limit: int) -> list[dict[str, Any]]:
    wanted = [(keyword, value) for keyword, value in query.all_keys.items() if value]
    fields = [("includefield", f"{tag_for_keyword(keyword):08X}") for keyword in query.all_keys]
    pairs = [*wanted, *fields, ("limit", str(limit)), ("offset", str(offset))]
    answer = request(peer, "GET", f"{_PATHS[query.level]}?{urlencode(pairs)}", None, {"Accept": _JSON})
    if answer.status == 204:
        return []
    if not answer.good:
        raise refusal(peer, answer.status)
    try:
        tree = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise PeerRefused(f"{peer}: its answer is no QIDO-RS response; is this the base address?") from error
    if not isinstance(tree, list) or not all(isinstance(one, dict) for one in tree):
        raise PeerRefused(f"{peer}: its answer is no QIDO-RS response; is this the base address?")
    return tree


def retrieve(peer: HttpPeer, study_uid: str, series_uid: str, keep: Keep, stop: threading.Event | None = None) -> Retrieved:
    """WADO-RS a study, or one series where ``series_uid`` is not empty; each object is kept before the next is read.

    Raises PeerUnavailable where asking again may help, PeerRefused where the archive does not have it or will not give it.
    """
    path = f"studies/{study_uid}" + (f"/series/{series_uid}" if series_uid else "")
    kept = failed = 0
    with streamed(peer, path, {"Accept": _AS_STORED}) as (status, kind, chunks):
        if status == 404:
            raise PeerRefused(f"{peer}: HTTP 404, it does not have the study")
        if not 200 <= status < 300:
            raise refusal(peer, status)
        for part in parts(_Bytes(peer, chunks), _boundary(peer, kind)):
            good = _keep_one(part, keep)
            kept, failed = kept + good, failed + (not good)
            for _ in part:  # what was not read of it
                pass
            if stop is not None and stop.is_set():
                break
    return Retrieved(kept, failed)


def _keep_one(part: Iterator[bytes], keep: Keep) -> bool:
    begun = bytearray()
    for chunk in part:
        begun += chunk
        if len(begun) >= _META:
            break
    head = _head(bytes(begun))
    if head is None:
        return False

    def chunks() -> Iterator[bytes]:
        yield bytes(begun[head.size :])
        yield from part

    return keep(Arrived(head.sop_class_uid, head.sop_uid, head.transfer_syntax, "DICOMWEB", chunks())) == 0x0000


def _head(begun: bytes) -> _Head | None:
    try:
        with quiet():
            meta = read_partial(BytesIO(begun), stop_when=lambda *_: True).file_meta
            size = 144 + int(meta.FileMetaInformationGroupLength)  # preamble, DICM and the group length itself (PS3.10 7.1)
        named = (str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID))
    except (InvalidDicomError, AttributeError, ValueError, EOFError):
        return None
    return _Head(*named, size) if size <= len(begun) else None


def _boundary(peer: HttpPeer, kind: str) -> bytes:
    message = Message()
    message["Content-Type"] = kind
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise PeerRefused(f"{peer}: its answer is no multipart WADO-RS response; is this the base address?")
    return boundary.encode("latin-1")


class _Bytes:
    """Chunks with what was read too far put back."""

    def __init__(self, peer: HttpPeer, chunks: Iterator[bytes]) -> None:
        self.peer = peer
        self._chunks = chunks
        self.held = b""

    def more(self) -> None:
        """Raises PeerUnavailable at the end."""
        try:
            self.held += next(self._chunks)
        except StopIteration:
            raise PeerUnavailable(f"{self.peer}: its answer ends in the middle") from None

    def until(self, mark: bytes, most: int = 65536) -> bytes:
        """What comes before ``mark``, which is taken too."""
        while mark not in self.held:
            if len(self.held) > most:
                raise PeerUnavailable(f"{self.peer}: its answer is no multipart message")
            self.more()
        before, _, self.held = self.held.partition(mark)
        return before


def parts(source: _Bytes, boundary: bytes) -> Iterator[Iterator[bytes]]:
    """The bodies of a multipart message (RFC 2046 5.1), each to be read to its end before the next."""
    source.held = b"\r\n" + source.held
    mark = b"\r\n--" + boundary
    source.until(mark)
    while not _is_last(source):
        source.until(b"\r\n\r\n")
        yield _body(source, mark)


def _is_last(source: _Bytes) -> bool:
    while len(source.held) < 2:
        source.more()
    last = source.held.startswith(b"--")
    if not last and source.held.startswith(b"\r\n") and len(source.held) < 4:
        source.more()
    return last


def _body(source: _Bytes, mark: bytes) -> Iterator[bytes]:
    while True:
        at = source.held.find(mark)
        if at >= 0:
            piece, source.held = source.held[:at], source.held[at + len(mark) :]
            if piece:
                yield piece
            return
        safe = len(source.held) - len(mark)
        if safe > 0:
            piece, source.held = source.held[:safe], source.held[safe:]
            yield piece
        source.more()
