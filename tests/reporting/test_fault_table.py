"""docs/conformance-gate.md tells of every planted fault, by the rule that the gate has for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reporting.conformance import faults_of
from tests.reporting.fault_table import ABSENT, BEGIN, END, FAMILIES, Family, between_marks

PAGE = Path(__file__).parents[2] / "docs" / "conformance-gate.md"


def told(family: Family) -> dict[str, list[str]]:
    """Of the page: fault to the other cells of its row."""
    part = between_marks(PAGE.read_text("utf-8")).split(f"### {family.title}: ")[1].split("\n### ")[0]
    rows = [re.split(r"(?<!\\) \| ", line.strip()[2:-2]) for line in part.splitlines() if line.startswith("| ")][1:]
    return {row[0]: [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_every_fault_stands_with_its_rule(family: Family) -> None:
    assert {name: (cells[0], cells[1].strip("`")) for name, cells in told(family).items()} == {
        name: (fault.kind.value, fault.rule) for name, fault in family.planted.items()
    }, "make the page again: python -m tests.reporting.fault_table --out docs/conformance-gate.md"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_the_clause_is_the_gate_s(family: Family) -> None:
    cells = told(family)
    for name in list(family.planted)[::9]:
        found = faults_of(family.plant(family.planted[name]))
        assert cells[name][2] in {fault.clause for fault in found if fault.rule == family.planted[name].rule}, name


def test_the_page_was_made_with_every_tool() -> None:
    text = PAGE.read_text("utf-8")
    assert text.index(BEGIN) < text.index(END)
    assert not [name for family in FAMILIES for name, cells in told(family).items() if ABSENT in cells]
    assert sum(len(family.planted) for family in FAMILIES) >= 140
