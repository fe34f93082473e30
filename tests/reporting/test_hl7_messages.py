"""What HL7 v2 says of anybody's messages: a table of faults, hl7apy's tables as the oracle, and any bytes."""

from __future__ import annotations

import importlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting.conformance.hl7_messages import is_message, message_faults, split_messages
from reporting.conformance.hl7_tables import ORDERS, REQUIRED, REQUIRED_BEFORE_2_4, TIMES, VALUE_TYPES
from tests.reporting.hl7_faults import sound

ADT = (
    "MSH|^~\\&|HIS|HOSPITAL|RIS||20260304050607+0100||ADT^A08^ADT_A01|17|P|2.5.1\r"
    "EVN||202603040506\rPID|1||77^^^H^PI||Doe^J||1970|F\rPV1|1|I\rZBE|anything\r"
)
ORU_2_3 = (
    "MSH|^~\\&|LAB||HIS||20260304||ORU^R01|1|P|2.3\rPID|||1||A^B\rORC|RE\rOBR|1|||X^Y^L|||202603040506|||||||||||||||||F\r"
    "OBX|1|NM|1^a^L||-3.5|mm|||||F\rOBX|2|TX|2^b^L||" + "words \\T\\ more~second" + "||||||F|||20260304\rNTE|1||c\r"
    "OBR|2|||X^Y^L|||||||||||||||||||||F\rOBX|1|DT|1^a^L||20260229x||||||F\r"
).replace("20260229x", "20260228")
ACK = "MSH|^~\\&|A||B||20260304050607||ACK^R01^ACK|1|P|2.5.1\rMSA|AA|17\r"


@pytest.mark.parametrize("message", [ADT, ORU_2_3, ACK, sound().content.decode()], ids=["ADT", "ORU 2.3", "ACK", "ours"])
def test_sound_messages(message: str) -> None:
    assert message_faults(message.encode()) == ()
    assert is_message(message.encode())


