"""Which scanner made a study's images: a short label that is fit for a metric and names no patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydicom import Dataset

from dicom_node.pixels.instances import Instance

UNKNOWN: Final = "unknown"
_PARTS: Final = (("Manufacturer", 24), ("ManufacturerModelName", 28), ("StationName", 16))  # PS3.3 C.7.5.1, longest kept
_UNFIT: Final = re.compile(r"[^A-Z0-9.-]+")
_NUMBER: Final = re.compile(r"\d{6,}")  # so long a number may be a patient's, put into the wrong field


def scanner_of(instances: Sequence[Instance]) -> str:
    """Manufacturer, model and station of the first image that names any of them, at most 74 characters of A-Z 0-9 . - /."""
    ordered = sorted(instances, key=lambda one: one.pixels is None)
    return next((label for label in map(_label, (one.header for one in ordered)) if label), UNKNOWN)


def _label(header: Dataset) -> str:
    parts = [_term(header, keyword)[:longest] for keyword, longest in _PARTS]
    return " / ".join(part or "-" for part in parts) if any(parts) else ""


def _term(header: Dataset, keyword: str) -> str:
    try:
        value = str(header.get(keyword) or "")
    except Exception:  # noqa: BLE001  whatever a header does to the reader, the study is read
        return ""
    return _NUMBER.sub("N", _UNFIT.sub(" ", value.upper())).strip()
