"""Archives that we ask for studies, whichever way they speak: by C-FIND or QIDO-RS, then C-MOVE, C-GET or WADO-RS."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dicom_node.errors import PeerRefused, SettingsError
from dicom_node.peer_settings import Archive as ArchiveSettings
from dicom_node.peer_settings import FindArchive, PeerAddress
from dicom_node.remote import dicomweb
from dicom_node.remote.dimse import DicomPeer
from dicom_node.remote.finding import QueryPeer, find
from dicom_node.remote.http import HttpPeer
from dicom_node.remote.matches import Found, Level, Query
from dicom_node.remote.retrieving import Keep, Retrieved, get, move, of_study
from dicom_node.remote.tls import TlsFiles
from dicom_node.settings import Settings, TlsSettings

OF_STUDY: Final = "study.archive"  # the name of the archive of `study`, among those of `peers`
_CLASSES_MOST: Final = 2000  # instances of a study that are asked for their SOP class


class Archive(Protocol):
    """Both raise PeerUnavailable where asking again may help, PeerRefused."""

    def find(self, query: Query, stop: threading.Event | None = None) -> Found: ...

    def retrieve(self, study_uid: str, stop: threading.Event | None = None) -> Retrieved:
        """Fetch a study; what is stored is stored for good when this returns."""
        ...


@dataclass(frozen=True, slots=True)
class Moving:
    """Asked to send to ``destination``, the AE title of our listener."""

    peer: QueryPeer
    destination: str

    def find(self, query: Query, stop: threading.Event | None = None) -> Found:
        return find(self.peer, query, stop)

    def retrieve(self, study_uid: str, stop: threading.Event | None = None) -> Retrieved:
        return move(self.peer, of_study(study_uid), self.destination, stop)


@dataclass(frozen=True, slots=True)
class Getting:
    """Asked to send over our own association; ``keep`` stores what comes."""

    peer: QueryPeer
    keep: Keep

    def find(self, query: Query, stop: threading.Event | None = None) -> Found:
        return find(self.peer, query, stop)

    def retrieve(self, study_uid: str, stop: threading.Event | None = None) -> Retrieved:
        return get(self.peer, of_study(study_uid), self._classes(study_uid, stop), self.keep, stop)

    def _classes(self, study_uid: str, stop: threading.Event | None) -> Mapping[str, Sequence[str]]:
        """The SOP classes of a study with no transfer syntaxes, of each instance or as the study sums them up."""
        try:
            keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "SOPClassUID": ""}
            images = find(self.peer, Query(Level.IMAGE, keys, _CLASSES_MOST), stop)
            told = {one["SOPClassUID"] for one in images.matches}
            if not told or not images.whole:
                study = find(self.peer, Query(Level.STUDY, {"StudyInstanceUID": study_uid, "SOPClassesInStudy": ""}, 1), stop)
                told |= {uid for one in study.matches for uid in one["SOPClassesInStudy"].split("\\")}
        except PeerRefused:  # some archives answer at the study level only
            return {}
        return {uid: () for uid in sorted(told) if uid}


@dataclass(frozen=True, slots=True)
class Web:
    """A DICOMweb archive; ``keep`` stores what comes."""

    peer: HttpPeer
    keep: Keep

    def find(self, query: Query, stop: threading.Event | None = None) -> Found:  # noqa: ARG002 - pages are short
        return dicomweb.search(self.peer, query)

    def retrieve(self, study_uid: str, stop: threading.Event | None = None) -> Retrieved:
        return dicomweb.retrieve(self.peer, study_uid, "", self.keep, stop)


def archive_named(settings: Settings, name: str, keep: Keep) -> Archive:
    """The archive of `peers`, or that of `study`. Raises SettingsError saying which there are."""
    known: dict[str, ArchiveSettings] = dict(settings.peers)
    if settings.study.archive is not None:
        known[OF_STUDY] = settings.study.archive
    if name not in known:
        raise SettingsError(
            f"{name!r} is not among the `peers` of the settings; there are: {', '.join(sorted(known)) or 'none'}"
        )
    return archive_of(settings, known[name], keep)


def archive_of(settings: Settings, wished: ArchiveSettings, keep: Keep) -> Archive:
    """Paths are made absolute."""
    if not isinstance(wished, FindArchive):
        files = [settings.path(file) if file else None for file in (wished.token_file, wished.basic_file)]
        return Web(HttpPeer(wished.url, files[0], wished.timeout_s, files[1], tls_files(settings, wished.tls)), keep)
    peer = QueryPeer(_dicom(settings, wished, wished.ae_title, wished.calling_ae_title), wished.root)
    if wished.retrieve == "get":
        return Getting(peer, keep)
    return Moving(peer, wished.move_to or settings.listener.ae_title)


def address_of(settings: Settings, ae_title: str, calling_ae: str) -> DicomPeer | None:
    """Where an AE title is called by us (key ``query.addresses``); None: not told."""
    address = settings.query.addresses.get(ae_title)
    return None if address is None else _dicom(settings, address, ae_title, calling_ae)


def _dicom(settings: Settings, where: FindArchive | PeerAddress, ae_title: str, calling_ae: str) -> DicomPeer:
    tls = tls_files(settings, where.tls) if where.tls else None
    return DicomPeer(where.host, where.port, ae_title, calling_ae, where.timeout_s, tls)


def tls_files(settings: Settings, wished: TlsSettings) -> TlsFiles:
    given: tuple[Any, ...] = (wished.ca_file, wished.certificate_file, wished.key_file)
    return TlsFiles(*(settings.path(file) if file else None for file in given))
