"""An audit message, and its XML by the schema of PS3.15 A.5.1."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET

SUCCESS: Final = 0
MINOR_FAILURE: Final = 4
SERIOUS_FAILURE: Final = 8


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: DCM where nothing else is said."""

    value: str
    meaning: str
    system: str = "DCM"


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part. ``host``: an IP address or machine name; ``ae_titles``: of the process (A.5.2.2)."""

    user_id: str
    ae_titles: tuple[str, ...] = ()
    requestor: bool = False
    role: Code | None = None
    host: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """What it was about. ``type_code`` and ``role``: A.5.1.2; ``sop_classes``: UID and number of instances of each."""

    id: str
    id_type: Code
    type_code: int
    role: int
    name: str = ""
    query: bytes | None = None
    life_cycle: int | None = None
    details: tuple[tuple[str, bytes], ...] = ()
    sop_classes: tuple[tuple[str, int], ...] = ()
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One event. ``action``: C, R, U, D or E; ``outcome``: 0 success, 4, 8 or 12 (A.5.1)."""

    event: Code
    action: str
    participants: tuple[Participant, ...]
    objects: tuple[ParticipantObject, ...] = ()
    types: tuple[Code, ...] = ()
    outcome: int = SUCCESS
    description: str = field(default="")


@dataclass(frozen=True, slots=True)
class Source:
    """Who reports: ``id`` names this node, ``site`` the enterprise."""

    id: str
    site: str = ""


def to_xml(message: Message, at: float, source: Source) -> str:
    """One line of XML. ``at``: seconds since 1970 UTC. Characters that XML cannot carry are replaced."""
    root = ET.Element("AuditMessage")
    _event(root, message, at)
    for participant in message.participants:
        _participant(root, participant)
    origin = ET.SubElement(root, "AuditSourceIdentification", _some(AuditEnterpriseSiteID=source.site, AuditSourceID=source.id))
    ET.SubElement(origin, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    for one in message.objects:
        _object(root, one)
    return ET.tostring(root, "unicode")


def _event(root: ET.Element, message: Message, at: float) -> None:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    outcome = str(message.outcome)
    attributes = {"EventActionCode": message.action, "EventDateTime": moment, "EventOutcomeIndicator": outcome}
    element = ET.SubElement(root, "EventIdentification", attributes)
    _code(element, "EventID", message.event)
    for one in message.types:
        _code(element, "EventTypeCode", one)
    if message.description:
        ET.SubElement(element, "EventOutcomeDescription").text = _clean(message.description)


def _participant(root: ET.Element, one: Participant) -> None:
    titles = f"AETITLES={';'.join(one.ae_titles)}" if one.ae_titles else ""
    point = {"NetworkAccessPointID": one.host, "NetworkAccessPointTypeCode": _kind_of_host(one.host)} if one.host else {}
    attributes = {"UserID": one.user_id or "unknown", "AlternativeUserID": titles, "UserName": one.name, **point}
    element = ET.SubElement(root, "ActiveParticipant", _some(**attributes, UserIsRequestor=str(one.requestor).lower()))
    if one.role is not None:
        _code(element, "RoleIDCode", one.role)


def _kind_of_host(host: str) -> str:
    """1: a machine's name; 2: an IP address."""
    return "2" if ":" in host or host.replace(".", "").isdigit() else "1"


def _object(root: ET.Element, one: ParticipantObject) -> None:
    cycle = "" if one.life_cycle is None else str(one.life_cycle)
    attributes = {
        "ParticipantObjectID": one.id,
        "ParticipantObjectTypeCode": str(one.type_code),
        "ParticipantObjectTypeCodeRole": str(one.role),
        "ParticipantObjectDataLifeCycle": cycle,
    }
    element = ET.SubElement(root, "ParticipantObjectIdentification", _some(**attributes))
    _code(element, "ParticipantObjectIDTypeCode", one.id_type)
    if one.query is not None:
        ET.SubElement(element, "ParticipantObjectQuery").text = _base64(one.query)
    else:
        ET.SubElement(element, "ParticipantObjectName").text = _clean(one.name)
    for kind, value in one.details:
        ET.SubElement(element, "ParticipantObjectDetail", {"type": kind, "value": _base64(value)})
    if one.sop_classes:
        _description(element, one)


def _description(parent: ET.Element, one: ParticipantObject) -> None:
    element = ET.SubElement(parent, "ParticipantObjectDescription")
    for uid, count in one.sop_classes:
        sop_class = ET.SubElement(element, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})
        for instance in one.instances if len(one.sop_classes) == 1 else ():
            ET.SubElement(sop_class, "Instance", {"UID": instance})


def _code(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    ET.SubElement(parent, name, attributes)


def _some(**attributes: str) -> dict[str, str]:
    return {name: _clean(value) for name, value in attributes.items() if value}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _clean(text: str) -> str:
    return "".join(_fit(text))


def _fit(text: str) -> Iterator[str]:
    """XML 1.0, 2.2: no control characters, surrogates or non-characters; and one message is one line."""
    for char in text:
        number = ord(char)
        fits = 0x20 <= number <= 0xD7FF or 0xE000 <= number <= 0xFFFD or number >= 0x10000
        yield char if fits else " " if char in "\t\r\n" else "�"
