"""The one door of this package: a reading and its study in, finished and checked documents out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydicom import Dataset

from inference.reading import Frame, Reading
from reporting import fhir
from reporting.clean import quiet_headers
from reporting.conformance import faults_of
from reporting.context import Document, DocumentKind, StudyContext
from reporting.header import encode
from reporting.hl7 import oru_message
from reporting.materials import Materials
from reporting.options import DocumentOptions
from reporting.source import read_source
from reporting.sr_draft import draft_sr
from reporting.sr_findings import findings_sr
from reporting.sr_flat import text_sr
from reporting.uids import ReadingKey, message_uid

__all__ = ["FINDINGS_KINDS", "FIRST_KINDS", "DocumentOptions", "build_documents"]

# What the draft changes nothing of: the same bytes, whether it goes out before the draft is written or with it
FINDINGS_KINDS: Final = frozenset({DocumentKind.FINDINGS_SR, DocumentKind.HEAT_MAP, DocumentKind.HEAT_MAP_GSPS})
# What is worth sending before the draft is written; of these the messages are sent again, whole, under the same names inside
FIRST_KINDS: Final = FINDINGS_KINDS | {DocumentKind.FHIR_BUNDLE, DocumentKind.HL7_ORU}


def build_documents(
    reading: Reading,
    context: StudyContext,
    options: DocumentOptions,
    frames: Sequence[Frame] = (),
    only: Collection[DocumentKind] = frozenset(DocumentKind),
) -> tuple[Document, ...]:
    """The documents of a reading that ``options.kinds`` names, whatever the reading says, in the order of ``DocumentKind``.

    ``only``: those of them that are wanted now; the others exist all the same, and may be named.

    ``frames``: the pictures that were read, for documents that show them. A pure function: equal arguments give equal bytes,
    so a retry makes the same objects. Each document is checked; one that breaks a rule comes back with its ``faults``.
    Of a reading whose draft is pending only ``FIRST_KINDS`` should leave; its messages say so, and are documents of their own.
    Raises ContextError where the study's headers allow no document.
    """
    with quiet_headers():
        key, wanted = ReadingKey.of(reading, context, options), options.kinds & frozenset(only)
        made = Materials(read_source(context, reading), reading, options, key, tuple(frames))
        built = [document for kind in _BUILDERS if kind in wanted for document in _BUILDERS[kind](made)]
        return tuple(replace(document, faults=faults_of(document)) for document in built)


def _findings(made: Materials) -> Iterable[Document]:
    yield _dicom(DocumentKind.FINDINGS_SR, findings_sr(made.source, made.reading, made.options, made.key))


def _draft(made: Materials) -> Iterable[Document]:
    yield _dicom(DocumentKind.DRAFT_SR, draft_sr(made.source, made.reading, made.options, made.key))


def _bundle(made: Materials) -> Iterable[Document]:
    bundle = fhir.BundleBuilder(made.source, made.reading, made.options, made.key).bundle()
    version = "5.0" if made.options.fhir_version == "R5" else ""
    uid = message_uid(made.reading, fhir.bundle_uid(made.key))
    yield Document(DocumentKind.FHIR_BUNDLE, uid, fhir.encode(bundle), fhir_version=version)


def _text(made: Materials) -> Iterable[Document]:
    yield _dicom(DocumentKind.TEXT_SR, text_sr(made))


def _heat_maps(made: Materials) -> Iterable[Document]:
    from reporting.heat_map_sc import heat_map_images

    return (_dicom(DocumentKind.HEAT_MAP, ds) for ds in heat_map_images(made))


def _states(made: Materials) -> Iterable[Document]:
    from reporting.heat_map_gsps import heat_map_states

    return (_dicom(DocumentKind.HEAT_MAP_GSPS, ds) for ds in heat_map_states(made))


def _pdf(made: Materials) -> Iterable[Document]:
    from reporting.pdf import pdf_document

    yield _dicom(DocumentKind.PDF, pdf_document(made))


def _oru(made: Materials) -> Iterable[Document]:
    yield Document(DocumentKind.HL7_ORU, message_uid(made.reading, made.key.uid("hl7")), oru_message(made))


def _dicom(kind: DocumentKind, ds: Dataset) -> Document:
    return Document(kind, str(ds.SOPInstanceUID), encode(ds), str(ds.SOPClassUID), str(ds.SeriesInstanceUID))


_BUILDERS: Final[Mapping[DocumentKind, Callable[[Materials], Iterable[Document]]]] = {
    DocumentKind.FINDINGS_SR: _findings,
    DocumentKind.DRAFT_SR: _draft,
    DocumentKind.TEXT_SR: _text,
    DocumentKind.HEAT_MAP: _heat_maps,
    DocumentKind.HEAT_MAP_GSPS: _states,
    DocumentKind.PDF: _pdf,
    DocumentKind.FHIR_BUNDLE: _bundle,
    DocumentKind.HL7_ORU: _oru,
}
