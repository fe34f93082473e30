"""From probabilities to findings: the highest frame decides, and nothing becomes negative without a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.reading import Decision, Finding, Frame, FrameSource, Method
from inference.triage.aggregation import Aggregation, Rule
from inference.triage.catalogue import Band, EntryScope, FindingsCatalogue, load_catalogue
from inference.triage.judge import NOT_TRAINED, Ruling, judge, not_assessable

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


@pytest.mark.parametrize("shape", [pytest.param((2, 15), id="frames"), pytest.param((1, 14), id="entries")])
def test_shapes_must_agree(catalogue: FindingsCatalogue, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 frames, 15 entries"):
        judge(catalogue, frames(1), np.zeros(shape, np.float32), catalogue.keys)


def ruled(catalogue: FindingsCatalogue, probability: float, **changes: Any) -> Finding:
    """The first finding of one frame, with its catalogue entry or its ruling changed."""
    ruling = changes.pop("ruling", None)
    entry = replace(catalogue.findings[0], **changes)
    changed = replace(catalogue, findings=(entry, *catalogue.findings[1:]))
    probabilities = np.full((1, len(catalogue.findings)), probability, np.float32)
    return judge(changed, frames(1), probabilities, catalogue.keys, {entry.key: ruling} if ruling else {})[0]


@pytest.mark.parametrize(
    ("probability", "decision"),
    [
        pytest.param(0.39, Decision.NEGATIVE, id="below the band"),
        pytest.param(0.4, Decision.NOT_ASSESSABLE, id="at its lower edge"),
        pytest.param(0.5, Decision.NOT_ASSESSABLE, id="at the threshold"),
        pytest.param(0.59, Decision.NOT_ASSESSABLE, id="near its upper edge"),
        pytest.param(0.61, Decision.POSITIVE, id="above the band"),
    ],
)
def test_a_probability_in_the_band_is_not_assessable_and_says_why(
    catalogue: FindingsCatalogue, probability: float, decision: Decision
) -> None:
    finding = ruled(catalogue, probability, band=Band(float(np.float32(0.4)), 0.6))
    assert finding.decision is decision
    if decision is Decision.NOT_ASSESSABLE:
        assert finding.probability is None
        assert f"the probability {probability:.3f} lies between 0.400 and 0.600" in finding.reason
        assert finding.source == frames(1)[0].source


def test_a_ruling_replaces_threshold_and_band(catalogue: FindingsCatalogue) -> None:
    band = Band(0.2, 0.8)
    ruling = Ruling(0.25, method=Method.CALIBRATED)
    finding = ruled(catalogue, 0.3, band=band, ruling=ruling)
    assert (finding.decision, finding.threshold, finding.method) == (Decision.POSITIVE, 0.25, Method.CALIBRATED)
    finding = ruled(catalogue, 0.3, ruling=replace(ruling, band=band))
    assert finding.decision is Decision.NOT_ASSESSABLE
    finding = ruled(catalogue, 0.99, ruling=replace(ruling, refusal="not better than chance here"))
    assert (finding.decision, finding.probability) == (Decision.NOT_ASSESSABLE, None)
    assert finding.reason == "not better than chance here"


def test_a_finding_is_asked_only_of_its_own_images(catalogue: FindingsCatalogue) -> None:
    entry = replace(catalogue.findings[0], scope=EntryScope(views=("AP",)))
    asked = replace(catalogue, findings=(entry,))
    pa, ap, unstated = (replace(frame, view=view) for frame, view in zip(frames(3), ("PA", "AP", ""), strict=True))
    high_on_pa = np.array([[0.9], [0.2], [0.1]], np.float32)
    finding = judge(asked, [pa, ap, unstated], high_on_pa, asked.keys)[0]
    assert finding.decision is Decision.NEGATIVE
    assert (finding.source, finding.aggregation) == (ap.source, "highest of 2 images")
    nothing = judge(asked, [pa], high_on_pa[:1], asked.keys)[0]
    assert nothing.decision is Decision.NOT_ASSESSABLE
    assert nothing.reason == "view PA is not one of which this finding is asked (AP)"


def test_no_number_on_an_image_of_which_the_finding_is_not_asked_does_no_harm(catalogue: FindingsCatalogue) -> None:
    asked = replace(catalogue, findings=(replace(catalogue.findings[0], scope=EntryScope(views=("AP",))),))
    pa, ap = (replace(frame, view=view) for frame, view in zip(frames(2), ("PA", "AP"), strict=True))
    assert judge(asked, [pa, ap], np.array([[np.nan], [0.7]], np.float32), asked.keys)[0].decision is Decision.POSITIVE


def test_slices_are_aggregated_as_the_catalogue_says(catalogue: FindingsCatalogue) -> None:
    entry = replace(catalogue.findings[0], aggregation=Aggregation(Rule.PER_SERIES, 2))
    asked = replace(catalogue, findings=(entry,))
    slices = [
        replace(frame, source=replace(frame.source, series_instance_uid=uid))
        for frame, uid in zip(frames(4), "aabb", strict=True)
    ]
    finding = judge(asked, slices, np.array([[0.9], [0.0], [0.6], [0.5]], np.float32), asked.keys)[0]
    assert finding.probability == pytest.approx(0.55)
    assert (finding.source, finding.decision) == (slices[2].source, Decision.POSITIVE)
    assert finding.aggregation == "mean of all 2 images of the highest of 2 series"
