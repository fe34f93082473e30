"""Objects that may lie in a study and are no picture to read: facts of the standard, with what a person is told."""

from __future__ import annotations

# By modality.
NOT_AN_IMAGE: dict[str, str] = {
    "SR": "it is a structured report, not an image",
    "KO": "it is a key object selection, not an image",
    "PR": "it is a presentation state, not an image",
    "SEG": "it is a segmentation of other images, not an image",
    "RTPLAN": "it is a radiotherapy plan, not an image",
    "RTSTRUCT": "it is a radiotherapy structure set, not an image",
    "RTDOSE": "it holds radiation dose values, not an image",
    "RTRECORD": "it is a radiotherapy treatment record, not an image",
    "REG": "it is a spatial registration, not an image",
    "FID": "it holds spatial fiducials, not an image",
    "RWV": "it is a real world value mapping, not an image",
    "ANN": "it holds annotations, not an image",
    "DOC": "it is an encapsulated document, not an image",
    "M3D": "it is a model for manufacturing, not an image",
    "PLAN": "it is a plan, not an image",
    "ECG": "it is an electrocardiogram, not an image",
    "EPS": "it is a waveform, not an image",
    "HD": "it is a hemodynamic waveform, not an image",
    "AU": "it is an audio recording, not an image",
    "SM": "it is a tile of a whole-slide image, which is not read",
}

# The same by SOP Class, for objects whose modality says something else (PS3.4 B.5).
NOT_AN_IMAGE_CLASS: dict[str, str] = {
    "1.2.840.10008.1.3.10": "it is a directory of files (DICOMDIR), not an image",
    "1.2.840.10008.5.1.4.1.1.66.4": NOT_AN_IMAGE["SEG"],
    "1.2.840.10008.5.1.4.1.1.66.7": NOT_AN_IMAGE["SEG"],
    "1.2.840.10008.5.1.4.1.1.30": "it is a parametric map of computed values, not an image",
    "1.2.840.10008.5.1.4.1.1.66": "it holds raw data, not an image",
    "1.2.840.10008.5.1.4.1.1.481.2": NOT_AN_IMAGE["RTDOSE"],
    "1.2.840.10008.5.1.4.1.1.77.1.6": NOT_AN_IMAGE["SM"],
    "1.2.840.10008.5.1.4.1.1.104.1": NOT_AN_IMAGE["DOC"],
    "1.2.840.10008.5.1.4.1.1.104.2": NOT_AN_IMAGE["DOC"],
}
