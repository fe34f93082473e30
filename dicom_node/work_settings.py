"""The settings of reading."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dicom_node.frozen import Frozen


class WorkSettings(Frozen):
    lease_seconds: float = Field(60, ge=5)
    max_attempts: int = Field(4, ge=1)
    retry_seconds: float = Field(15, gt=0)
    poll_seconds: float = Field(1, gt=0)
    batch: int = Field(8, ge=1, le=256)
    batch_seconds: float = Field(10, gt=0)
    ageing_seconds: float = Field(1800, ge=0)
    findings_first: Literal["stat", "always", "never"] = "stat"
    step_seconds: float = Field(180, ge=5)
    study_seconds: float = Field(300, ge=1)
    study_instances: int = Field(5000, ge=1)
    study_memory_mb: int = Field(2048, ge=16)
