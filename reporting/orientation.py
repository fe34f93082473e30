"""Where the patient's right, head or front is in a picture: Patient Orientation (0020,0020), from the image or its plane."""

from __future__ import annotations

import re
from typing import Final

from pydicom import Dataset

from reporting import clean

_LETTERS: Final = re.compile(r"[ALRPHF]{1,3}")  # PS3.3 C.7.6.1.1.1, bipeds
_AXES: Final = (("L", "R"), ("P", "A"), ("H", "F"))  # towards + and - of the patient's axes (C.7.6.2.1.1)
_OBLIQUE: Final = 0.3  # cosine below which an axis is not named
_COSINES: Final = 6


def patient_orientation(header: Dataset) -> tuple[str, ...]:
    """The directions of the rows and of the columns, as ``("L", "F")``; empty where the image does not say.

    Of a multi-frame image only what holds for all its frames (Shared Functional Groups, C.7.6.16.2.4).
    """
    named = clean.texts(header, "PatientOrientation")
    if len(named) == len(_AXES) - 1 and all(_LETTERS.fullmatch(one) for one in named):
        return tuple(named)
    cosines = [_number(one) for one in clean.texts(_plane(header), "ImageOrientationPatient")]
    if len(cosines) != _COSINES or None in cosines:
        return ()
    whole = [value for value in cosines if value is not None]
    directions = (_direction(whole[:3]), _direction(whole[3:]))
    return directions if all(directions) else ()


def _plane(header: Dataset) -> Dataset:
    for shared in clean.items(header, "SharedFunctionalGroupsSequence"):
        for plane in clean.items(shared, "PlaneOrientationSequence"):
            return plane
    return header


def _direction(cosines: list[float]) -> str:
    """The letters of the axes it runs along, the strongest first."""
    order = sorted(range(len(cosines)), key=lambda axis: -abs(cosines[axis]))
    return "".join(_AXES[axis][cosines[axis] < 0] for axis in order if abs(cosines[axis]) > _OBLIQUE)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
