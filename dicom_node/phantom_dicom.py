"""Drawn phantoms as DICOM objects: a digital radiograph and a CT series that pass for real ones, with a patient who does not.

The same arguments make the same bytes: UIDs are derived (PS3.5 B.2), dates are fixed. For the demo, tests and pictures.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from inference.phantoms import draw_ct_phantom, draw_phantom
from reporting.uids import derive_uid

MANUFACTURER: Final = "WetRead phantom"
NOTICE: Final = "PHANTOM - NOT FOR PATIENTS"
FILM_HEIGHT_MM: Final = 360.0  # of a 35 × 43 cm detector's field, about an adult chest
WATER_INTERCEPT_HU: Final = -1024
_DATE, _TIME, _BIRTH = "20260102", "081500", "19700101"
_GREY_STEP: Final = 12  # stored values to one display grey: 12-bit values that only their window turns back into greys
_GREY_BASE: Final = 400
_ANATOMY: Final = {"CHEST": ("816094009", "SCT", "Chest"), "HAND": ("85562004", "SCT", "Hand")}  # CID 4031
_FILM: Final = ("36554-4", "LN", "XR Chest Single view")
_SCAN: Final = ("24627-2", "LN", "CT Chest")
_VIEWS: Final = {  # CID 4010
    "PA": ("272479007", "SCT", "postero-anterior"),
    "AP": ("399348003", "SCT", "antero-posterior"),
    "LL": ("399173006", "SCT", "left lateral"),
}


@dataclass(frozen=True, slots=True)
class PhantomOrder:
    """Whose film it is and how urgent. ``priority``: Requested Procedure Priority (0040,1003), STAT, HIGH, ROUTINE …"""

    patient_id: str
    study_uid: str
    priority: str = "ROUTINE"
    accession: str = ""


def phantom_dx(
    seed: int,
    findings: Collection[str] | None = None,
    *,
    size: int = 512,
    patient_id: str | None = None,
    study_uid: str | None = None,
    priority: str = "ROUTINE",
    view: str = "PA",
    body_part: str = "CHEST",
    photometric: str = "MONOCHROME2",
    instance_number: int = 1,
) -> Dataset:
    """A chest film as Digital X-Ray Image Storage - For Presentation (PS3.3 A.26): 12 bits, with a window.

    ``findings``: keys to draw (None: as the seed decides). ``size``: rows and columns. The window turns the stored values
    back into exactly the drawn greys; ``photometric`` MONOCHROME1 stores them inverted, for the same picture.
    Ready for ``save_as(enforce_file_format=True)``. ``view``: PA, AP or LL.
    Raises ValueError for a finding that cannot be drawn.
    """
    drawn = draw_phantom(seed, None if findings is None else frozenset(findings), size).pixels
    order = _order("dx", seed, patient_id, study_uid, priority)
    return film_dx(drawn, order, view=view, body_part=body_part, photometric=photometric, instance_number=instance_number)


def phantom_ct(
    seed: int,
    slices: int = 5,
    *,
    size: int = 256,
    patient_id: str | None = None,
    study_uid: str | None = None,
    priority: str = "ROUTINE",
) -> list[Dataset]:
    """An axial chest CT series as CT Image Storage (PS3.3 A.3): Hounsfield units by rescale, 5 mm apart, from head to feet."""
    volume = draw_ct_phantom(seed, slices, size)
    order = _order("ct", seed, patient_id, study_uid, priority)
    return [_ct_slice(volume[index], index, order) for index in range(len(volume))]


def film_dx(
    grey: NDArray[np.uint8],
    order: PhantomOrder,
    *,
    view: str = "PA",
    body_part: str = "CHEST",
    photometric: str = "MONOCHROME2",
    instance_number: int = 1,
) -> Dataset:
    """Any uint8 (rows, columns) picture of display greys, 0 black to 255 white, as such a film."""
    inverted = photometric == "MONOCHROME1"
    values = _GREY_BASE + _GREY_STEP * ((255 - grey) if inverted else grey).astype(np.uint16)
    spacing = FILM_HEIGHT_MM / grey.shape[0]
    ds = _begin(DigitalXRayImageStorageForPresentation, order, "DX", instance_number)
    _put(
        ds,
        SeriesDescription=f"{body_part} {view}, {NOTICE}",
        ImageType=["DERIVED", "PRIMARY"],
        PresentationIntentType="FOR PRESENTATION",
        BodyPartExamined=body_part,
        ViewPosition=view,
        PatientOrientation=["L", "F"],
        ImageLaterality="U",
        AnatomicRegionSequence=[_code(*_ANATOMY[body_part])] if body_part in _ANATOMY else [],  # type 2
        ViewCodeSequence=[_code(*_VIEWS[view])],
        PatientOrientationCodeSequence=[_code("C86043", "NCIt", "erect")],
        AcquisitionDate=_DATE,
        AcquisitionTime=_TIME,
        DetectorType="DIRECT",
        PositionerType="NONE",
        KVP="120",
        ImagerPixelSpacing=[f"{spacing:.4f}"] * 2,
        PixelSpacing=[f"{spacing:.4f}"] * 2,
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        AcquisitionContextSequence=[],
    )
    if body_part == "CHEST":
        ds.ProcedureCodeSequence = [_code(*_FILM)]
    _put_pixels(ds, values, photometric, bits=12)
    _put_grey_scale(ds, inverted=inverted)
    return ds


def _ct_slice(hounsfield: NDArray[np.int16], index: int, order: PhantomOrder) -> Dataset:
    values = np.clip(hounsfield.astype(np.int32) - WATER_INTERCEPT_HU, 0, 4095).astype(np.uint16)
    spacing = FILM_HEIGHT_MM / hounsfield.shape[0]
    height = -5.0 * index
    corner = -FILM_HEIGHT_MM / 2
    ds = _begin(CTImageStorage, order, "CT", index + 1)
    _put(
        ds,
        SeriesDescription=f"CHEST axial, {NOTICE}",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        BodyPartExamined="CHEST",
        ProcedureCodeSequence=[_code(*_SCAN)],
        PatientPosition="HFS",
        FrameOfReferenceUID=derive_uid("phantom", "frame of reference", order.study_uid),
        PositionReferenceIndicator="",
        ImagePositionPatient=[f"{corner:g}", f"{corner:g}", f"{height:g}"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        PixelSpacing=[f"{spacing:.4f}"] * 2,
        SliceThickness="5",
        SliceLocation=f"{height:g}",
        KVP="120",
        AcquisitionNumber=1,
        RescaleIntercept=str(WATER_INTERCEPT_HU),
        RescaleSlope="1",
        RescaleType="HU",
        WindowCenter="40",
        WindowWidth="400",
    )
    _put_pixels(ds, values, "MONOCHROME2", bits=12)
    return ds


def _put_grey_scale(ds: Dataset, *, inverted: bool) -> None:
    # PS3.3 C.11.2.1.2.1: with width 255 n + 1 and this centre, base + n g becomes exactly the grey g of 0..255
    width = _GREY_STEP * 255 + 1
    _put(
        ds,
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=1 if inverted else -1,
        RescaleIntercept="0",
        RescaleSlope="1",
        RescaleType="US",
        PresentationLUTShape="INVERSE" if inverted else "IDENTITY",
        WindowCenter=f"{_GREY_BASE + (width - 1) / 2 + 0.5:g}",
        WindowWidth=f"{width}",
        WindowCenterWidthExplanation="as drawn",
    )


def _order(kind: str, seed: int, patient_id: str | None, study_uid: str | None, priority: str) -> PhantomOrder:
    patient = patient_id or f"PHANTOM-{kind.upper()}-{seed}"
    return PhantomOrder(patient, study_uid or derive_uid("phantom", "study", kind, str(seed), patient), priority)


def _begin(sop_class: str, order: PhantomOrder, modality: str, number: int) -> Dataset:
    """Patient, study, series, equipment and SOP common modules, and group 0002."""
    ds = Dataset()
    series_uid = derive_uid("phantom", "series", modality, order.study_uid)
    _put(
        ds,
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=sop_class,
        SOPInstanceUID=derive_uid("phantom", "instance", series_uid, str(number)),
        PatientName=f"PHANTOM^{order.patient_id.removeprefix('PHANTOM-')}",
        PatientID=order.patient_id,
        PatientBirthDate=_BIRTH,
        PatientSex="O",
        PatientComments=NOTICE,
        StudyInstanceUID=order.study_uid,
        StudyDate=_DATE,
        StudyTime=_TIME,
        StudyID="1",
        AccessionNumber=order.accession,
        ReferringPhysicianName="",
        StudyDescription=f"Phantom, {NOTICE.lower()}",
        Modality=modality,
        SeriesInstanceUID=series_uid,
        SeriesNumber=1,
        InstanceNumber=number,
        ContentDate=_DATE,
        ContentTime=_TIME,
        Manufacturer=MANUFACTURER,
        ManufacturerModelName="drawn phantom",
        DeviceSerialNumber="PHANTOM",
        SoftwareVersions="1",
    )
    if order.priority != "ROUTINE":
        ds.RequestedProcedurePriority = order.priority
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _put_pixels(ds: Dataset, values: NDArray[np.uint16], photometric: str, *, bits: int) -> None:
    _put(
        ds,
        SamplesPerPixel=1,
        PhotometricInterpretation=photometric,
        Rows=values.shape[0],
        Columns=values.shape[1],
        BitsAllocated=16,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
        PixelData=values.astype("<u2").tobytes(),
    )


def _put(ds: Dataset, **values: Any) -> None:
    for keyword, value in values.items():
        setattr(ds, keyword, value)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    _put(item, CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
    return item
