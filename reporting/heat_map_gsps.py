"""Heat maps as Grayscale Softcopy Presentation States: outlines that a viewer lays over the film itself (PS3.3 A.33.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from inference.reading import HeatMap
from reporting import clean
from reporting.content import ImageReference, put
from reporting.header import body_part, equipment, patient_and_study
from reporting.materials import Materials

SERIES_NUMBER: Final = 9904
LEVEL: Final = 0.5  # of a map's highest value: what is outlined
_LAYER: Final = "AI_DRAFT"
_YELLOW: Final = [63569, 27499, 57054]  # CIELab 97, -21, 94, scaled as PS3.3 C.10.7.1.1 says
_GREY: Final = ("MONOCHROME1", "MONOCHROME2")


def heat_map_states(made: Materials) -> Iterator[Dataset]:
    """One state for each image of one grey plane that has heat maps and can be referred to, in the order of the findings."""
    for source in dict.fromkeys(heat.source for heat in made.reading.heat_maps):
        reference, header = made.source.reference(source), made.source.header(source.sop_instance_uid)
        maps = [heat for heat in made.reading.heat_maps if heat.source == source]
        if reference and header is not None and clean.text(header, "PhotometricInterpretation") in _GREY:
            yield _state(made, reference, header, maps)


def outlines(heat: HeatMap) -> list[NDArray[np.float32]]:
    """Closed lines around what is above ``LEVEL``: float32 (points, 2), column and row in PIXEL units.

    The first pixel's centre is (1, 1) (PS3.3 C.10.5.1.2), so an edge counted from 0 lies half a pixel further on.
    """
    top, left, bottom, right = heat.box
    grid = np.pad(np.asarray(heat.values, float), 1)
    rows, columns = (np.arange(-1, count - 1) + 0.5 for count in grid.shape)
    y = np.clip(rows, 0, len(heat.values)) * (bottom - top) / len(heat.values) + top + 0.5
    x = np.clip(columns, 0, len(heat.values[0])) * (right - left) / len(heat.values[0]) + left + 0.5
    return [np.asarray(line, np.float32) for line in contour_generator(x, y, grid).lines(LEVEL) if len(line) > 2]


def _state(made: Materials, reference: ImageReference, header: Dataset, maps: list[HeatMap]) -> Dataset:
    what = (reference.sop_instance_uid, str(reference.frame_number or 1))
    ds = put(
        Dataset(),
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=GrayscaleSoftcopyPresentationStateStorage,
        SOPInstanceUID=made.key.uid("heat-map-gsps", *what),
    )
    patient_and_study(ds, made.source)
    equipment(ds, made.source, made.reading, made.options)
    _series(ds, made, reference)
    _relationship(ds, reference, clean.text(header, "SeriesInstanceUID"))
    _displayed_area(ds, reference, header)
    _grey_scale(ds, header)
    _annotations(ds, made, reference, maps)
    return ds


def _series(ds: Dataset, made: Materials, reference: ImageReference) -> None:
    written = made.source.written_at
    date, time = written.strftime("%Y%m%d"), written.strftime("%H%M%S.%f")
    number = 1 + [instance.sop_instance_uid for instance in made.source.instances].index(reference.sop_instance_uid)
    put(
        ds,
        Modality="PR",
        SeriesInstanceUID=made.key.uid("heat-map-gsps", "series"),
        SeriesNumber=SERIES_NUMBER,
        SeriesDescription=made.words.series_description(made.words.phrases.outlines_series, made.reading),
        SeriesDate=date,
        SeriesTime=time,
        InstanceNumber=number,
        InstanceCreationDate=date,
        InstanceCreationTime=time,
        PresentationCreationDate=date,
        PresentationCreationTime=time,
        ContentLabel="AI_DRAFT",
        ContentDescription=made.words.phrases.burned_in,
        ContentCreatorName="",
    )
    body_part(ds, made.source)


def _referenced(reference: ImageReference) -> Dataset:
    item = put(Dataset(), ReferencedSOPClassUID=reference.sop_class_uid, ReferencedSOPInstanceUID=reference.sop_instance_uid)
    return put(item, ReferencedFrameNumber=reference.frame_number) if reference.frame_number else item


def _relationship(ds: Dataset, reference: ImageReference, series: str) -> None:
    """Presentation State Relationship (C.11.11)."""
    put(
        ds,
        ReferencedSeriesSequence=[put(Dataset(), SeriesInstanceUID=series, ReferencedImageSequence=[_referenced(reference)])],
    )


def _displayed_area(ds: Dataset, reference: ImageReference, header: Dataset) -> None:
    """The whole image, fitted to the screen (C.10.4)."""
    area = put(
        Dataset(),
        ReferencedImageSequence=[_referenced(reference)],
        DisplayedAreaTopLeftHandCorner=[1, 1],
        DisplayedAreaBottomRightHandCorner=[int(header.Columns), int(header.Rows)],
        PresentationSizeMode="SCALE TO FIT",
    )
    spacing = clean.texts(header, "PixelSpacing") or clean.texts(header, "ImagerPixelSpacing")
    known = len(spacing) == 2 and all(float(value) > 0 for value in spacing)
    shape = {"PresentationPixelSpacing": spacing} if known else {"PresentationPixelAspectRatio": [1, 1]}
    put(ds, DisplayedAreaSelectionSequence=[put(area, **shape)])


def _grey_scale(ds: Dataset, header: Dataset) -> None:
    """The image's own modality and VOI transformations (C.11.1, C.11.8): without them a viewer would show raw values."""
    slope, intercept = clean.text(header, "RescaleSlope"), clean.text(header, "RescaleIntercept")
    if slope and intercept:
        kind = clean.text(header, "RescaleType") or ("HU" if clean.text(header, "Modality") == "CT" else "US")
        put(ds, RescaleSlope=slope, RescaleIntercept=intercept, RescaleType=kind)
    elif lut := clean.items(header, "ModalityLUTSequence"):
        put(ds, ModalityLUTSequence=[lut[0]])
    centre, width = clean.texts(header, "WindowCenter"), clean.texts(header, "WindowWidth")
    if luts := clean.items(header, "VOILUTSequence"):
        put(ds, SoftcopyVOILUTSequence=[put(Dataset(), VOILUTSequence=[luts[0]])])
    elif centre and width:
        window = put(Dataset(), WindowCenter=centre[0], WindowWidth=width[0])
        function = clean.text(header, "VOILUTFunction")
        put(ds, SoftcopyVOILUTSequence=[put(window, VOILUTFunction=function) if function else window])
    inverse = clean.text(header, "PhotometricInterpretation") == "MONOCHROME1"
    put(ds, PresentationLUTShape="INVERSE" if inverse else "IDENTITY")


