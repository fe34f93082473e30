"""Small DICOM files made for one test each."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def dataset(pixels: NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """A grey image of ``pixels`` (rows, columns) or (frames, rows, columns); ``elements`` by keyword, None leaves one out."""
    made = Dataset()
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = generate_uid(entropy_srcs=[repr(sorted(elements.items())), str(np.size(pixels))])
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.Modality = "CT"
    if pixels is not None:
        _set_pixels(made, pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are wrong on purpose
        for keyword, value in elements.items():
            if value is None:
                delattr(made, keyword)
            else:
                setattr(made, keyword, value)
    return made


def _set_pixels(made: Dataset, pixels: NDArray[Any]) -> None:
    made.Rows, made.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        made.NumberOfFrames = pixels.shape[0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)


def item(**elements: Any) -> Sequence:
    """A sequence of one item."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return Sequence([made])


def write(path: Path, made: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are wrong on purpose
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = made.get("SOPClassUID", CTImageStorage)
        meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID", "1.2")
        meta.TransferSyntaxUID = syntax
        made.file_meta = meta
        made.preamble = b"\0" * 128
        made.save_as(path, enforce_file_format=True)
    return path
