"""The gate: a document that does not hold what the standard asks and what we promise of it never leaves.

The finished bytes are read back and judged, not the objects they were made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Final

from pydicom import Dataset, dcmread

from reporting import clean
from reporting.conformance.content_tree import tree_faults
from reporting.conformance.fhir import bundle_faults
from reporting.conformance.hl7 import hl7_faults
from reporting.conformance.iod import attribute_faults
from reporting.conformance.presentation import presentation_faults
from reporting.conformance.promises import picture_promises, sr_promises, state_faults
from reporting.conformance.reader import read_object
from reporting.conformance.references import reference_faults
from reporting.conformance.templates import template_faults
from reporting.context import Document, DocumentKind, Fault
from reporting.errors import DocumentError

__all__ = ["check", "faults_of", "promise_faults", "standard_faults"]

_REPORTS: Final = frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.TEXT_SR})
_MAX_SHOWN: Final = 5


def faults_of(document: Document) -> tuple[Fault, ...]:
    """Each rule that ``document`` breaks, each once; no patient data in the texts."""
    if document.kind is DocumentKind.HL7_ORU:
        return tuple(hl7_faults(document.content))
    if document.kind is DocumentKind.FHIR_BUNDLE:
        return bundle_faults(document.content, uid=document.uid, version=document.fhir_version)
    with clean.quiet_headers():
        try:
            ds = read_object(document.content) or dcmread(BytesIO(document.content))
            return tuple(dict.fromkeys(_dicom_faults(ds, document)))
        except Exception as error:  # noqa: BLE001  whatever a damaged object does to the reader, it may not leave
            return (Fault("unreadable", "PS3.10", f"the object cannot be read back ({type(error).__name__})"),)


def standard_faults(ds: Dataset) -> tuple[Fault, ...]:
    """What the standard alone says of anybody's object: attributes, content tree, templates, references, states."""
    with clean.quiet_headers():
        return tuple(dict.fromkeys(_standard(ds)))


def promise_faults(ds: Dataset, kind: DocumentKind) -> tuple[Fault, ...]:
    """What we promise of our own DICOM objects of this kind beyond the standard."""
    with clean.quiet_headers():
        return tuple(dict.fromkeys(_promises(ds, kind)))


def check(document: Document) -> None:
    """Raise DocumentError naming each rule that ``document`` breaks; no patient data in the message."""
    faults = faults_of(document)
    if faults:
        more = f" and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
        raise DocumentError(f"{document.kind.value}: {'; '.join(map(str, faults[:_MAX_SHOWN]))}{more}")


def _dicom_faults(ds: Dataset, document: Document) -> Iterator[Fault]:
    if document.uid != ds.get("SOPInstanceUID") or document.sop_class_uid != ds.get("SOPClassUID"):
        yield Fault("document-uid", "WetRead conformance statement", "the SOP UIDs differ from the document's")
    yield from (fault for fault in _standard(ds) if not _copied(fault))
    yield from _promises(ds, document.kind)


def _promises(ds: Dataset, kind: DocumentKind) -> Iterator[Fault]:
    yield from sr_promises(ds, kind) if kind in _REPORTS else picture_promises(ds, kind)


def _copied(fault: Fault) -> bool:
    """The UIDs of a study and its images can only be copied, legal or not: a result under another name would be lost."""
    return fault.rule == "uid" and fault.text.startswith(
        ("StudyInstanceUID ", "SeriesInstanceUID ", "ReferencedSOPInstanceUID ")
    )


def _standard(ds: Dataset) -> Iterator[Fault]:
    yield from attribute_faults(ds)
    yield from tree_faults(ds)
    yield from template_faults(ds)
    yield from reference_faults(ds)
    yield from presentation_faults(ds)
    yield from state_faults(ds)
