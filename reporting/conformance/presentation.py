"""Annotations of a presentation state: that they can be drawn (PS3.3 C.10.5, C.10.7)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from reporting.context import Fault


def presentation_faults(ds: Dataset) -> Iterator[Fault]:
    """Layers that are not described, lines of another length than they say. Nothing for an object without annotations."""
    layers = {layer.get("GraphicLayer") for layer in ds.get("GraphicLayerSequence") or ()}
    for note in ds.get("GraphicAnnotationSequence") or ():
        if note.get("GraphicLayer") not in layers:
            yield Fault("state-layer", "PS3.3 C.10.7", "an annotation lies in a layer that is not described")
        for graphic in note.get("GraphicObjectSequence") or ():
            if len(graphic.get("GraphicData") or []) != 2 * int(graphic.get("NumberOfGraphicPoints") or 0):
                yield Fault("state-points", "PS3.3 C.10.5", "a line has another number of points than it says")
