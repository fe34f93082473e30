"""How many instances of a study an archive holds: asked by C-FIND or by QIDO-RS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.dimse import DicomPeer, associated
from dicom_node.remote.http import HttpPeer, refusal, request

_PENDING: Final = (0xFF00, 0xFF01)  # PS3.4 C.4.1.1.4
_OF_STUDY: Final = "00201208"  # Number of Study Related Instances


def count_by_find(peer: DicomPeer, study_uid: str) -> int:
    """By the Study Root (PS3.4 C.6.2.1); 0 where the archive does not know the study.

    An archive that leaves Number of Study Related Instances out is asked for its series. Raises PeerUnavailable where it does
    not answer, PeerRefused where it tells no number.
    """
    contexts = [(StudyRootQueryRetrieveInformationModelFind, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])]
    with associated(peer, contexts) as association:
        studies = list(_found(peer, association, _query("STUDY", study_uid, "NumberOfStudyRelatedInstances")))
        if not studies:
            return 0
        told = [_number(study.get("NumberOfStudyRelatedInstances")) for study in studies]
        if None not in told:
            return sum(number or 0 for number in told)
        series = _found(peer, association, _query("SERIES", study_uid, "NumberOfSeriesRelatedInstances"))
        counts = [_number(one.get("NumberOfSeriesRelatedInstances")) for one in series]
    if not counts or None in counts:
        raise PeerRefused(f"{peer}: tells the number of instances neither of a study nor of its series")
    return sum(count or 0 for count in counts)


def count_by_qido(peer: HttpPeer, study_uid: str) -> int:
    """By QIDO-RS, Search for Studies (PS3.18 10.6); 0 where the archive does not know the study.

    Raises PeerUnavailable, PeerRefused as ``count_by_find``.
    """
    query = f"studies?StudyInstanceUID={quote(study_uid, safe='.')}&includefield={_OF_STUDY}"
    answer = request(peer, "GET", query, None, {"Accept": "application/dicom+json"})
    if answer.status == 204:
        return 0
    if not answer.good:
        raise refusal(peer, answer.status)
    try:
        told = [_number(one[_OF_STUDY]["Value"][0]) for one in json.loads(answer.body)]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise PeerRefused(f"{peer}: tells no number of instances of a study") from error
    if None in told:
        raise PeerRefused(f"{peer}: tells no number of instances of a study")
    return sum(number or 0 for number in told)


def _query(level: str, study_uid: str, wanted: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID = study_uid
    if level == "SERIES":
        query.SeriesInstanceUID = ""
    setattr(query, wanted, None)
    return query


def _found(peer: DicomPeer, association: Any, query: Dataset) -> Iterator[Dataset]:
    for status, found in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
        if "Status" not in status:
            raise PeerUnavailable(f"{peer}: ended the association or gave no answer to C-FIND within {peer.timeout_s:g} s")
        if status.Status in _PENDING:
            if found is not None:
                yield found
        elif status.Status != 0:
            raise PeerUnavailable(f"{peer}: answered C-FIND with status 0x{status.Status:04X}")


def _number(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number >= 0 else None
