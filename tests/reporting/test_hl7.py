"""ORU^R01 read back by two independent parsers (hl7apy validates by the standard's tables, `hl7` splits), and its gate."""

from __future__ import annotations

import re
from dataclasses import replace

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from inference.reading import DraftReport, Reading, Sentence
from reporting.conformance.hl7 import hl7_faults
from reporting.context import Document, DocumentKind, Predecessor
from reporting.documents import build_documents
from reporting.hl7 import escape
from tests.reporting.hl7_faults import PLANTED, plant, sound_of
from tests.reporting.samples import OPTIONS, context, header, reading, unassessed

ORU = replace(OPTIONS, kinds=frozenset({DocumentKind.HL7_ORU}))


def oru(read: Reading | None = None, **headers: object) -> Document:
    (document,) = build_documents(read or reading(), context(header(**headers)), ORU)
    return document


def segments(document: Document, name: str) -> list[list[str]]:
    lines = (line.split("|") for line in document.content.decode().split("\r"))
    return [fields for fields in lines if fields[0] == name]


@pytest.mark.parametrize(
    ("read", "headers"),
    [
        (reading(), {}),
        (reading(phantom=True), {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "IssuerOfPatientID": "H|A"}),
        (unassessed(), {"AccessionNumber": "", "PatientName": "", "PatientSex": "O"}),
        (replace(reading(), findings=(), models=()), {"StudyDate": "", "StudyTime": ""}),
        (replace(reading(), draft=DraftReport((), "No model")), {"PlacerOrderNumberImagingServiceRequest": "P^1"}),
    ],
    ids=["three findings", "Japanese", "nothing assessed", "no findings", "no draft"],
)
def test_valid_by_the_standard_and_by_our_gate(read: Reading, headers: dict[str, object]) -> None:
    document = oru(read, **headers)
    assert document.faults == ()
    assert document.media_type == "x-application/hl7-v2+er7"
    message = parse_message(document.content.decode(), validation_level=VALIDATION_LEVEL.STRICT)
    assert message.validate()
    assert message.name == "ORU_R01"


def test_a_result_of_nobody_is_held() -> None:
    (fault,) = oru(PatientID="").faults
    assert (fault.rule, fault.text) == ("hl7-required", "PID-3 Patient Identifier List is empty")


def test_says_what_the_reading_says() -> None:
    document = oru(reading(phantom=True))
    (pid,) = segments(document, "PID")
    assert pid[3:9] == ["P-1^^^^PI", "", "Muster^Erika^^^^^L", "", "19700102", "F"]
    (obr,) = segments(document, "OBR")
    assert (obr[3], obr[18], obr[25]) == ("ACC7", "ACC7", "R")
    by_code = {(fields[3].split("^")[0], fields[4]): fields for fields in segments(document, "OBX")}
    present = by_code["36118008", "pneumothorax"]
    assert (present[2], present[5], present[8], present[11]) == ("CWE", "52101004^Present^SCT", "A", "R")
    absent = by_code["60046008", "effusion"]
    assert (absent[5], absent[8]) == ("272519000^Absent^SCT", "N")
    unknown = by_code["RID50149", "nodule"]
    assert (unknown[5], unknown[8], unknown[11]) == ("Not assessable: The film is lateral", "", "X")
    assert by_code["111012", "pneumothorax"][5:7] == ["93.14", "%^percent^UCUM"]
    assert by_code["110180", ""][5] == "1.2.3"
    texts = document.content.decode()
    assert "Large left pneumothorax." in texts
    assert "phantom – not for patients" in texts
    assert segments(document, "MSH")[0][10] == "T"


def test_the_same_reading_gives_the_same_message_and_another_revision_another() -> None:
    first, again = oru(), oru()
    assert first == again
    earlier = (Predecessor(DocumentKind.DRAFT_SR, "1.2.9", "1.2", "1.2.8"),)
    (second,) = build_documents(reading(), context(revision=2, predecessors=earlier), ORU)
    assert segments(second, "MSH")[0][9] != segments(first, "MSH")[0][9]
    assert any("replaces the results" in fields[3] for fields in segments(second, "NTE"))
    assert re.fullmatch(r"[A-Z2-7]{20}", segments(first, "MSH")[0][9])


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    container = hl7.Message("\r", [], separators="\r|~^&", esc="\\")
    shown = escape(text)
    assert not re.search(r"[|^~&\r\n\x0b\x1c]", shown)
    kept = "".join(c if c.isprintable() else "\n" if c in "\r\n" else "" for c in text.replace("\r\n", "\n"))
    assert container.unescape(shown.replace("\\.br\\", "\\X0A\\")) == kept


@pytest.mark.parametrize("hostile", ["\r\nOBX|99|ST|x||forged||||||F", "a\x0bb\x1c\rMSH|^~\\&|EVIL", "\\F\\|^&~"])
def test_text_cannot_forge_a_segment(hostile: str) -> None:
    draft = DraftReport((Sentence(hostile, 0.5),))
    document = oru(replace(reading(), draft=draft), PatientName=hostile, AccessionNumber=hostile[:16])
    assert document.faults == ()
    names = [line.split("|")[0] for line in document.content.decode().split("\r")]
    assert names.count("MSH") == 1
    assert all(fields[11] in ("R", "X") for fields in segments(document, "OBX"))


@pytest.mark.parametrize("name", PLANTED)
def test_the_gate_catches(name: str) -> None:
    planted = plant(PLANTED[name])
    assert planted.content != sound_of(PLANTED[name]).content
    assert PLANTED[name].rule in {fault.rule for fault in hl7_faults(planted.content)}


def test_bytes_that_are_not_utf_8() -> None:
    assert [fault.rule for fault in hl7_faults(oru().content + b"\xff\r")] == ["hl7-charset"]
