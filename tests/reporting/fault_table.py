"""The table of docs/conformance-gate.md: every planted fault, the gate's rule for it, and which outside checkers catch it.

    python -m tests.reporting.fault_table --out docs/conformance-gate.md    replaces what stands between the marks of the page
    python -m tests.reporting.fault_table                                   prints it

Tools that are missing on the machine are told, and their columns left empty: make the page where all are installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reporting.conformance import faults_of
from reporting.context import Document, DocumentKind
from tests.reporting import dicom_faults, fhir_faults, hl7_faults
from tests.reporting.outside_tools import DICOM, FHIR, HL7, TOOLS, Tool, catches

BEGIN: Final = "<!-- The tables, made by `python -m tests.reporting.fault_table --out docs/conformance-gate.md` -->\n"
END: Final = "<!-- End of the tables -->\n"
CAUGHT, MISSED, CRASHED, FOREIGN, ABSENT = "✓", "", "crash", "·", "?"


@dataclass(frozen=True)
class Family:
    """Faults planted into documents of one standard. ``sound``: the document that a fault was planted into."""

    title: str
    kinds: frozenset[DocumentKind]
    planted: Mapping[str, Any]
    plant: Callable[[Any], Document]
    sound: Callable[[Any], Document]

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(tool for tool in TOOLS if tool.kinds & self.kinds)


FAMILIES: Final = (
    Family("DICOM", DICOM, dicom_faults.PLANTED, dicom_faults.plant, dicom_faults.sound_of),
    Family("FHIR", FHIR, fhir_faults.PLANTED, fhir_faults.plant, fhir_faults.sound_of),
    Family("HL7 v2", HL7, hl7_faults.PLANTED, hl7_faults.plant, hl7_faults.sound_of),
)


@dataclass(frozen=True)
class Row:
    """``marks``: of each tool of the family, in order."""

    name: str
    kind: DocumentKind
    rule: str
    clause: str
    marks: tuple[str, ...]


def rows_of(family: Family, names: Sequence[str] = ()) -> list[Row]:
    """The rows of these faults, or of all. Raises AssertionError where the gate misses one."""
    chosen = list(names or family.planted)
    planted = {name: family.plant(family.planted[name]) for name in chosen}
    columns = [_column(tool, family, planted) for tool in family.tools]
    return [
        Row(name, document.kind, family.planted[name].rule, _clause(name, document, family.planted[name].rule), marks)
        for (name, document), marks in zip(planted.items(), zip(*columns, strict=True), strict=True)
    ]


def _column(tool: Tool, family: Family, planted: Mapping[str, Document]) -> list[str]:
    judged = [name for name, document in planted.items() if document.kind in tool.kinds]
    if tool.missing():
        return [ABSENT if name in judged else FOREIGN for name in planted]
    sound = [family.sound(family.planted[name]).content for name in judged]
    told = dict(zip(judged, catches(tool, sound, [planted[name].content for name in judged]), strict=True))
    return [_mark(told[name]) if name in told else FOREIGN for name in planted]


def _mark(complaints: frozenset[str]) -> str:
    real = [complaint for complaint in complaints if not complaint.startswith("Crash")]
    return CAUGHT if real else CRASHED if complaints else MISSED


def _clause(name: str, document: Document, rule: str) -> str:
    clauses = [fault.clause for fault in faults_of(document) if fault.rule == rule]
    assert clauses, f"the gate misses {name!r}"
    return clauses[0]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n"
    yield f"|{'---|' * len(head)}\n"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def _totals(family: Family, rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    yield (family.title, "the gate", str(len(rows)), str(len(rows)))
    for place, tool in enumerate(family.tools):
        judged = [row.marks[place] for row in rows if row.marks[place] != FOREIGN]
        caught = "not installed" if ABSENT in judged else str(judged.count(CAUGHT))
        yield (family.title, tool.name, str(len(judged)), caught)
    yield (family.title, "any of these tools", str(len(rows)), str(sum(CAUGHT in row.marks for row in rows)))


def page(rows: Mapping[str, Sequence[Row]]) -> str:
    """The part of the page between the marks. ``rows``: of each family, by its title."""
    parts = ["### How many each tool catches\n\n"]
    totals = [line for family in FAMILIES for line in _totals(family, rows[family.title])]
    parts += _table(("faults in", "tool", "of documents it reads", "caught"), totals)
    for family in FAMILIES:
        parts.append(f"\n### {family.title}: {len(rows[family.title])} planted faults\n\n")
        head = ("fault", "in", "rule", "clause", *(tool.name for tool in family.tools))
        cells = [(row.name, row.kind.value, f"`{row.rule}`", row.clause, *row.marks) for row in rows[family.title]]
        parts += _table(head, cells)
    return "".join(parts)


def between_marks(text: str) -> str:
    """What stands between the marks of the page. Raises ValueError where they are missing."""
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, help="the page; without it, the tables are printed")
    out = arguments.parse_args().out
    for tool in TOOLS:
        if tool.missing():
            print(f"missing: {tool.name}: {tool.missing()}", file=sys.stderr)
    made = page({family.title: rows_of(family) for family in FAMILIES})
    if out is None:
        print(made)
    else:
        text = out.read_text("utf-8")
        out.write_text(text[: text.index(BEGIN) + len(BEGIN)] + made + text[text.index(END) :], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
