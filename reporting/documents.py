"""The one door of this package: a reading and its study in, finished and checked documents out."""

from __future__ import annotations

from pydicom import Dataset

from inference.reading import Reading
from reporting import fhir, sr_header
from reporting.clean import quiet_headers
from reporting.conformance import check
from reporting.context import Document, DocumentKind, StudyContext
from reporting.fhir_parts import Json
from reporting.options import DocumentOptions
from reporting.source import read_source
from reporting.sr_draft import draft_sr
from reporting.sr_findings import findings_sr
from reporting.uids import ReadingKey

__all__ = ["DocumentOptions", "build_documents"]


def build_documents(reading: Reading, context: StudyContext, options: DocumentOptions) -> tuple[Document, ...]:
    """The findings SR, the draft SR and the FHIR Bundle of a reading, in this order; all three whatever the reading says.

    A pure function: equal arguments give equal bytes, so a retry makes the same objects.
    Raises ContextError where the study's headers allow no document, DocumentError where a document fails its check.
    """
    key = ReadingKey.of(reading, context, options)
    with quiet_headers():
        source = read_source(context, reading)
        documents = (
            _sr(DocumentKind.FINDINGS_SR, findings_sr(source, reading, options, key)),
            _sr(DocumentKind.DRAFT_SR, draft_sr(source, reading, options, key)),
            _bundle(key, fhir.BundleBuilder(source, reading, options, key).bundle()),
        )
        for document in documents:
            check(document)
    return documents


def _sr(kind: DocumentKind, ds: Dataset) -> Document:
    return Document(kind, str(ds.SOPInstanceUID), sr_header.encode(ds), str(ds.SOPClassUID))


def _bundle(key: ReadingKey, bundle: Json) -> Document:
    return Document(DocumentKind.FHIR_BUNDLE, fhir.bundle_uid(key), fhir.encode(bundle))
