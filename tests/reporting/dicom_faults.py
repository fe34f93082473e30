"""Faults planted into our DICOM objects: a name, the object, what is done to it, and the rule of the gate that must say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from inference.reading import Frame, HeatMap
from reporting.clean import quiet_headers
from reporting.content import put
from reporting.context import Document, DocumentKind
from reporting.documents import build_documents
from reporting.header import encode
from tests.reporting.dicom_changes import (
    also_of,
    cut_short,
    drop,
    in_comparison,
    named,
    point,
    silence,
    told_of_a_container,
)
from tests.reporting.samples import OPTIONS, context, frame_of, header, priors, reading

HEADER = {"Rows": 64, "Columns": 64, "PhotometricInterpretation": "MONOCHROME2", "BodyPartExamined": "CHEST"}
F, D, T, S, G, P = (
    DocumentKind.FINDINGS_SR,
    DocumentKind.DRAFT_SR,
    DocumentKind.TEXT_SR,
    DocumentKind.HEAT_MAP,
    DocumentKind.HEAT_MAP_GSPS,
    DocumentKind.PDF,
)


@cache
def sound(*, compared: bool = False) -> dict[DocumentKind, Document]:
    """Our documents as they are: without a fault. ``compared``: with two earlier studies."""
    source = frame_of(header())
    heat = HeatMap("pneumothorax", source, ((0.0, 0.2, 0.0), (0.1, 1.0, 0.3), (0.0, 0.1, 0.0)), (0, 0, 64, 64), "made up")
    kinds = replace(OPTIONS, kinds=frozenset((F, D, T, S, G, P)))
    film = Frame(np.full((64, 64), 99, np.uint8), source, "DX")
    read = replace(reading(source), heat_maps=(heat,))
    study = context(header(**HEADER), priors=priors(read) if compared else ())
    return {one.kind: one for one in build_documents(read, study, kinds, [film])}


@dataclass(frozen=True)
class Planted:
    """``rule``: what the gate calls it. ``compared``: planted into a report that compares with earlier studies."""

    kind: DocumentKind
    change: Callable[[Dataset], object]
    rule: str
    compared: bool = False


def sound_of(fault: Planted) -> Document:
    """What the fault is planted into."""
    return sound(compared=True)[fault.kind] if fault.compared else sound()[fault.kind]


def plant(fault: Planted) -> Document:
    """The document with the fault in it."""
    document = sound_of(fault)
    ds = dcmread(BytesIO(document.content))
    fault.change(ds)
    with quiet_headers():
        content = encode(ds)
    return replace(document, content=content, uid=document.uid)


def number_in(ds: Dataset) -> None:
    """A NUM item, which Basic Text has none of."""
    source = dcmread(BytesIO(sound()[F].content))
    item = named(source, "111012")
    item.RelationshipType = "CONTAINS"
    named(ds, "59776-5").ContentSequence.append(item)


PLANTED: dict[str, Planted] = {
    # The state of a draft
    "verified by software": Planted(F, lambda ds: put(ds, VerificationFlag="VERIFIED"), "verified-by-nobody"),
    "verified though partial": Planted(D, lambda ds: put(ds, VerificationFlag="VERIFIED"), "verified-partial"),
    "complete though unread": Planted(F, lambda ds: put(ds, CompletionFlag="COMPLETE"), "draft-state"),
    "no completion flag": Planted(F, lambda ds: delattr(ds, "CompletionFlag"), "type-1"),
    "no disclaimer in the findings": Planted(F, silence, "draft-disclaimer"),
    "no disclaimer in the draft": Planted(D, silence, "draft-disclaimer"),
    "no disclaimer in the flat text": Planted(T, silence, "draft-disclaimer"),
    # Modules
    "empty content date": Planted(F, lambda ds: put(ds, ContentDate=""), "type-1"),
    "no patient name": Planted(F, lambda ds: delattr(ds, "PatientName"), "type-2"),
    "no accession number": Planted(D, lambda ds: delattr(ds, "AccessionNumber"), "type-2"),
    "no instance number": Planted(D, lambda ds: delattr(ds, "InstanceNumber"), "type-1"),
    "no performed step sequence": Planted(F, lambda ds: delattr(ds, "ReferencedPerformedProcedureStepSequence"), "type-2"),
    "no performed procedure codes": Planted(F, lambda ds: delattr(ds, "PerformedProcedureCodeSequence"), "type-2"),
    "no manufacturer": Planted(F, lambda ds: delattr(ds, "Manufacturer"), "type-2"),
    "wrong modality": Planted(F, lambda ds: put(ds, Modality="DX"), "fixed"),
    "unknown class": Planted(F, lambda ds: put(ds, SOPClassUID="1.2.3.4"), "iod-class"),
    # UIDs, references, character set
    "other UID than announced": Planted(F, lambda ds: put(ds, SOPInstanceUID=generate_uid()), "document-uid"),
    "illegal device UID": Planted(F, lambda ds: put(ds.ContributingEquipmentSequence[0], DeviceUID="1.2.03"), "uid"),
    "illegal tracking UID": Planted(F, lambda ds: put(named(ds, "112040"), UID="1..2"), "uid"),
    "no evidence": Planted(F, lambda ds: delattr(ds, "CurrentRequestedProcedureEvidenceSequence"), "evidence"),
    "image not in the evidence": Planted(
        F, lambda ds: put(named(ds, "121112").ReferencedSOPSequence[0], ReferencedSOPInstanceUID="1.2.99"), "evidence"
    ),
    "evidence of another study": Planted(
        D,
        lambda ds: (
            put(ds.CurrentRequestedProcedureEvidenceSequence[0], StudyInstanceUID="1.2.77"),
            ds.__delitem__("ReferencedRequestSequence"),
        ),
        "evidence-study",
    ),
    "reference without class": Planted(
        F, lambda ds: put(named(ds, "121112").ReferencedSOPSequence[0], ReferencedSOPClassUID=""), "reference"
    ),
    "unknown character set": Planted(F, lambda ds: put(ds, SpecificCharacterSet="UTF-8"), "charset"),
    "another character set": Planted(D, lambda ds: put(ds, SpecificCharacterSet="ISO_IR 100"), "fixed"),
    # The content tree
    "root is no container": Planted(F, lambda ds: put(ds, ValueType="TEXT"), "tree-root"),
    "item without relationship": Planted(F, lambda ds: delattr(named(ds, "121058"), "RelationshipType"), "relationship"),
    "wrong relationship": Planted(F, lambda ds: put(named(ds, "111012"), RelationshipType="HAS CONCEPT MOD"), "relationship"),
    "property of a container": Planted(D, told_of_a_container, "relationship"),
    "number in Basic Text": Planted(T, number_in, "relationship"),
    "unknown value type": Planted(F, lambda ds: put(named(ds, "121071"), ValueType="WORD"), "value-type"),
    "text without text": Planted(D, lambda ds: delattr(named(ds, "121071"), "TextValue"), "value"),
    "code item without code": Planted(F, lambda ds: delattr(named(ds, "121052"), "ConceptCodeSequence"), "value"),
    "item without name": Planted(F, lambda ds: delattr(named(ds, "121106"), "ConceptNameCodeSequence"), "concept-name"),
    "code without meaning": Planted(F, lambda ds: put(named(ds, "121071").ConceptCodeSequence[0], CodeMeaning=""), "code"),
    "code value too long": Planted(
        F, lambda ds: put(named(ds, "121071").ConceptCodeSequence[0], CodeValue="9" * 17), "code-length"
    ),
    "number without unit": Planted(
        F, lambda ds: delattr(named(ds, "111012").MeasuredValueSequence[0], "MeasurementUnitsCodeSequence"), "number"
    ),
    "circle of three points": Planted(F, point, "graphic"),
    # Templates
    "no template named": Planted(F, lambda ds: delattr(ds, "ContentTemplateSequence"), "draft-template"),
    "other title": Planted(F, lambda ds: put(ds.ConceptNameCodeSequence[0], CodeValue="121111"), "tid-1500-title"),
    "no procedure reported": Planted(F, lambda ds: drop(ds, "121058"), "tid-1500-procedure"),
    "no observer type": Planted(F, lambda ds: drop(ds, "121005"), "draft-context"),
    "device without UID": Planted(F, lambda ds: drop(ds, "121012"), "tid-1004"),
    "person without name": Planted(
        D, lambda ds: put(named(ds, "121005").ConceptCodeSequence[0], CodeValue="121006"), "tid-1003"
    ),
    "language that is none": Planted(F, lambda ds: put(named(ds, "121049").ConceptCodeSequence[0], CodeValue="??"), "tid-1204"),
    "no language in the draft": Planted(D, lambda ds: drop(ds, "121049"), "tid-2000-language"),
    "no measurements, no evaluations": Planted(F, lambda ds: (drop(ds, "126010"), drop(ds, "C0034375")), "tid-1500-body"),
    "library without images": Planted(F, lambda ds: drop(ds, "260753009"), "tid-1601"),
    "library without groups": Planted(F, lambda ds: drop(ds, "126200"), "library"),
    "section without content": Planted(D, lambda ds: put(named(ds, "19005-8"), ContentSequence=[]), "tid-2000-empty"),
    "no section": Planted(D, lambda ds: (drop(ds, "59776-5"), drop(ds, "19005-8")), "tid-2000-section"),
    "no tracking UID": Planted(F, lambda ds: drop(ds, "112040"), "finding-item"),
    "no tracking identifier": Planted(F, lambda ds: drop(ds, "112039"), "finding-item"),
    "no finding": Planted(F, lambda ds: drop(ds, "121071"), "finding-item"),
    "no answer": Planted(F, lambda ds: drop(ds, "121052"), "finding-item"),
    "algorithm without version": Planted(F, lambda ds: drop(ds, "111003"), "tid-4019"),
    "no algorithm at all": Planted(F, lambda ds: (drop(ds, "111003"), drop(ds, "111001")), "finding-item"),
    "answer of another list": Planted(
        F, lambda ds: put(named(ds, "121052").ConceptCodeSequence[0], CodeValue="373066001"), "finding-answer"
    ),
    "probability of 140 percent": Planted(
        F, lambda ds: put(named(ds, "111012").MeasuredValueSequence[0], NumericValue="140"), "finding-probability"
    ),
    "not assessable, yet a probability": Planted(
        F, lambda ds: put(named(ds, "121052").ConceptCodeSequence[0], CodeValue="373068000"), "finding-silent"
    ),
    "unit of another scheme": Planted(
        F,
        lambda ds: put(
            named(ds, "111012").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0], CodingSchemeDesignator="99X"
        ),
        "units",
    ),
    "scheme not identified": Planted(F, lambda ds: ds.CodingSchemeIdentificationSequence.pop(), "scheme"),
    "algorithm without device UID": Planted(
        F, lambda ds: delattr(ds.ContributingEquipmentSequence[0], "DeviceUID"), "equipment"
    ),
    "algorithm without version in the equipment": Planted(
        D, lambda ds: delattr(ds.ContributingEquipmentSequence[0], "SoftwareVersions"), "equipment"
    ),
    # Comparison with earlier studies
    "comparison with the study itself": Planted(F, also_of("1.2.3"), "comparison-study", True),
    "the same earlier study twice": Planted(D, also_of("1.2.8"), "comparison-study", True),
    "comparison with no named study": Planted(F, in_comparison(lambda s: drop(s, "121018")), "comparison-study", True),
    "comparison that does not say whose word it is": Planted(
        D, in_comparison(lambda s: put(named(s, "NOTICE"), TextValue="Compared by us.")), "comparison-standing", True
    ),
    "flat comparison that does not say whose word it is": Planted(
        T, in_comparison(lambda s: drop(s, "NOTICE")), "comparison-standing", True
    ),
    "later study called earlier": Planted(
        F, in_comparison(lambda s: put(named(s, "111060"), Date="20270101")), "comparison-date", True
    ),
    "earlier finding without its change": Planted(D, in_comparison(lambda s: drop(s, "CHANGE")), "comparison-finding", True),
    "earlier finding without its key": Planted(F, in_comparison(lambda s: drop(s, "112039")), "comparison-finding", True),
    "new, though it was there": Planted(
        F,
        in_comparison(lambda s: put(named(s, "121052").ConceptCodeSequence[0], CodeValue="52101004")),
        "comparison-change",
        True,
    ),
    "known, though it was not there": Planted(
        D, in_comparison(lambda s: put(named(s, "CHANGE").ConceptCodeSequence[0], CodeValue="KNOWN")), "comparison-change", True
    ),
    "gone, though it is there": Planted(
        F,
        in_comparison(
            lambda s: (
                put(named(s, "121052").ConceptCodeSequence[0], CodeValue="52101004"),
                put(named(s, "CHANGE").ConceptCodeSequence[0], CodeValue="GONE"),
            )
        ),
        "comparison-change",
        True,
    ),
    "not comparable without a reason": Planted(
        F,
        in_comparison(lambda s: drop(named(s, "121069"), "121106"), 1),
        "comparison-reason",
        True,
    ),
    "earlier probability of 140 percent": Planted(
        D,
        in_comparison(lambda s: put(named(s, "111012").MeasuredValueSequence[0], NumericValue="140")),
        "comparison-probability",
        True,
    ),
    "earlier probability without an answer": Planted(
        F, in_comparison(lambda s: drop(s, "121052"), 1), "comparison-probability", True
    ),
    "earlier image under the study itself": Planted(
        F,
        lambda ds: put(ds.PertinentOtherEvidenceSequence[0], StudyInstanceUID="1.2.3"),
        "comparison-evidence",
        True,
    ),
    "earlier image in no evidence": Planted(F, lambda ds: delattr(ds, "PertinentOtherEvidenceSequence"), "evidence", True),
    # Pictures and pages
    "heat map not called burned in": Planted(S, lambda ds: put(ds, BurnedInAnnotation="NO"), "fixed"),
    "heat map hung as a radiograph": Planted(S, lambda ds: put(ds, Modality="DX"), "fixed"),
    "heat map without source": Planted(S, lambda ds: delattr(ds, "SourceImageSequence"), "picture-source"),
    "heat map without its standing": Planted(S, lambda ds: put(ds, ImageComments="Heat map"), "picture-standing"),
    "heat map cut short": Planted(S, cut_short, "picture-size"),
    "heat map without conversion type": Planted(S, lambda ds: delattr(ds, "ConversionType"), "type-1"),
    "state without its standing": Planted(
        G, lambda ds: put(ds.GraphicAnnotationSequence[0].TextObjectSequence[0], UnformattedTextValue="x"), "state-standing"
    ),
    "state with an unknown layer": Planted(
        G, lambda ds: put(ds.GraphicAnnotationSequence[0], GraphicLayer="OTHER"), "state-layer"
    ),
    "state with a line that lies": Planted(
        G,
        lambda ds: put(ds.GraphicAnnotationSequence[0].GraphicObjectSequence[0], NumberOfGraphicPoints=2),
        "state-points",
    ),
    "state of no image": Planted(G, lambda ds: delattr(ds, "ReferencedSeriesSequence"), "type-1"),
    "page that claims a reader": Planted(P, lambda ds: put(ds, VerificationFlag="VERIFIED"), "fixed"),
    "page that is no PDF": Planted(P, lambda ds: put(ds, EncapsulatedDocument=b"<html></html>"), "page-pdf"),
    "page of another length": Planted(P, lambda ds: put(ds, EncapsulatedDocumentLength=12), "page-pdf"),
    "page without a title": Planted(P, lambda ds: put(ds, DocumentTitle=""), "page-standing"),
}
