"""Heat maps as Secondary Capture: the one form that every viewer shows (PS3.3 A.8.1; a fallback by IHE AIR)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from inference.reading import Finding, Frame, HeatMap
from reporting import clean, codes
from reporting.content import ImageReference, coded, put
from reporting.header import body_part, equipment, patient_and_study
from reporting.heads import triage_model
from reporting.materials import Materials
from reporting.orientation import patient_orientation
from reporting.overlay import Rgb, draw_overlay
from reporting.wording import Words, fill

SERIES_NUMBER: Final = 9903


def heat_map_images(made: Materials) -> Iterator[Dataset]:
    """One image for each heat map whose film was rendered and can be referred to, in the order of the findings."""
    shown = [(heat, finding, frame) for heat in made.reading.heat_maps for finding, frame in _of(made, heat)]
    for number, (heat, finding, frame) in enumerate(shown, start=1):
        yield _image(made, heat, finding, frame, number)


def _of(made: Materials, heat: HeatMap) -> Iterator[tuple[Finding, Frame]]:
    frame = made.frame(heat.source)
    finding = next((one for one in made.reading.findings if one.key == heat.key), None)
    if frame is not None and finding is not None and made.source.reference(heat.source):
        yield finding, frame


def _image(made: Materials, heat: HeatMap, finding: Finding, frame: Frame, number: int) -> Dataset:
    legend = (made.words.phrases.hottest, made.words.phrases.coldest)
    edges = _orientation(made, heat)
    picture = draw_overlay(frame, heat, caption(made, heat, finding), legend, edges).picture
    ds = put(
        Dataset(),
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=SecondaryCaptureImageStorage,
        SOPInstanceUID=made.key.uid("heat-map", heat.key, heat.source.sop_instance_uid, str(heat.source.frame_number)),
    )
    patient_and_study(ds, made.source)
    _series(ds, made)
    equipment(ds, made.source, made.reading, made.options)
    _general(ds, made, heat, finding, number)
    _pixels(ds, picture)
    return ds


def caption(made: Materials, heat: HeatMap, finding: Finding) -> tuple[str, ...]:
    """What is burned into the picture: its standing, the finding, who says so and how the map was made."""
    model = triage_model(made.reading)
    maker = f"{model.name} {model.version}: " if model else ""
    words = made.words
    standing = (words.phrases.burned_in, *words.notices(made.reading))
    return (*standing, words.finding_line(finding), f"{maker}{words.translate(heat.method)}")


def _series(ds: Dataset, made: Materials) -> None:
    """Modality OT: the pictures are no radiographs and must not be hung among them."""
    put(
        ds,
        Modality="OT",
        SeriesInstanceUID=made.key.uid("heat-map", "series"),
        SeriesNumber=SERIES_NUMBER,
        SeriesDescription=made.words.series_description(made.words.phrases.heat_map_series, made.reading),
        SeriesDate=made.source.written_at.strftime("%Y%m%d"),
        SeriesTime=made.source.written_at.strftime("%H%M%S.%f"),
        ConversionType="WSD",
    )
    body_part(ds, made.source)


def _general(ds: Dataset, made: Materials, heat: HeatMap, finding: Finding, number: int) -> None:
    """General Image (C.7.6.1) and SC Image (C.8.6.2); Burned In Annotation says that there are words in the pixels."""
    written = made.source.written_at
    source = made.source.reference(heat.source)
    put(
        ds,
        ImageType=["DERIVED", "SECONDARY"],
        InstanceNumber=number,
        PatientOrientation=list(_orientation(made, heat)),
        InstanceCreationDate=written.strftime("%Y%m%d"),
        InstanceCreationTime=written.strftime("%H%M%S.%f"),
        ContentDate=written.strftime("%Y%m%d"),
        ContentTime=written.strftime("%H%M%S.%f"),
        DateOfSecondaryCapture=written.strftime("%Y%m%d"),
        TimeOfSecondaryCapture=written.strftime("%H%M%S.%f"),
        BurnedInAnnotation="YES",
        RecognizableVisualFeatures="NO",
        LossyImageCompression="00",
        DerivationDescription=clean.many_lines(_derivation(made.words, heat, finding), 1024),
        ImageComments=clean.many_lines(" ".join(caption(made, heat, finding)), 10240),
    )
    if source:
        put(ds, SourceImageSequence=[_source_image(source)])


def _orientation(made: Materials, heat: HeatMap) -> tuple[str, ...]:
    """The picture shows the film as it lies: neither turned nor mirrored."""
    header = made.source.header(heat.source.sop_instance_uid)
    return patient_orientation(header) if header is not None else ()


def _derivation(words: Words, heat: HeatMap, finding: Finding) -> str:
    how = fill(words.phrases.derivation, method=words.translate(heat.method), name=words.name(finding.code))
    return f"{words.phrases.disclaimer} {how}"


def _source_image(source: ImageReference) -> Dataset:
    item = put(
        Dataset(),
        ReferencedSOPClassUID=source.sop_class_uid,
        ReferencedSOPInstanceUID=source.sop_instance_uid,
        PurposeOfReferenceCodeSequence=[coded(codes.SOURCE_FOR_PROCESSING)],
    )
    return put(item, ReferencedFrameNumber=source.frame_number) if source.frame_number else item


def _pixels(ds: Dataset, picture: Rgb) -> None:
    """Image Pixel (C.7.6.3), uncompressed: some receivers of secondary captures take nothing else."""
    rows, columns = picture.shape[:2]
    data = picture.tobytes()
    put(
        ds,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        Rows=rows,
        Columns=columns,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        PixelData=data + b"\0" * (len(data) % 2),
    )
    ds["PixelData"].VR = "OB"
