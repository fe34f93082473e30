"""What the gate knows of R4: cut from HL7's definitions, read back, and the forms of the primitive types."""

import json
import os
from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class

from reporting.conformance.fhir import cut, standard_bundle_faults
from reporting.conformance.fhir.definitions import r4
from reporting.conformance.fhir.formats import FORMS, moment
from reporting.conformance.fhir.narrative import is_narrative

HL7 = Path(__file__).parents[2] / ".venv" / "fhir-peer" / "node_modules" / "@medplum" / "definitions" / "dist" / "fhir" / "r4"
DEFINITIONS = Path(os.environ.get("WETREAD_FHIR_DEFINITIONS", HL7))


def test_the_shipped_tables_are_what_the_script_cuts(tmp_path: Path):
    if not DEFINITIONS.is_dir():
        pytest.skip("HL7's definitions are not in .venv/fhir-peer; run tests/acceptance/install_peers.sh")
    cut.main(str(DEFINITIONS), str(tmp_path / "r4.json"))
    assert (tmp_path / "r4.json").read_bytes() == cut.OUT.read_bytes()


def test_the_tables_hold_what_the_published_pages_say():
    groups = r4().groups
    report, observation = groups["DiagnosticReport"].elements, groups["Observation"].elements
    assert report["status"].values == {
        *("registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled"),
        *("entered-in-error", "unknown"),
    }
    assert report["imagingStudy"].targets == {"ImagingStudy"}
    assert observation["valueQuantity"].choice == "value"
    assert "valueDecimal" not in observation
    assert ("status",) in groups["Observation"].required
    assert groups["Provenance"].elements["target"].targets is None
    assert groups["ImagingStudy.series"].elements["uid"].kind == "id"
    assert groups["Patient"].elements["gender"].values == {"male", "female", "other", "unknown"}
    assert "title" in r4().schema["Attachment"]["properties"]  # prose is cut, elements called title are not
    assert "description" in r4().schema["ImagingStudy"]["properties"]


# What R4B (4.3) changed of what is judged here, and what its classes leave out
_CHANGED = {
    "Extension": {"valueRatioRange", "valueCodeableReference", "valueMeta"},
    "DiagnosticReport.subject": {"Organization", "Practitioner", "Procedure", "Substance", "Medication"},
    "Observation.subject": {"Organization", "Practitioner", "Procedure", "Substance", "Medication"},
}


def class_of(path: str) -> type | None:
    """The class for a path, which fhir.resources calls ObservationComponent; None for primitives."""
    try:
        return get_fhir_model_class("".join(part[0].upper() + part[1:] for part in path.split(".")))
    except ValueError:
        return None


COMPLEX = sorted(path for path, group in r4().groups.items() if group.elements and class_of(path))


@pytest.mark.parametrize("path", COMPLEX)
def test_the_tables_and_the_classes_agree(path: str):
    """An oracle for the tables, and why classes of R4B may judge R4: equal elements, cardinalities, targets, codes."""
    group = r4().groups[path]
    fields = {field.alias or name: field for name, field in class_of(path).model_fields.items() if not name.endswith("__ext")}
    left = {"resource_type", "resourceType", "fhir_comments"}
    assert (fields.keys() - left) ^ group.elements.keys() <= _CHANGED.get(path, set())
    for name in fields.keys() & group.elements.keys():
        element, said = group.elements[name], fields[name].json_schema_extra or {}
        assert element.many is ("List" in str(fields[name].annotation)), name
        targets = set(said.get("enum_reference_types", ())) - {"Resource"}
        assert targets ^ (element.targets or set()) <= _CHANGED.get(f"{path}.{name}", set()), name
        codes = set(said.get("enum_values", ()))
        assert not (codes and element.values) or codes - {"+"} <= element.values, name  # "+": and so on
        needed = bool(said.get("element_required")) or fields[name].is_required()
        assert needed is ((name,) in group.required), name


def test_nearly_every_table_has_its_class():
    assert len(COMPLEX) > 80


@pytest.mark.parametrize("kind", sorted(r4().resources))
def test_the_tables_and_the_schema_have_the_same_elements(kind: str):
    schema = {name for name in r4().schema[kind]["properties"] if not name.startswith("_")}
    assert schema - {"resourceType"} == set(r4().groups[kind].elements)


UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"

