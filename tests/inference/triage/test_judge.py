"""From probabilities to findings: the highest frame decides, and nothing becomes negative without a number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.reading import Decision, Frame, FrameSource
from inference.triage.catalogue import FindingsCatalogue, load_catalogue
from inference.triage.judge import NOT_TRAINED, judge, not_assessable

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "findings" / "chest_xray.yaml"


@pytest.fixture(scope="module")
def catalogue() -> FindingsCatalogue:
    return load_catalogue(SHIPPED)


def frames(count: int) -> list[Frame]:
    pixels = np.zeros((4, 4), np.uint8)
    return [Frame(pixels, FrameSource(f"1.2.{n}", "1.2.840.10008.5.1.4.1.1.1.1", "1.2"), "DX") for n in range(count)]


def test_the_highest_frame_decides(catalogue: FindingsCatalogue) -> None:
    probabilities = np.full((3, len(catalogue.findings)), 0.1, np.float32)
    probabilities[1, 0] = 0.9
    findings = judge(catalogue, frames(3), probabilities, catalogue.keys)
    assert [finding.key for finding in findings] == list(catalogue.keys)
    assert findings[0].decision is Decision.POSITIVE
    assert findings[0].probability == pytest.approx(0.9)
    assert findings[0].source is not None
    assert findings[0].source.sop_instance_uid == "1.2.1"
    assert {finding.decision for finding in findings[1:]} == {Decision.NEGATIVE}


@pytest.mark.parametrize(
    ("probability", "decision"),
    [
        pytest.param(0.5, Decision.POSITIVE, id="at the threshold"),
        pytest.param(np.nextafter(np.float32(0.5), np.float32(0)), Decision.NEGATIVE, id="just below"),
        pytest.param(np.nan, Decision.NOT_ASSESSABLE, id="no number"),
        pytest.param(np.inf, Decision.NOT_ASSESSABLE, id="infinite"),
    ],
)
def test_decision(catalogue: FindingsCatalogue, probability: float, decision: Decision) -> None:
    probabilities = np.full((2, len(catalogue.findings)), 0.1, np.float32)
    probabilities[0, 3] = probability
    finding = judge(catalogue, frames(2), probabilities, catalogue.keys)[3]
    assert finding.decision is decision
    assert (finding.probability is None) == (decision is Decision.NOT_ASSESSABLE) == bool(finding.reason)


def test_a_finding_the_model_does_not_know_is_not_assessable(catalogue: FindingsCatalogue) -> None:
    probabilities = np.full((1, len(catalogue.findings)), 0.99, np.float32)
    findings = {finding.key: finding for finding in judge(catalogue, frames(1), probabilities, {"nodule"})}
    assert findings["nodule"].decision is Decision.POSITIVE
    others = [finding for key, finding in findings.items() if key != "nodule"]
    assert {(finding.decision, finding.probability, finding.reason) for finding in others} == {
        (Decision.NOT_ASSESSABLE, None, NOT_TRAINED)
    }


def test_not_assessable_covers_the_whole_catalogue(catalogue: FindingsCatalogue) -> None:
    findings = not_assessable(catalogue, "the study holds no image")
    assert [finding.key for finding in findings] == list(catalogue.keys)
    assert {(f.decision, f.probability, f.source, f.reason) for f in findings} == {
        (Decision.NOT_ASSESSABLE, None, None, "the study holds no image")
    }


@pytest.mark.parametrize("shape", [pytest.param((2, 14), id="frames"), pytest.param((1, 13), id="entries")])
def test_shapes_must_agree(catalogue: FindingsCatalogue, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 frames, 14 entries"):
        judge(catalogue, frames(1), np.zeros(shape, np.float32), catalogue.keys)
