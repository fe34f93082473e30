"""From modality values to brightness: window 1 of the file, else its VOI LUT, else minimum to maximum (PS3.3 C.11.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.pixels.groups import frame_scopes
from dicom_node.pixels.lut import Lut, Values, lut_of
from dicom_node.pixels.values import number


class Mapping(Protocol):
    """``label`` says for a person how values were mapped; ``brightness`` gives 0..1, before any inversion."""

    @property
    def label(self) -> str: ...
    def brightness(self, values: Values) -> Values: ...


@dataclass(frozen=True, slots=True)
class Window:
    """Center and width in modality units. ``function``: LINEAR, LINEAR_EXACT or SIGMOID.

    ``index``: its place in the file; 0 for a window of the rules, which has a ``name``.
    """

    center: float
    width: float
    function: str
    index: int
    name: str = ""

    @property
    def label(self) -> str:
        if self.name:
            return f"{self.name} window (C {self.center:g} W {self.width:g})"
        function = "" if self.function == "LINEAR" else f" {self.function}"
        return f"window {self.index} of file (C {self.center:g} W {self.width:g}{function})"

    def brightness(self, values: Values) -> Values:
        if self.function == "SIGMOID":  # C.11.2.1.3.1
            return 1 / (1 + np.exp(np.clip(-4 * (values - self.center) / self.width, -700, 700)))
        if self.function == "LINEAR_EXACT":  # C.11.2.1.3.2
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:  # C.11.2.1.2.1 with w = 1: a threshold
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class VoiLut:
    lut: Lut

    @property
    def label(self) -> str:
        return "VOI LUT 1 of file"

    def brightness(self, values: Values) -> Values:
        return self.lut.at(values) / float((1 << self.lut.bits) - 1)


@dataclass(frozen=True, slots=True)
class MinMax:
    low: float
    high: float

    @property
    def label(self) -> str:
        return f"minimum to maximum ({self.low:g} to {self.high:g})"

    def brightness(self, values: Values) -> Values:
        if self.high <= self.low:
            return np.zeros_like(values)
        return np.clip((values - self.low) / (self.high - self.low), 0, 1)


def stated_mapping(header: Dataset, frame_number: int, signed: bool, little_endian: bool) -> Window | VoiLut | None:
    """What the file asks for, nearest functional group first; None where it asks for nothing usable.

    ``signed``: whether modality values can be negative, which decides the sign of a VOI LUT's first input.
    """
    for scope in frame_scopes(header, frame_number, "FrameVOILUTSequence"):
        if window := _first_window(scope):
            return window
        if sequence := scope.get("VOILUTSequence"):
            return VoiLut(lut_of(sequence[0], signed, little_endian))
    return None


def _first_window(scope: Dataset) -> Window | None:
    """The first whose width is allowed: ≥ 1 for LINEAR, > 0 for the others (C.11.2.1.2.1, C.11.2.1.3)."""
    function = str(scope.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"
    pairs = zip(_numbers(scope, "WindowCenter"), _numbers(scope, "WindowWidth"), strict=False)
    for index, (center, width) in enumerate(pairs, start=1):
        if center is not None and width is not None and width > 0 and (width >= 1 or function != "LINEAR"):
            return Window(center, width, function, index)
    return None


def _numbers(scope: Dataset, keyword: str) -> list[float | None]:
    value: Any = scope.get(keyword)
    if value is None or value == "":
        return []
    return [number(item) for item in value] if not isinstance(value, (str, bytes, float, int)) else [number(value)]


def is_inverted(header: Dataset, photometric: str) -> bool:
    """MONOCHROME1 shows its lowest value white (C.7.6.3.1.2); INVERSE says the same once more (C.8.11.3.1.2), not twice."""
    shape = str(header.get("PresentationLUTShape", "") or "").strip().upper()
    return photometric == "MONOCHROME1" or shape == "INVERSE"


def to_8_bit(brightness: Values, inverted: bool) -> NDArray[np.uint8]:
    shown = 1 - brightness if inverted else brightness
    return np.rint(shown * 255).astype(np.uint8)
