"""Where a slice lies, for putting slices in anatomical order (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from typing import Any, cast

from pydicom import Dataset

from dicom_node.pixels.groups import frame_value
from dicom_node.pixels.values import number

Place = tuple[tuple[float, ...], float]
_ORIENTATION_DIGITS = 2  # cosines closer than this are one stack


def slice_place(header: Dataset, frame_number: int) -> Place | None:
    """(normal of the slice, distance of the slice along it in mm); None where the header does not say."""
    orientation = _numbers(frame_value(header, frame_number, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    position = _numbers(frame_value(header, frame_number, "PlanePositionSequence", "ImagePositionPatient"), 3)
    if orientation is None or position is None:
        return None
    a, b = orientation[:3], orientation[3:]
    normal = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    rounded = tuple(round(cosine, _ORIENTATION_DIGITS) + 0.0 for cosine in normal)
    return rounded, sum(n * p for n, p in zip(normal, position, strict=True))


def _numbers(value: object, count: int) -> list[float] | None:
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return None
    numbers = [number(item) for item in cast("Any", value)]
    exact = [item for item in numbers if item is not None]
    return exact if len(exact) == len(numbers) == count else None
