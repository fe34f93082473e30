"""An object as an archive sends it."""

from __future__ import annotations

from io import BytesIO

from pydicom import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.remote.retrieving import Arrived


def arrived(image: Dataset) -> Arrived:
    buffer = BytesIO()
    dcmwrite(buffer, Dataset(image), implicit_vr=False, little_endian=True, enforce_file_format=False)
    named = (str(image.SOPClassUID), str(image.SOPInstanceUID), str(ExplicitVRLittleEndian))
    return Arrived(*named, "ARCHIVE", (buffer.getvalue(),))