def _annotations(ds: Dataset, made: Materials, reference: ImageReference, maps: list[HeatMap]) -> None:
    """Lines around each place, and what they are (C.10.5, C.10.7)."""
    by_key = {finding.key: finding for finding in made.reading.findings}
    known = [heat for heat in maps if heat.key in by_key]
    graphics = [_line(points) for heat in known for points in outlines(heat)]
    standing = [made.words.phrases.burned_in, *made.words.notices(made.reading)]
    words = [*standing, *(made.words.finding_line(by_key[heat.key]) for heat in known)]
    annotation = put(
        Dataset(),
        ReferencedImageSequence=[_referenced(reference)],
        GraphicLayer=_LAYER,
        TextObjectSequence=[_text(words)],
    )
    if graphics:
        put(annotation, GraphicObjectSequence=graphics)
    layer = put(
        Dataset(),
        GraphicLayer=_LAYER,
        GraphicLayerOrder=1,
        GraphicLayerRecommendedDisplayGrayscaleValue=65535,
        GraphicLayerRecommendedDisplayCIELabValue=_YELLOW,
        GraphicLayerDescription=made.words.phrases.burned_in,
    )
    put(ds, GraphicAnnotationSequence=[annotation], GraphicLayerSequence=[layer])


def _line(points: NDArray[np.float32]) -> Dataset:
    closed = points if np.array_equal(points[0], points[-1]) else np.concatenate([points, points[:1]])
    return put(
        Dataset(),
        GraphicAnnotationUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(closed),
        GraphicData=[float(value) for value in closed.ravel()],
        GraphicType="POLYLINE",
        GraphicFilled="N",
    )


def _text(words: list[str]) -> Dataset:
    return put(
        Dataset(),
        BoundingBoxAnnotationUnits="DISPLAY",
        BoundingBoxTopLeftHandCorner=[0.02, 0.02],
        BoundingBoxBottomRightHandCorner=[0.98, 0.12],
        BoundingBoxTextHorizontalJustification="LEFT",
        UnformattedTextValue=clean.many_lines("\r\n".join(words), 1024),
    )
