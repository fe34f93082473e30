"""The page as an Encapsulated PDF object (PS3.3 A.45.1)."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from reporting import codes
from reporting.content import coded, put
from reporting.header import equipment, patient_and_study
from reporting.materials import Materials
from reporting.pdf_page import pdf_page

SERIES_NUMBER: Final = 9905


def pdf_document(made: Materials) -> Dataset:
    """The document; UNVERIFIED, since no person has read it (C.24.2)."""
    page, words = pdf_page(made), made.words
    written = made.source.written_at
    date, time = written.strftime("%Y%m%d"), written.strftime("%H%M%S.%f")
    ds = put(
        Dataset(),
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=EncapsulatedPDFStorage,
        SOPInstanceUID=made.key.uid("pdf"),
    )
    patient_and_study(ds, made.source)
    equipment(ds, made.source, made.reading, made.options)
    put(
        ds,
        Modality="DOC",
        SeriesInstanceUID=made.key.uid("pdf", "series"),
        SeriesNumber=SERIES_NUMBER,
        SeriesDescription=words.series_description(words.phrases.draft_series, made.reading),
        SeriesDate=date,
        SeriesTime=time,
        ConversionType="WSD",
        InstanceNumber=made.source.context.revision,
        InstanceCreationDate=date,
        InstanceCreationTime=time,
        ContentDate=date,
        ContentTime=time,
        AcquisitionDateTime="",
        BurnedInAnnotation="YES",
        RecognizableVisualFeatures="NO",
        VerificationFlag="UNVERIFIED",
        DocumentTitle=f"{words.phrases.draft_series}: {words.phrases.burned_in}",
        ConceptNameCodeSequence=[coded(words.code(codes.DIAGNOSTIC_IMAGING_REPORT))],
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=page + b"\0" * (len(page) % 2),
        EncapsulatedDocumentLength=len(page),
    )
    if sources := _sources(made):
        put(ds, SourceInstanceSequence=sources)
    return ds


def _sources(made: Materials) -> list[Dataset]:
    """The images that were read, each once."""
    found = {image.sop_instance_uid: image for source in made.reading.sources if (image := made.source.reference(source))}
    return [
        put(Dataset(), ReferencedSOPClassUID=image.sop_class_uid, ReferencedSOPInstanceUID=image.sop_instance_uid)
        for image in found.values()
    ]
