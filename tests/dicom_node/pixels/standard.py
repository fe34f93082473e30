"""The picture that the standard asks for, worked out pixel by pixel in floats: an oracle that shares nothing with the code.

Also what DCMTK's dcm2pnm, the outside tool of the corpus, makes of the same pixels where it departs from the standard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

Picture = NDArray[np.float64]  # 0..255


def scopes(header: Dataset, index: int, macro: str) -> list[Dataset]:
    """Per-frame group, shared group, data set (PS3.3 C.7.6.16.1.1)."""
    found = []
    for name, at in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        groups = header.get(name) or []
        if at < len(groups) and macro in groups[at]:
            found.append(groups[at][macro][0])
    return [*found, header]


def window_of(scope: Dataset) -> tuple[float, float, str] | None:
    """Center, width and function of the first window."""
    center, width = (scope.get(name) for name in ("WindowCenter", "WindowWidth"))
    if center in (None, "") or width in (None, ""):
        return None
    first = [
        float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)
        for value in (center, width)
    ]
    return first[0], first[1], str(scope.get("VOILUTFunction", "LINEAR") or "LINEAR")


def is_windowed_by_group(header: Dataset, index: int) -> bool:
    """Its window stands in a functional group (PS3.3 C.7.6.16.2.10), where the outside tool does not look."""
    return any(window_of(scope) for scope in scopes(header, index, "FrameVOILUTSequence")[:-1])


def is_stretched_over_padding(header: Dataset, index: int) -> bool:
    """It has no window, and a padding value, which is no measurement (PS3.3 C.7.5.1.1.2); the outside tool counts it as one."""
    stated = any(window_of(scope) or "VOILUTSequence" in scope for scope in scopes(header, index, "FrameVOILUTSequence"))
    return not stated and header.get("PixelPaddingValue") is not None and header.PhotometricInterpretation.startswith("MONO")


def is_shuttered(header: Dataset, _index: int) -> bool:
    """It has a display shutter (PS3.3 C.7.6.11), which the outside tool applies for presentation states only."""
    return bool(header.get("ShutterShape"))


def modality(header: Dataset, stored: Picture, index: int) -> Picture:
    for scope in scopes(header, index, "PixelValueTransformationSequence"):
        if tables := scope.get("ModalityLUTSequence"):
            return looked_up(stored, tables[0], bool(header.PixelRepresentation)).astype(np.float64)
        if scope.get("RescaleSlope") not in (None, ""):
            return stored * float(scope.RescaleSlope) + float(scope.RescaleIntercept)
    return stored


def looked_up(values: Picture, table: Dataset, signed: bool) -> NDArray[Any]:
    entries, first, _ = (int(number) for number in table.LUTDescriptor)
    first = first - 65536 if signed and first > 32767 else first
    data = (
        np.array(table.LUTData, dtype=np.int64) if not isinstance(table.LUTData, bytes) else np.frombuffer(table.LUTData, "<u2")
    )
    return data[np.clip(values - first, 0, (entries or 65536) - 1).astype(int)]


def windowed(values: Picture, center: float, width: float, function: str) -> Picture:
    """C.11.2.1.2.1, C.11.2.1.3.1, C.11.2.1.3.2."""
    if function == "SIGMOID":
        return 255 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1) * 255
    if width == 1:
        return np.where(values <= center - 0.5, 0.0, 255.0)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def stretched(values: Picture, counted: Picture) -> Picture:
    low, high = float(counted.min()), float(counted.max())
    return np.clip((values - low) / ((high - low) or 1.0), 0, 1) * 255


def by_the_standard(header: Dataset, stored: NDArray[Any], index: int) -> Picture:
    """``stored``: grey, (rows, columns)."""
    exact = stored.astype(np.float64)
    values = modality(header, exact, index)
    padding = _padding(header, exact)
    shown = None
    for scope in scopes(header, index, "FrameVOILUTSequence"):
        if window := window_of(scope):
            shown = windowed(values, *window)
            break
        if tables := scope.get("VOILUTSequence"):
            shown = looked_up(values, tables[0], values.min() < 0) / (2.0 ** int(tables[0].LUTDescriptor[2]) - 1) * 255
            break
    if shown is None:
        shown = stretched(values, values[~padding] if not padding.all() else values)
    if header.PhotometricInterpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE":
        shown = 255 - shown
    return np.where(padding, 0, shown)


def by_the_outside_tool(header: Dataset, stored: NDArray[Any], index: int) -> Picture:
    """Windows of the data set only, minimum to maximum over padding too."""
    values = modality(header, stored.astype(np.float64), index)
    window = window_of(header)
    shown = windowed(values, *window) if window else stretched(values, values)
    return 255 - shown if header.PhotometricInterpretation == "MONOCHROME1" else shown


def _padding(header: Dataset, stored: Picture) -> NDArray[np.bool_]:
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = header.get("PixelPaddingRangeLimit", first)
    low, high = sorted(_in_range(int(value), header) for value in (first, last))
    return (stored >= low) & (stored <= high)


def _in_range(value: int, header: Dataset) -> int:
    """Written as the other signedness by some: the same bits."""
    span = 1 << header.BitsAllocated
    if header.PixelRepresentation:
        return (value + span // 2) % span - span // 2
    return value % span if header.BitsStored == header.BitsAllocated or value >= 0 else value
