"""What nvidia-smi says, read leniently: a card that tells less than others, a driver that fails or hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node import gpu, measures
from dicom_node.gpu import Gpu


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("0, 1024, 143771, 37", [Gpu("0", 1024 << 20, 143771 << 20, 0.37)], id="a card"),
        pytest.param("1, 0, 143771, [N/A]", [Gpu("1", 0, 143771 << 20, None)], id="a slice of one (MIG) tells no utilisation"),
        pytest.param("0, [N/A], [N/A], 3", [], id="a card that shares the machine's memory"),
        pytest.param("No devices were found", [], id="none"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_lines(line: str, found: list[Gpu]) -> None:
    assert list(gpu.parsed(f"{line}\n")) == found


@pytest.mark.parametrize(
    ("script", "number"),
    [
        pytest.param('[ "$2" = "--format=csv,noheader,nounits" ] && echo "0, 5, 10, 50"', 1, id="answers"),
        pytest.param("echo 'NVIDIA-SMI has failed' >&2; exit 9", 0, id="fails"),
        pytest.param("exec sleep 30", 0, id="hangs"),
    ],
)
def test_the_program_is_asked_and_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, number: int
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "_LONGEST_S", 0.5 if number == 0 else 10)
    assert len(gpu.look()) == number


def test_without_a_driver_there_is_nothing_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = measures.gauges()
    gpu.set_gauges()
    assert measures.gauges() == before
