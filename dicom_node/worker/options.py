"""What a worker is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from dicom_node.flow import Bounds
from inference.reading import UseMode
from reporting.options import DocumentOptions

_BOUNDS: Final = Bounds(seconds=300, instances=5000, memory_mb=2048)
FindingsFirst = Literal["stat", "always", "never"]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """``wanted``: destination name to the document kinds it takes. ``device_uid``: of this installation.

    ``batch``: studies that go through a model together at most, as many as take ``batch_seconds``. ``ageing_seconds``: see
    ``storage.reading_claims``. ``findings_first``: which readings send their findings before the draft is written: those with a
    positive STAT finding, all, or none. ``step_seconds``: after which a step of a model is held to hang.
    """

    mode: UseMode
    wanted: Mapping[str, tuple[str, ...]]
    documents: DocumentOptions
    device_uid: str
    station_name: str
    institution: str
    lease_seconds: float
    max_attempts: int
    retry_seconds: float
    poll_seconds: float
    batch: int = 8
    batch_seconds: float = 10.0
    ageing_seconds: float = 1800.0
    findings_first: FindingsFirst = "stat"
    step_seconds: float = 180.0
    bounds: Bounds = _BOUNDS
