"""What is kept how long: the settings."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dicom_node.frozen import Frozen

_MARK: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(%|GB)")


def _text(value: Any) -> Any:
    return "" if value is None else value


def _watermark(text: str) -> str:
    found = _MARK.fullmatch(text.strip())
    if text and found is None:
        raise ValueError('write a share of the disk in use, such as "90%", the size of the store, such as "500 GB", or null')
    if found and found[2] == "%" and not 0 < float(found[1]) < 100:
        raise ValueError("a share of the disk lies between 0% and 100%")
    return text.strip()


Watermark = Annotated[str, BeforeValidator(_text), AfterValidator(_watermark)]
Days = Annotated[float, Field(ge=0)]


class RetentionSettings(Frozen):
    """Ages in days, 0: kept for ever. ``high`` and ``low``: share of the disk, or size of the store; empty: no watermark."""

    images_days: Days = 30
    documents_days: Days = 365
    jobs_days: Days = 90
    events_days: Days = 365
    conflicts_days: Days = 0
    orphans_days: Days = 30
    late_hours: float = Field(48, ge=0)
    high: Watermark = "90%"
    low: Watermark = "80%"

    @model_validator(mode="after")
    def _low_is_lower(self) -> Self:
        high, low = parsed(self.high), parsed(self.low)
        if (high is None) != (low is None):
            raise ValueError("give both watermarks, high and low, or neither")
        if high and low and (high[1] != low[1] or low[0] >= high[0]):
            raise ValueError("low must be less than high, and in the same unit")
        return self


def parsed(mark: str) -> tuple[float, str] | None:
    """The number and its unit, "%" or "GB"; None where there is no watermark."""
    found = _MARK.fullmatch(mark)
    return None if found is None else (float(found[1]), found[2])
