"""What a user installs: the wheel holds the defaults and the phantom bundles, and stays small."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST_BUNDLES = 15 * 2**20  # of both phantom bundles together, as they lie in the wheel


@pytest.fixture(scope="module")
def names_and_sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT, check=True, timeout=120
    )
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.compress_size for item in archive.infolist()}


@pytest.mark.parametrize(
    "name",
    [
        "dicom_node/defaults/node.yaml",
        "dicom_node/defaults/routes.yaml",
        "dicom_node/defaults/findings/chest_xray.yaml",
        "dicom_node/storage/migrations/env.py",
        "inference/phantoms/bundles/biomedclip-phantom/bundle.json",
        "inference/phantoms/bundles/biomedgpt-phantom/bundle.json",
        "reporting/documents.py",
    ],
)
def test_the_wheel_holds(name: str, names_and_sizes: dict[str, int]) -> None:
    assert name in names_and_sizes


def test_the_phantom_bundles_are_small(names_and_sizes: dict[str, int]) -> None:
    assert 0 < sum(size for name, size in names_and_sizes.items() if "/bundles/" in name) <= LARGEST_BUNDLES


def test_no_tests_or_pickles_travel(names_and_sizes: dict[str, int]) -> None:
    assert not [name for name in names_and_sizes if name.startswith("tests/") or name.endswith((".pt", ".bin", ".pkl"))]
