"""The tables of docs/conformance-gate.md against the tools themselves, in part; and `wetread conformance` as it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reporting import dicom_faults, hl7_faults
from tests.reporting.fault_table import ABSENT, FAMILIES, Family, rows_of
from tests.reporting.test_fault_table import told


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_the_tools_say_what_the_page_says(family: Family) -> None:
    """A dozen rows of the page: as many that some tool catches as that none does."""
    cells = told(family)
    caught = [name for name in family.planted if "✓" in cells[name][3:]]
    missed = [name for name in family.planted if "✓" not in cells[name][3:]]
    names = [*caught[:: max(1, len(caught) // 6)][:6], *missed[:: max(1, len(missed) // 6)][:6]]
    absent = [f"{tool.name}: {tool.missing()}" for tool in family.tools if tool.missing()]
    for row in rows_of(family, names):
        page = cells[row.name][3:]
        there = [(mark, written) for mark, written in zip(row.marks, page, strict=True) if mark != ABSENT]
        assert [mark for mark, _ in there] == [written for _, written in there], row.name
    if absent:
        pytest.skip(f"compared without {'; '.join(absent)}: run tests/acceptance/install_peers.sh")


def wetread(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node.cli", "conformance", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_by_its_exit_status(tmp_path: Path) -> None:
    sound = [*dicom_faults.sound().values(), hl7_faults.sound()]
    for made in sound:
        (tmp_path / f"{made.kind.value}{made.suffix}").write_bytes(made.content)
    good = wetread(tmp_path, "--ours")
    assert (good.returncode, good.stderr) == (0, ""), good.stdout
    assert "7 files: 7 without fault" in good.stdout
    (tmp_path / "faulty.dcm").write_bytes(dicom_faults.plant(dicom_faults.PLANTED["illegal tracking UID"]).content)
    bad = wetread(tmp_path, "--json")
    assert (bad.returncode, bad.stderr) == (1, "")
    (faulty,) = [one for one in map(json.loads, bad.stdout.splitlines()) if one.get("file", "").endswith("faulty.dcm")]
    assert "uid" in {fault["rule"] for fault in faulty["faults"]}
    assert wetread(tmp_path / "absent").returncode == 2
