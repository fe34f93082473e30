"""What objects say of each other, where both are at hand: references that lead to another object than they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from reporting import clean
from reporting.context import Fault

_MACRO: Final = "PS3.3 table 10-11 and C.17.2.1"  # SOP Instance Reference, Hierarchical SOP Instance Reference


@dataclass(frozen=True, slots=True)
class Reference:
    """``study``, ``series``: of the items around it; empty where it stands in none. ``frames``: counted from 1."""

    uid: str
    sop_class: str
    study: str
    series: str
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """An object as others see it. ``patient``: identifier and issuer, to compare, never to show."""

    uid: str
    sop_class: str
    study: str
    series: str
    frames: int
    patient: tuple[str, str]
    references: tuple[Reference, ...]


def outline_of(ds: Dataset) -> Outline:
    """Read what an object is and refers to; whatever cannot be read counts as absent."""
    return Outline(
        str(clean.raw(ds, "SOPInstanceUID") or ""),
        str(clean.raw(ds, "SOPClassUID") or ""),
        str(clean.raw(ds, "StudyInstanceUID") or ""),
        str(clean.raw(ds, "SeriesInstanceUID") or ""),
        max([1, *_numbers(ds, "NumberOfFrames")]),
        (str(clean.raw(ds, "PatientID") or ""), str(clean.raw(ds, "IssuerOfPatientID") or "")),
        tuple(dict.fromkeys(_references(ds, "", ""))),
    )


def across_faults(own: Outline, others: Mapping[str, tuple[str, Outline]]) -> tuple[Fault, ...]:
    """Each reference of ``own`` that does not fit the object it names.

    ``others``: SOP Instance UID to the name of a file and the object in it.
    """
    return tuple(dict.fromkeys(_faults(own, others)))


def _faults(own: Outline, others: Mapping[str, tuple[str, Outline]]) -> Iterator[Fault]:
    for reference in own.references:
        if reference.uid not in others or reference.uid == own.uid:
            continue
        name, other = others[reference.uid]
        if reference.sop_class and reference.sop_class != other.sop_class:
            yield Fault("reference-class", _MACRO, f"{name} is of another SOP class than the reference to it says")
        if reference.study and reference.study != other.study:
            yield Fault("reference-study", _MACRO, f"{name} is of another study than the reference to it says")
        if reference.series and reference.series != other.series:
            yield Fault("reference-series", _MACRO, f"{name} is of another series than the reference to it says")
        if any(not 1 <= frame <= other.frames for frame in reference.frames):
            yield Fault("reference-frame", "PS3.3 table 10-3", f"a frame is referenced that {name} does not have")
        if own.patient[0] and other.patient[0] and own.patient != other.patient:
            yield Fault("reference-patient", "PS3.3 C.7.1.1", f"{name} is of another patient than the object that refers to it")


def _references(item: Dataset, study: str, series: str) -> Iterator[Reference]:
    for keyword in item.dir():
        for below in clean.items(item, keyword) if keyword.endswith("Sequence") else ():
            inner_study = str(clean.raw(below, "StudyInstanceUID") or study)
            inner_series = str(clean.raw(below, "SeriesInstanceUID") or series)
            uid = clean.raw(below, "ReferencedSOPInstanceUID")
            if uid is not None:
                sop_class = str(clean.raw(below, "ReferencedSOPClassUID") or "")
                yield Reference(str(uid), sop_class, inner_study, inner_series, _numbers(below, "ReferencedFrameNumber"))
            yield from _references(below, inner_study, inner_series)


def _numbers(item: Dataset, keyword: str) -> tuple[int, ...]:
    value = clean.raw(item, keyword)
    held = [] if value is None else [value] if isinstance(value, int | str) else list(value)
    return tuple(int(one) for one in held if str(one).strip().lstrip("-").isdecimal())