FAULTS: dict[str, tuple[str, str]] = {
    "delimiters alike": (ADT.replace("^~\\&", "^^\\&"), "hl7-delimiters"),
    "no encoding characters": ("MSH|\r", "hl7-delimiters"),
    "line feeds": (ADT.replace("\r", "\n"), "hl7-terminator"),
    "both": (ADT.replace("\r", "\r\n"), "hl7-terminator"),
    "no last carriage return": (ADT[:-1], "hl7-terminator"),
    "no control id": (ADT.replace("|17|", "||"), "hl7-required"),
    "no patient identifier": (ADT.replace("77^^^H^PI", ""), "hl7-required"),
    "unknown version": (ADT.replace("2.5.1", "3.0"), "hl7-version"),
    "long control id": (ADT.replace("|17|", f"|{'7' * 21}|"), "hl7-control-id"),
    "unknown processing id": (ADT.replace("|P|2", "|Q|2"), "hl7-code"),
    "time of another form": (ADT.replace("EVN||202603040506", "EVN||04.03.2026"), "hl7-time"),
    "month 13": (ADT.replace("EVN||202603040506", "EVN||202613040506"), "hl7-time"),
    "set id in words": (ADT.replace("PID|1|", "PID|one|"), "hl7-set-id"),
    "line that is no segment": (ADT + "and so on\r", "hl7-segment"),
    "umlaut without a character set": (ADT.replace("Doe", "Döe"), "hl7-charset"),
    "unknown character set": (ADT.replace("|2.5.1", "|2.5.1||||||UTF8"), "hl7-charset"),
    "number that is none": (ORU_2_3.replace("-3.5", "3,5"), "hl7-value"),
    "date that is none": (ORU_2_3.replace("20260228", "28 FEB"), "hl7-value"),
    "value without a type": (ORU_2_3.replace("|NM|", "||"), "hl7-value-type"),
    "unknown type": (ORU_2_3.replace("|NM|", "|QQ|"), "hl7-value-type"),
    "unknown status": (ORU_2_3.replace("mm|||||F", "mm|||||f"), "hl7-code"),
    "result before its order": (re.sub(r"(OBR\|1[^\r]*\r)(OBX\|1[^\r]*\r)", r"\2\1", ORU_2_3, count=1), "hl7-structure"),
    "acknowledgement without MSA": (ACK.replace("MSA|AA|17\r", ""), "hl7-structure"),
    "unknown acknowledgement": (ACK.replace("|AA|", "|OK|"), "hl7-code"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_alone(name: str) -> None:
    message, rule = FAULTS[name]
    found = message_faults(message.encode())
    assert [fault.rule for fault in found] == [rule], [str(fault) for fault in found]
    assert not any(word in fault.text for fault in found for word in ("Doe", "77", "3,5"))


def test_named_character_sets_are_read() -> None:
    named = ADT.replace("Doe", "Döe").replace("|2.5.1", "|2.5.1||||||{}")
    assert message_faults(named.format("UNICODE UTF-8").encode()) == ()
    assert message_faults(named.format("8859/1").encode("latin-1")) == ()
    assert [fault.rule for fault in message_faults(named.format("UNICODE UTF-8").encode("latin-1"))] == ["hl7-charset"]
    chinese = ADT.replace("Doe", "謝").replace("|2.5.1", "|2.5.1||||||BIG-5")
    assert message_faults(chinese.encode("big5")) == ()


def test_messages_of_a_file() -> None:
    one = ACK.encode()
    assert split_messages(b"\x0b" + one + b"\x1c\r\x0b" + one + b"\x1c\r") == (one, one)
    assert split_messages(b"FHS|^~\\&\rBHS|^~\\&\r" + one + one) == (one, one)
    assert [message_faults(message) for message in split_messages(one + one + b"BTS|2\rFTS|1\r")] == [(), ()]
    assert split_messages(b"MSHA") == ()


SEGMENTS = {
    version: importlib.import_module(f"hl7apy.v{version}.segments").SEGMENTS for version in ("2_3", "2_4", "2_5_1", "2_6")
}


def fields(version: str, segment: str) -> dict[int, tuple[int, str]]:
    """By hl7apy's tables: field number to least repetitions and data type."""
    found = SEGMENTS[version].get(segment, ("", ()))[1]
    return {int(name.split("_")[1]): (many[0], form[2]) for name, form, many, _ in found}


@pytest.mark.parametrize(
    ("version", "table"), [("2_3", REQUIRED_BEFORE_2_4), *((v, REQUIRED) for v in ("2_4", "2_5_1", "2_6"))]
)
def test_required_fields_are_required(version: str, table: dict[str, tuple[int, ...]]) -> None:
    for segment, numbers in table.items():
        known = fields(version, segment)
        assert not known or all(known[number][0] for number in numbers), (version, segment)


def test_fields_of_time_are_of_a_time() -> None:
    for segment, numbers in TIMES.items():
        known = fields("2_5_1", segment)
        assert {known[number][1] for number in numbers if number in known} <= {"TS", "DT", "DTM"}, segment


def test_value_types_are_those_of_the_standard() -> None:
    versions = [importlib.import_module(f"hl7apy.v{version}") for version in ("2_2", "2_3", "2_5_1")]
    known = {kind for version in versions for kind in (*version.BASE_DATATYPES, *version.DATATYPES_STRUCTS)}
    assert {kind for kind in VALUE_TYPES if kind not in known} == set()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(ORU_2_3) - 1))
def test_any_bytes_end_in_faults(noise: bytes, place: int) -> None:
    message_faults(noise)
    split_messages(noise)
    message_faults(ORU_2_3.encode()[:place] + noise + ORU_2_3.encode()[place:])


def test_order_is_judged_in_linear_time() -> None:
    began = time.perf_counter()
    assert not ORDERS["ORU"].fullmatch("MSH" + " PID OBR OBX NTE OBX" * 5000 + " MSH")
    assert time.perf_counter() - began < 2
