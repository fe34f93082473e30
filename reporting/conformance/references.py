"""What an object refers to: the evidence sequences, UIDs, coding schemes, character set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom import Dataset, charset

from reporting import clean
from reporting.content import walk
from reporting.context import Fault

_EVIDENCE: Final = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
_OWN_UIDS: Final = ("SOPClassUID", "SOPInstanceUID")  # those of study and series are asked for by the modules that have them


def reference_faults(ds: Dataset) -> Iterator[Fault]:
    """Faults of UIDs, evidence and coding schemes."""
    yield from _uids(ds)
    yield from _evidence(ds)
    yield from _charset(ds)


def evidence_of(ds: Dataset) -> dict[str, str]:
    """SOP Instance UID to Study Instance UID of everything in the evidence sequences."""
    return {
        str(reference.get("ReferencedSOPInstanceUID", "")): str(study.get("StudyInstanceUID", ""))
        for keyword in _EVIDENCE
        for study in ds.get(keyword) or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for reference in series.get("ReferencedSOPSequence") or ()
    }


def _uids(ds: Dataset) -> Iterator[Fault]:
    for element in ds.iterall():
        if element.VR == "UI" and not element.is_empty:
            values = [element.value] if isinstance(element.value, str) else list(element.value)
            if not all(clean.is_uid(str(value)) for value in values):
                yield Fault("uid", "PS3.5 9.1", f"{element.keyword or element.tag} holds no legal UID")
    meta = getattr(ds, "file_meta", None)
    if meta is not None:
        for own, named in (("SOPInstanceUID", "MediaStorageSOPInstanceUID"), ("SOPClassUID", "MediaStorageSOPClassUID")):
            if not meta.get(named):
                yield Fault("file-meta", "PS3.10 7.1", f"{named} is missing (type 1)")
            elif meta.get(named) != ds.get(own):
                yield Fault("file-meta", "PS3.10 7.1", f"{named} differs from {own}")
    if any(not ds.get(keyword) for keyword in _OWN_UIDS):
        yield Fault("identity", "PS3.3 C.12.1", "SOP Class UID or SOP Instance UID is missing")


def _evidence(ds: Dataset) -> Iterator[Fault]:
    """C.17.2.3: all that the tree refers to stands in the evidence."""
    if "ContentSequence" not in ds:
        return
    evidence = evidence_of(ds)
    for item in walk(ds):
        for reference in item.get("ReferencedSOPSequence") or ():
            if str(reference.get("ReferencedSOPInstanceUID", "")) not in evidence:
                yield Fault("evidence", "PS3.3 C.17.2.3", "an object is referenced that the evidence sequences lack")


def _charset(ds: Dataset) -> Iterator[Fault]:
    named = ds.get("SpecificCharacterSet") or ""
    terms = [named] if isinstance(named, str) else list(named)
    if any(term and term not in charset.python_encoding for term in terms):
        yield Fault("charset", "PS3.3 C.12.1.1.2", "Specific Character Set is no defined term")
        return
    if not any(terms):
        for element in ds.iterall():
            text = element.value if element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT") else ""
            if not str(text).isascii():
                yield Fault(
                    "charset", "PS3.3 C.12.1.1.2", f"{element.keyword} needs a Specific Character Set, and none is named"
                )