# Type → forms that are right, forms that are wrong (R4 2.24.0.1)
SAMPLES: dict[str, tuple[list[object], list[object]]] = {
    "base64Binary": (["AAAA", "AAA=", "AA\nAA ", "AA AA"], ["A", "AAA", "A*AA", "AA=A"]),
    "boolean": ([True, False], []),
    "canonical": (["http://x.example/a|1"], ["a b"]),
    "code": (["a", "a b", "36118008"], [" a", "a ", "a  b", "\t"]),
    "date": (["2026", "2026-03", "2024-02-29"], ["26", "2026-13", "2026-02-29", "2026-3-1", "0000", "2026\n"]),
    "dateTime": (
        ["2026", "2026-03-04", "2026-03-04T05:06:07Z", "2026-03-04T05:06:07.123456+14:00", "2016-12-31T23:59:60Z"],
        ["2026-03-04T05:06Z", "2026-03-04T05:06:07", "2026-03-04T24:00:00Z", "2026-03-04T05:06:07+15:00"],
    ),
    "decimal": ([0, 1.5, -1e-9], []),
    "id": (["a", "A-1.b", "x" * 64], ["a_b", "x" * 65, "é", "a\n"]),
    "instant": (["2026-03-04T05:06:07.08+01:00"], ["2026-03-04", "2026-02-30T05:06:07Z", "2026-03-04T05:06:07"]),
    "integer": ([0, -(2**31), 2**31 - 1], [1.0, 1.5, 2**31]),
    "markdown": (["a\n\nb"], ["\x00"]),
    "oid": (["urn:oid:1.2.3", "urn:oid:2.25.0"], ["1.2.3", "urn:oid:1.02", "urn:oid:3.1", "urn:oid:1"]),
    "positiveInt": ([1], [0, -1, 1.0]),
    "string": (["a", " a ", "a\r\n\tb", "é山\xa0"], ["\x01", "a\ud800", "x" * (1024 * 1024 + 1)]),
    "time": (["05:06:07", "05:06:07.5"], ["5:06:07", "05:06", "24:00:00", "05:06:07Z"]),
    "unsignedInt": ([0, 1], [-1, 0.5, True + 0.5]),
    "uri": (["urn:oid:1.2", "x", f"urn:uuid:{UUID}"], ["a b", " a", f"urn:uuid:{UUID.upper()}"]),
    "url": (["http://x.example"], ["a b"]),
    "uuid": ([f"urn:uuid:{UUID}"], [UUID, "urn:uuid:0"]),
    "xhtml": (["<div>x</div>"], ["\x00"]),
}  # fmt: skip


def test_every_primitive_type_has_a_form_and_samples():
    used = {element.kind for group in r4().groups.values() for element in group.elements.values()}
    assert {kind for kind in used if kind[0].islower()} <= set(FORMS) == set(SAMPLES)


@pytest.mark.parametrize("kind", SAMPLES)
def test_form(kind: str):
    types, holds, _ = FORMS[kind]
    right, wrong = SAMPLES[kind]
    assert all(type(value) in types and holds(value) for value in right)
    assert not any(type(value) in types and holds(value) for value in wrong)


def test_moments_compare_as_far_as_they_are_given():
    year, day, instant = moment("2026"), moment("2026-03-04"), moment("2026-03-04T05:06:07Z")
    assert [given and given[1] for given in (year, day, instant)] == [1, 3, 4]
    assert moment("yesterday") is None


XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
NARRATIVES = {
    "text": (XHTML.format("x"), True),
    "a table": (XHTML.format("<table><tr><td>x &amp; &eacute;</td></tr></table>"), True),
    "a picture alone": (XHTML.format('<img src="#p" alt="x"/>'), True),
    "nothing": (XHTML.format(""), False),
    "blanks": (XHTML.format(" <p> </p> "), False),
    "a script": (XHTML.format("<script>x</script>"), False),
    "an event": (XHTML.format('<p onclick="x()">x</p>'), False),
    "a form": (XHTML.format("<form>x</form>"), False),
    "no namespace": ("<div>x</div>", False),
    "no div": ('<p xmlns="http://www.w3.org/1999/xhtml">x</p>', False),
    "not closed": ('<div xmlns="http://www.w3.org/1999/xhtml"><p>x</div>', False),
    "entities of its own": ('<!DOCTYPE div [<!ENTITY a "x">]>' + XHTML.format("&a;"), False),
}


@pytest.mark.parametrize(("text", "sound"), NARRATIVES.values(), ids=NARRATIVES)
def test_narrative(text: str, sound: bool):
    assert is_narrative(text) is sound
    patient = {"resourceType": "Patient", "text": {"status": "generated", "div": text}}
    assert (not standard_bundle_faults(patient)) is sound


def test_the_tables_travel_with_the_package():
    assert json.loads(cut.OUT.read_text("utf-8"))["version"] == "4.0.1"
    assert cut.OUT.stat().st_size < 200_000
