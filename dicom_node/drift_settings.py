"""The drift watch: the settings."""

from __future__ import annotations

from pydantic import Field

from dicom_node.frozen import Frozen


class DriftSettings(Frozen):
    """``p_value`` and ``effect``: both must be passed, twice in a row, for an alarm. ``streams``: scanners told apart."""

    enabled: bool = True
    baseline_studies: int = Field(500, ge=50, le=5000)
    window: int = Field(200, ge=40, le=2000)
    minimum: int = Field(50, ge=20, le=1000)
    p_value: float = Field(1e-6, gt=0, le=0.05)
    effect: float = Field(0.2, gt=0)
    streams: int = Field(64, ge=1, le=1000)
