"""What was fitted on a site's labelled films and formed the probabilities of a reading."""

from __future__ import annotations

from typing import Final

from inference.reading import Finding, HeadVersion, Method, Reading

_KIND: Final = {Method.CALIBRATED: "calibration", Method.PROBE: "probe"}


def heads_of(reading: Reading, finding: Finding) -> tuple[HeadVersion, ...]:
    """The heads that formed the finding's probability."""
    kind = _KIND.get(finding.method)
    return tuple(head for head in reading.heads if head.kind == kind)


def deciding_heads(reading: Reading) -> tuple[HeadVersion, ...]:
    """Those that formed some probability; a head on trial formed none, and its numbers are in no document."""
    kinds = {_KIND.get(finding.method) for finding in reading.findings if finding.probability is not None}
    return tuple(head for head in reading.heads if head.kind in kinds)
