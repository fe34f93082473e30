"""Whose word a reading is: which model judged, which one wrote, and what fitted on a site's labelled films came between."""

from __future__ import annotations

from typing import Final

from inference.reading import Finding, HeadVersion, Method, ModelVersion, Reading

_DRAFTING_KINDS: Final = ("biomedgpt",)
_KIND: Final = {Method.CALIBRATED: "calibration", Method.PROBE: "probe"}


def triage_model(reading: Reading) -> ModelVersion | None:
    """The model that judged the findings."""
    return next((model for model in reading.models if model.kind not in _DRAFTING_KINDS), None)


def drafting_model(reading: Reading) -> ModelVersion | None:
    """The model that wrote the draft."""
    return next((model for model in reading.models if model.kind in _DRAFTING_KINDS), None)


def heads_of(reading: Reading, finding: Finding) -> tuple[HeadVersion, ...]:
    """The heads that formed the finding's probability."""
    kind = _KIND.get(finding.method)
    return tuple(head for head in reading.heads if head.kind == kind)


def deciding_heads(reading: Reading) -> tuple[HeadVersion, ...]:
    """Those that formed some probability; a head on trial formed none, and its numbers are in no document."""
    kinds = {_KIND.get(finding.method) for finding in reading.findings if finding.probability is not None}
    return tuple(head for head in reading.heads if head.kind in kinds)
