"""Every message against the schema of PS3.15 A.5.1 and the value constraints of its own table in A.5.3."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from dicom_node.audit import events
from dicom_node.audit.events import Party, Study
from dicom_node.audit.message import Message, Source, to_xml
from dicom_node.audit.syslog import counted_frame, syslog_line
from tests.dicom_node.audit.repository import parsed

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "audit-message.rng"))
NODE = Party("wetread 1 process 7", ("WETREAD",), "node1")
PACS = Party("pacs", ("ORTHANC",), "10.1.2.3")
STUDY = Study("1.2.3", "PID1", {"1.2.840.10008.5.1.4.1.1.1.1": 2}, ("1.2.3.4", "1.2.3.5"))
SOURCE = Source("WETREAD@node1", "Example hospital")

MESSAGES = {
    "start": (events.activity(NODE, started=True), "110100", "E", "110120"),
    "stop": (events.activity(NODE, started=False), "110100", "E", "110121"),
    "received": (events.transferred(PACS, NODE, STUDY, received=True), "110104", "C", ""),
    "sent": (events.transferred(NODE, PACS, STUDY, received=False), "110104", "R", ""),
    "begin": (events.begin_transferring(NODE, PACS, STUDY), "110102", "E", ""),
    "export": (events.exported(NODE, Party("record", (), "fhir.example.org"), STUDY, "fhir"), "110106", "R", ""),
    "export to media": (events.exported(NODE, Party("archive"), STUDY, "folder"), "110106", "R", ""),
    "study deleted": (events.study_deleted(NODE, STUDY), "110105", "D", ""),
    "documents deleted": (events.instances_deleted(NODE, STUDY), "110103", "D", ""),
    "query": (events.query(PACS, NODE, "1.2.840.10008.5.1.4.1.2.2.1", b"\x08\x00", encoding="1.2"), "110112", "E", ""),
    "refused": (events.refused(NODE, PACS, "not on the allow-list"), "110113", "E", "110126"),
    "login": (events.authentication(NODE, "reader", "10.1.2.9", login=True), "110114", "E", "110122"),
    "failed login": (events.authentication(NODE, "", "::1", login=True, succeeded=False), "110114", "E", "110122"),
    "logout": (events.authentication(NODE, "reader", "10.1.2.9", login=False), "110114", "E", "110123"),
}  # fmt: skip


def _element(message: Message) -> etree._Element:
    return etree.fromstring(to_xml(message, 1_790_000_000.25, SOURCE))


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_keeps_to_the_schema_and_to_its_table(name: str) -> None:
    message, event, action, kind = MESSAGES[name]
    element = _element(message)
    SCHEMA.assertValid(element)
    identification = element.find("EventIdentification")
    assert identification is not None
    assert identification.get("EventActionCode") == action
    assert identification.get("EventDateTime") == "2026-09-21T14:13:20.250Z"
    code = identification.find("EventID")
    assert code is not None
    assert (code.get("csd-code"), code.get("codeSystemName")) == (event, "DCM")
    assert [one.get("csd-code") for one in identification.findall("EventTypeCode")] == ([kind] if kind else [])


def test_the_schema_refuses_what_is_wrong() -> None:
    element = _element(MESSAGES["sent"][0])
    element.remove(element.find("AuditSourceIdentification"))
    assert not SCHEMA.validate(element)
    other = _element(MESSAGES["sent"][0])
    other.find("EventIdentification").set("EventOutcomeIndicator", "1")
    assert not SCHEMA.validate(other)


@pytest.mark.parametrize("name", ["received", "sent", "begin"])
def test_a_transfer_names_both_ends_the_study_and_the_patient(name: str) -> None:
    element = _element(MESSAGES[name][0])
    roles = {
        part.find("RoleIDCode").get("csd-code"): (part.get("AlternativeUserID"), part.get("NetworkAccessPointTypeCode"))
        for part in element.findall("ActiveParticipant")
    }
    theirs, ours = ("AETITLES=ORTHANC", "2"), ("AETITLES=WETREAD", "1")
    assert roles == ({"110153": theirs, "110152": ours} if name == "received" else {"110153": ours, "110152": theirs})
    study, patient = element.findall("ParticipantObjectIdentification")
    assert [study.get(f"ParticipantObject{part}") for part in ("ID", "TypeCode", "TypeCodeRole")] == ["1.2.3", "2", "3"]
    assert study.find("ParticipantObjectIDTypeCode").get("csd-code") == "110180"
    sop_class = study.find("ParticipantObjectDescription/SOPClass")
    assert (sop_class.get("UID"), sop_class.get("NumberOfInstances")) == ("1.2.840.10008.5.1.4.1.1.1.1", "2")
    assert [one.get("UID") for one in sop_class] == ["1.2.3.4", "1.2.3.5"]
    assert [patient.get(f"ParticipantObject{part}") for part in ("ID", "TypeCode", "TypeCodeRole")] == ["PID1", "1", "1"]
    code = patient.find("ParticipantObjectIDTypeCode")
    assert (code.get("csd-code"), code.get("codeSystemName")) == ("2", "RFC-3881")


def test_a_query_carries_what_was_asked_byte_for_byte() -> None:
    (asked,) = _element(MESSAGES["query"][0]).findall("ParticipantObjectIdentification")
    assert base64.b64decode(asked.findtext("ParticipantObjectQuery")) == b"\x08\x00"
    assert asked.find("ParticipantObjectName") is None


def test_failures_say_so() -> None:
    for name in ("refused", "failed login"):
        assert _element(MESSAGES[name][0]).find("EventIdentification").get("EventOutcomeIndicator") == "4"


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text(), st.text(min_size=1))
def test_whatever_a_peer_calls_itself_the_message_is_one_line_of_valid_xml(title: str, host: str, patient: str) -> None:
    study = Study("1.2", patient, {})
    message = events.transferred(Party(title, (title,), host), NODE, study, received=True)
    xml = to_xml(message, 0.0, SOURCE)
    SCHEMA.assertValid(etree.fromstring(xml))
    assert "\n" not in xml


@pytest.mark.parametrize(("outcome", "priority"), [(0, 85), (4, 84), (8, 83), (12, 82)])
def test_the_syslog_line_has_the_header_of_the_profile(outcome: int, priority: int) -> None:
    line = syslog_line("<a/>", 1_790_000_000.25, outcome, "node 1", 7)
    assert parsed(line) == (priority, "DICOM+RFC3881", "<a/>")
    assert line.split(b" ", 5)[1:5] == [b"2026-09-21T14:13:20.250Z", b"node1", b"WetRead", b"7"]
    assert counted_frame(line) == str(len(line)).encode() + b" " + line
