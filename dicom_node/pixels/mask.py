"""Which part of a picture is shown: display shutters (PS3.3 C.7.6.11, C.7.6.15) and ultrasound regions (C.8.5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.pixels.groups import frame_scopes
from dicom_node.pixels.values import number

Mask = NDArray[np.bool_]
_TWO_DIMENSIONAL = 1  # Region Spatial Format: an image of tissue or flow, neither a trace nor a scale


def shutter(header: Dataset, frame_number: int, rows: int, columns: int) -> tuple[Mask, int] | None:
    """(pixels that are shut, the grey level 0..255 that they show), or None where the frame has no shutter."""
    for scope in frame_scopes(header, frame_number, "FrameDisplayShutterSequence"):
        shapes = _words(scope.get("ShutterShape"))
        open_parts = [part for shape in shapes for part in _open_parts(shape, scope, header, rows, columns)]
        if open_parts:
            level = number(scope.get("ShutterPresentationValue")) or 0.0
            return ~np.logical_and.reduce(open_parts), round(max(0.0, min(level, 65535.0)) / 257)
    return None


def outside_regions(header: Dataset, rows: int, columns: int) -> Mask | None:
    """What lies outside all two-dimensional regions; None where the image names no such region."""
    shown = np.zeros((rows, columns), dtype=np.bool_)
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        edges = [_whole(region, f"RegionLocation{edge}") for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL and all(edge is not None for edge in edges):
            left, top, right, bottom = (max(0, cast("int", edge)) for edge in edges)  # from 0, edges included
            shown[top : bottom + 1, left : right + 1] = True
    return ~shown if shown.any() else None


def _open_parts(shape: str, scope: Dataset, header: Dataset, rows: int, columns: int) -> Iterator[Mask]:
    """Rows and columns of shutters count from 1; what lies on an edge is shown. A malformed shutter shuts nothing."""
    row, column = np.ogrid[1 : rows + 1, 1 : columns + 1]
    if shape == "RECTANGULAR":
        names = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
        left, right, upper, lower = (_whole(scope, f"Shutter{name}Edge") for name in names)
        if left is not None and right is not None and upper is not None and lower is not None:
            yield (row >= upper) & (row <= lower) & (column >= left) & (column <= right)
    elif shape == "CIRCULAR":
        center, radius = _numbers(scope.get("CenterOfCircularShutter")), _whole(scope, "RadiusOfCircularShutter")
        if len(center) == 2 and radius is not None:
            yield (row - center[0]) ** 2 + (column - center[1]) ** 2 <= radius**2
    elif shape == "POLYGONAL":
        corners = _numbers(scope.get("VerticesOfThePolygonalShutter"))
        if len(corners) >= 6 and len(corners) % 2 == 0:
            yield _within(np.array(corners).reshape(-1, 2), rows, columns)
    elif shape == "BITMAP":
        yield from _not_covered(scope, header, rows, columns)


def _within(corners: NDArray[np.float64], rows: int, columns: int) -> Mask:
    """Even-odd rule; a polygon may close on itself or not."""
    from PIL import Image, ImageDraw

    picture = Image.new("1", (columns, rows))
    ImageDraw.Draw(picture).polygon([(column - 1, row - 1) for row, column in corners.tolist()], fill=1, outline=1)
    return np.asarray(picture)


def _not_covered(scope: Dataset, header: Dataset, rows: int, columns: int) -> Iterator[Mask]:
    """The bits of the overlay group that a bitmap shutter names are what it covers."""
    group = _whole(scope, "ShutterOverlayGroup")
    if group is None:
        return
    data, height, width = (header.get((group, element)) for element in (0x3000, 0x0010, 0x0011))
    if data is None or height is None or width is None or (height.value, width.value) != (rows, columns):
        return
    bits = np.unpackbits(np.frombuffer(cast("bytes", data.value), np.uint8), bitorder="little")
    if bits.size >= rows * columns:
        yield bits[: rows * columns].reshape(rows, columns) == 0


def _words(value: object) -> list[str]:
    items = [value] if isinstance(value, str) else list(cast("Any", value) or [])
    return [str(item).strip().upper() for item in items]


def _numbers(value: object) -> list[float]:
    items = cast("Any", value) if hasattr(value, "__iter__") and not isinstance(value, str) else []
    found = [number(item) for item in items]
    return [item for item in found if item is not None]


def _whole(scope: Dataset, keyword: str) -> int | None:
    value = number(scope.get(keyword))
    return None if value is None else int(value)
