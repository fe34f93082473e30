"""The events a node audits, each as PS3.15 A.5.3 wants its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.audit.message import MINOR_FAILURE, SERIOUS_FAILURE, SUCCESS, Code, Message, Participant, ParticipantObject

SOURCE: Final = Code("110153", "Source Role ID")
DESTINATION: Final = Code("110152", "Destination Role ID")
_APPLICATION: Final = Code("110150", "Application")
_MEDIA_DESTINATION: Final = Code("110154", "Destination Media")
_STUDY: Final = Code("110180", "Study Instance UID")
_PATIENT: Final = Code("2", "Patient Number", "RFC-3881")
_URI: Final = Code("12", "URI", "RFC-3881")
_NODE_ID: Final = Code("110182", "Node ID")
_SOP_CLASS: Final = Code("110181", "SOP Class UID")
_PERSON, _SYSTEM = 1, 2  # Participant Object Type Code
_AS_PATIENT, _AS_REPORT, _AS_RESOURCE, _AS_QUERY = 1, 3, 13, 24  # Participant Object Type Code Role
_RECEIVED, _SENT, _ERASED = 2, 10, 15  # Participant Object Data Life Cycle


@dataclass(frozen=True, slots=True)
class Party:
    """A process at one end: ``id`` names it, ``ae_titles`` where it speaks DICOM, ``host`` where it runs."""

    id: str
    ae_titles: tuple[str, ...] = ()
    host: str = ""

    def acting(self, *, requestor: bool = False, role: Code | None = None) -> Participant:
        return Participant(self.id, self.ae_titles, requestor, role, self.host)


@dataclass(frozen=True, slots=True)
class Study:
    """What was handled. ``patient``: their identifier or pseudonym. ``sop_classes``: UID to number of instances."""

    uid: str
    patient: str
    sop_classes: Mapping[str, int]
    instances: tuple[str, ...] = ()

    def objects(self, life_cycle: int | None) -> tuple[ParticipantObject, ...]:
        classes = tuple(sorted(self.sop_classes.items()))
        study = ParticipantObject(
            self.uid, _STUDY, _SYSTEM, _AS_REPORT, "study", life_cycle=life_cycle, sop_classes=classes, instances=self.instances
        )
        return study, ParticipantObject(self.patient or "unknown", _PATIENT, _PERSON, _AS_PATIENT, "patient")


def activity(node: Party, *, started: bool) -> Message:
    """Application Activity (A.5.3.1): a process of the node started or stopped."""
    kind = Code("110120", "Application Start") if started else Code("110121", "Application Stop")
    return Message(Code("110100", "Application Activity"), "E", (node.acting(role=_APPLICATION),), types=(kind,))


def transferred(source: Party, destination: Party, study: Study, *, received: bool) -> Message:
    """DICOM Instances Transferred (A.5.3.7). ``received``: by us, who hold copies from now on."""
    ends = (source.acting(requestor=True, role=SOURCE), destination.acting(role=DESTINATION))
    event = Code("110104", "DICOM Instances Transferred")
    return Message(event, "C" if received else "R", ends, study.objects(_RECEIVED if received else _SENT))


def begin_transferring(source: Party, destination: Party, study: Study) -> Message:
    """Begin Transferring DICOM Instances (A.5.3.3): what is about to be sent."""
    ends = (source.acting(requestor=True, role=SOURCE), destination.acting(role=DESTINATION))
    return Message(Code("110102", "Begin Transferring DICOM Instances"), "E", ends, study.objects(_SENT))


def exported(source: Party, destination: Party, study: Study, kind: str) -> Message:
    """Data Export (A.5.3.4): a document has left by other means than DICOM. ``kind``: fhir, hl7, folder …"""
    media = _MEDIA_DESTINATION if kind in ("folder", "fsspec") else DESTINATION
    ends = (destination.acting(role=media), source.acting(requestor=True, role=SOURCE))
    return Message(Code("110106", "Export"), "R", ends, study.objects(_SENT))


def study_deleted(node: Party, study: Study) -> Message:
    """DICOM Study Deleted (A.5.3.8)."""
    return Message(Code("110105", "DICOM Study Deleted"), "D", (node.acting(requestor=True),), study.objects(_ERASED))


def instances_deleted(node: Party, study: Study) -> Message:
    """DICOM Instances Accessed (A.5.3.6) with action D: some of a study's objects were deleted."""
    return Message(Code("110103", "DICOM Instances Accessed"), "D", (node.acting(requestor=True),), study.objects(_ERASED))


def query(source: Party, destination: Party, sop_class_uid: str, content: bytes, *, encoding: str = "") -> Message:
    """Query (A.5.3.10). ``content``: the identifier's data set as sent, in the transfer syntax ``encoding``, or a URL."""
    details = (("TransferSyntax", encoding.encode()),) if encoding else ()
    asked = ParticipantObject(sop_class_uid, _SOP_CLASS, _SYSTEM, _AS_REPORT, query=content, details=details)
    ends = (source.acting(requestor=True, role=SOURCE), destination.acting(role=DESTINATION))
    return Message(Code("110112", "Query"), "E", ends, (asked,))


def refused(node: Party, peer: Party, reason: str, *, serious: bool = False) -> Message:
    """Security Alert (A.5.3.11), Node Authentication: an association or a TLS connection was refused."""
    outcome = SERIOUS_FAILURE if serious else MINOR_FAILURE
    subject = ParticipantObject(
        peer.host or peer.id, _NODE_ID, _SYSTEM, _AS_RESOURCE, peer.id, details=(("Alert Description", reason.encode()),)
    )
    parties = (node.acting(), peer.acting(requestor=True))
    types = (Code("110126", "Node Authentication"),)
    return Message(Code("110113", "Security Alert"), "E", parties, (subject,), types, outcome, reason)


def authentication(node: Party, user: str, host: str, *, login: bool, succeeded: bool = True) -> Message:
    """User Authentication (A.5.3.12): a person logged in or out, or tried to."""
    kind = Code("110122", "Login") if login else Code("110123", "Logout")
    parties = (Participant(user or "unknown", requestor=True, host=host), node.acting())
    outcome = SUCCESS if succeeded else MINOR_FAILURE
    return Message(Code("110114", "User Authentication"), "E", parties, types=(kind,), outcome=outcome)


def counted(sop_classes: Sequence[str]) -> dict[str, int]:
    """How many of each; what is not DICOM has none."""
    return {uid: sum(one == uid for one in sop_classes) for uid in sorted(set(sop_classes)) if uid}
