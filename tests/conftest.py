"""What every test may ask for: the shared corpora, found by variable or beside the checkout, skipped visibly where absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

ROOT = Path(__file__).parents[1]


def shared(variable: str, folder: str) -> Path:
    """The corpus that ``variable`` names, or ``../shared/<folder>`` beside the checkout; skips where there is none."""
    found = Path(os.environ.get(variable) or ROOT.parent / "shared" / folder)
    if not found.is_dir():
        pytest.skip(f"{variable} names no folder with the shared corpus, and there is none at ../shared/{folder}")
    return found


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """A command sends log lines to the standard error of its own test, which is closed when that test is over."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def dicom_corpus() -> Path:
    """DICOM files of many makers: cxr, ct, nonimage_or_odd, charset, … and MANIFEST.csv. $WETREAD_DICOM."""
    return shared("WETREAD_DICOM", "dicom")


@pytest.fixture(scope="session")
def golden_corpus() -> Path:
    """Reference outputs of the models. $WETREAD_GOLDEN."""
    return shared("WETREAD_GOLDEN", "golden")
