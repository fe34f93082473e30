"""Every document in every language: nothing of ours left in English, nothing of the model's translated, no script lost."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import hl7
import numpy as np
import pypdfium2
import pytest
from pydicom import Dataset, dcmread

from inference.reading import DraftReport, Frame, HeadVersion, HeatMap, Method, Reading, Sentence, Skipped, UseMode
from reporting import codes, wording
from reporting.clean import quiet_headers
from reporting.conformance import faults_of
from reporting.content import concept, is_code, walk
from reporting.context import Document, DocumentKind, Predecessor
from reporting.documents import build_documents
from reporting.header import encode
from reporting.sr_signed import Signature, signed_report
from tests.reporting.samples import OPTIONS, READ_AT, context, disagreeing, frame_of, header, priors, reading, unassessed
from tests.reporting.test_documents import DICOM, complaints, header_of, needs_files

OTHERS = [language for language in wording.LANGUAGES if language != "en"]
SOURCE = frame_of(header())
GRID = ((0.0, 1.0), (0.0, 0.2))
# Words that stand in nearly every English document of ours and are no words of German or Spanish
ENGLISH = re.compile(
    r"\b(the|not|with|and|was|were|findings?|drafted|made|report|image|images|instances?|present|absent|probability|threshold"
    r"|presence|certainty|name|version|device|observer|language|licence|unknown|reason|read|born)\b"
)
MODELS = ("No pneumothorax.", "Clear lungs.", "No acute abnormality.", "Large left pneumothorax.")  # what the models wrote


def site_reading(read: Reading) -> Reading:
    """With the reasons that a node gives, a head, and heat maps of two findings."""
    first, *rest = read.findings
    calibrated = replace(first, method=Method.CALIBRATED, aggregation="highest of 3 images")
    others = [replace(one, reason="the triage model was not trained for this finding" if one.reason else "") for one in rest]
    maps = tuple(
        HeatMap(key, SOURCE, GRID, (0, 0, 80, 64), "gradient-weighted attention rollout")
        for key in ("pneumothorax", "effusion")
    )
    return replace(
        read,
        findings=(calibrated if first.probability else replace(first, reason="the study holds no image"), *others),
        heads=(HeadVersion("calibration", "Haus A", "3", "e" * 64),),
        heat_maps=maps,
        skipped=(Skipped("1.2.3.9", "it is a structured report, not an image"), Skipped("1.2.3.10", "it has no pixel data")),
    )  # fmt: skip


READINGS = {
    "disagreeing": site_reading(disagreeing()),
    "phantom in the shadow": site_reading(replace(reading(phantom=True), mode=UseMode.SHADOW)),
    "unassessed": site_reading(unassessed("the study holds no image")),
    "no findings, no draft": replace(site_reading(reading()), findings=(), draft=DraftReport(()), mode=UseMode.RESEARCH),
    "compared": site_reading(disagreeing()),
    "a note": replace(
        site_reading(reading()),
        draft=DraftReport((Sentence("Clear lungs.", 0.8),), notes=("the draft was written from 2 of 3 images",)),
    ),
}  # fmt: skip


@cache
def documents(name: str, language: str) -> tuple[Document, ...]:
    options = replace(OPTIONS, language=language, kinds=frozenset(DocumentKind))
    ds = header(PhotometricInterpretation="MONOCHROME2", Rows=80, Columns=64)
    earlier = Predecessor(DocumentKind.FINDINGS_SR, "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4")
    before = priors(READINGS[name]) if name == "compared" else ()
    study = context(ds, revision=2, predecessors=(earlier,), priors=before)
    frame = Frame(np.arange(80 * 64, dtype=np.uint8).reshape(80, 64), SOURCE, "DX")
    return build_documents(READINGS[name], study, options, (frame,))


def texts(document: Document) -> list[str]:
    """Everything of a document that a person reads."""
    if document.kind is DocumentKind.HL7_ORU:
        return hl7_texts(document.content.decode())
    if document.kind is DocumentKind.FHIR_BUNDLE:
        return fhir_texts(json.loads(document.content))
    ds = dcmread(BytesIO(document.content))
    keywords = ("SeriesDescription", "DocumentTitle", "ImageComments", "DerivationDescription", "ContentDescription")
    found = [str(ds.get(keyword, "")) for keyword in keywords]
    found += [str(one.ContributionDescription) for one in ds.get("ContributingEquipmentSequence", ())]
    found += [
        str(text.UnformattedTextValue) for note in ds.get("GraphicAnnotationSequence", ()) for text in note.TextObjectSequence
    ]
    if document.kind is DocumentKind.PDF:
        found.append(page(ds))
    return [*found, *(text for item in walk(ds) for text in item_texts(item) if "ValueType" in ds)]


def item_texts(item: Dataset) -> list[str]:
    named = [concept(item), concept(item, "ConceptCodeSequence")]
    return [str(item.get("TextValue", "")), *(code.meaning for code in named if code)]


def page(ds: Dataset) -> str:
    pdf = pypdfium2.PdfDocument(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    try:
        return " ".join(pdf[0].get_textpage().get_text_bounded().split())
    finally:
        pdf.close()


def hl7_texts(message: str) -> list[str]:
    """Notes, values, and the meanings of codes; what names patient, order and software is left out."""
    parsed = hl7.parse(message)
    found = [str(part) for segment in parsed if str(segment[0]) in ("NTE", "OBX") for part in (segment[3], segment[-1])]
    return found + [str(segment[5]) for segment in parsed if str(segment[0]) == "OBX" and str(segment[2]) in ("TX", "CWE")]


def fhir_texts(value: object, key: str = "") -> list[str]:
    """Texts for people; displays of codings and names of properties are for software, and stay."""
    if isinstance(value, dict):
        inner = [text for name, one in value.items() if name not in ("coding", "property") for text in fhir_texts(one, name)]
        page = base64.b64decode(value["data"]).decode() if value.get("contentType") == "text/html" else ""
        return [*inner, re.sub(r"<[^>]+>", " ", page)]
    if isinstance(value, list):
        return [text for one in value for text in fhir_texts(one, key)]
    return [str(value)] if key in ("text", "conclusion", "title") else []


def ours(text: str) -> str:
    """Without what the models wrote."""
    for written in MODELS:
        text = text.replace(written, "")
    return text


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("name", READINGS)
def test_nothing_of_ours_is_left_in_english(name: str, language: str) -> None:
    made = documents(name, language)
    pictures = set() if READINGS[name].findings else {DocumentKind.HEAT_MAP}
    assert {document.kind for document in made} == set(DocumentKind) - pictures
    assert [fault for document in made for fault in document.faults] == []
    left = [(document.kind.value, text) for document in made for text in texts(document) if ENGLISH.search(ours(text))]
    assert left == []


def test_the_check_sees_english() -> None:
    """It would find each document wanting if it were not translated."""
    for document in documents("disagreeing", "en"):
        assert any(ENGLISH.search(ours(text)) for text in texts(document)), document.kind


@pytest.mark.parametrize("language", [*wording.LANGUAGES, "de-CH", "es-MX"])
def test_the_documents_name_their_language(language: str) -> None:
    made = {document.kind: document for document in documents("disagreeing", language)}
    for kind in (DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.TEXT_SR):
        ds = dcmread(BytesIO(made[kind].content))
        (tag,) = [item for item in ds.ContentSequence if is_code(concept(item), codes.LANGUAGE)]
        assert concept(tag, "ConceptCodeSequence").value == language
        assert ds.SpecificCharacterSet == "ISO_IR 192"
    pdf = dcmread(BytesIO(made[DocumentKind.PDF].content)).EncapsulatedDocument
    assert f"/Lang ({language})".encode() in pdf
    header_fields = made[DocumentKind.HL7_ORU].content.decode().split("\r")[0].split("|")
    assert header_fields[17:19] == ["UNICODE UTF-8", f"{language[:2]}^{codes.LANGUAGES[language[:2]].meaning}^ISO639"]


def test_a_disclaimer_in_another_language_than_the_document_names_is_none() -> None:
    made = next(one for one in documents("disagreeing", "de") if one.kind is DocumentKind.FINDINGS_SR)
    ds = dcmread(BytesIO(made.content))
    next(item for item in ds.ContentSequence if is_code(concept(item), codes.LANGUAGE)).ConceptCodeSequence[0].CodeValue = "es"
    assert "draft-disclaimer" in {fault.rule for fault in faults_of(replace(made, content=encode(ds)))}


@pytest.mark.parametrize("language", OTHERS)
def test_what_the_model_wrote_stays_and_says_its_language(language: str) -> None:
    made = {document.kind: document for document in documents("disagreeing", language)}
    ds = dcmread(BytesIO(made[DocumentKind.DRAFT_SR].content))
    written = [item for item in walk(ds) if str(item.get("TextValue", "")) in MODELS]
    assert len(written) == 3
    for item in written:
        below = [child for child in item.ContentSequence if is_code(concept(child), codes.LANGUAGE)]
        assert [concept(child, "ConceptCodeSequence").value for child in below] == ["en"]
    said = wording.of(language).phrases.draft_language
    for kind in (DocumentKind.DRAFT_SR, DocumentKind.TEXT_SR, DocumentKind.PDF, DocumentKind.HL7_ORU, DocumentKind.FHIR_BUNDLE):
        assert any(said in text for text in texts(made[kind])), kind
    assert not any(said in text for text in texts(made[DocumentKind.HEAT_MAP]))


def test_english_items_name_no_language_of_their_own() -> None:
    made = {document.kind: document for document in documents("disagreeing", "en")}
    ds = dcmread(BytesIO(made[DocumentKind.DRAFT_SR].content))
    assert len([item for item in walk(ds) if is_code(concept(item), codes.LANGUAGE)]) == 1


@pytest.mark.parametrize("kind", [DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR])
@pytest.mark.parametrize("language", OTHERS)
def test_values_and_schemes_are_the_same_in_every_language(kind: DocumentKind, language: str) -> None:
    """A reader that compares codes, as it must (PS3.3 8.3), sees no difference but the language itself."""

    def coded(tag: str) -> list[tuple[str, str]]:
        made = next(document for document in documents("disagreeing", tag) if document.kind is kind)
        items = [item for item in walk(dcmread(BytesIO(made.content))) if not is_code(concept(item), codes.LANGUAGE)]
        found = [code for item in items for code in (concept(item), concept(item, "ConceptCodeSequence")) if code]
        return [(code.scheme, code.value) for code in found if not is_code(code, codes.NOTICE)]

    assert coded(language) == coded("en")


def test_another_language_is_another_object() -> None:
    uids = [document.uid for language in wording.LANGUAGES for document in documents("disagreeing", language)]
    assert len(set(uids)) == len(uids)


def test_a_signed_report_speaks_the_language_of_its_draft() -> None:
    draft = next(one for one in documents("disagreeing", "de") if one.kind is DocumentKind.DRAFT_SR)
    signed = signed_report(
        draft.content, Signature("Muster^Eva", "Haus A", READ_AT, ("Kein Pneumothorax.",), ("Unauffällig.",))
    )
    found = texts(signed)
    assert "Befundbericht, mit KI vorbereitet" in found
    assert "Mit KI vorbereitet: BiomedGPT" in found
    assert "Unauffällig." in found
    assert [text for text in found if ENGLISH.search(text)] == []


SCRIPTS = {  # I2 is Korean, X1 Chinese in UTF-8, H31 Japanese with escapes
    **{f"pydicom__chr{name}": "de" for name in ("Germ", "H31", "Greek")},
    **{f"pydicom__chr{name}": "es" for name in ("I2", "X1", "Russ")},
}


@needs_files
@pytest.mark.parametrize(("script", "language"), SCRIPTS.items())
def test_names_of_every_script_beside_our_words(script: str, language: str, tmp_path: Path) -> None:
    """German and Spanish sentences and a patient of another script in one object; DCMTK and dicom3tools find no fault."""
    source = header_of(DICOM / "charset" / f"{script}.dcm")
    with quiet_headers():
        name, study = str(source.PatientName), str(source.get("StudyInstanceUID") or "1.2.3")
    options = replace(OPTIONS, language=language, kinds=frozenset(DocumentKind) - {DocumentKind.FHIR_BUNDLE})
    made = {
        one.kind: one for one in build_documents(READINGS["disagreeing"], context(source, study_instance_uid=study), options)
    }
    assert [fault for document in made.values() for fault in document.faults] == []
    for kind in (DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.TEXT_SR, DocumentKind.PDF):
        ds = dcmread(BytesIO(made[kind].content))
        assert (str(ds.PatientName), ds.SpecificCharacterSet) == (name, "ISO_IR 192")
        assert any(wording.of(language).phrases.disclaimer in text for text in texts(made[kind]))
        (tmp_path / kind.value).write_bytes(made[kind].content)
        for tool in (["dciodvfy", "-new"], ["dsrdump"])[: 2 if kind is not DocumentKind.PDF else 1]:
            if shutil.which(tool[0]):
                assert complaints(tool, tmp_path / kind.value) == []
    assert name.split("^")[0] in made[DocumentKind.HL7_ORU].content.decode("utf-8").replace("~", "=")


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dsrdump is not installed (Debian: dcmtk)")
def test_an_outside_reader_shows_the_umlauts(tmp_path: Path) -> None:
    (tmp_path / "sr.dcm").write_bytes(
        next(one.content for one in documents("disagreeing", "de") if one.kind is DocumentKind.FINDINGS_SR)
    )
    done = subprocess.run(["dsrdump", "+U8", "+Pl", str(tmp_path / "sr.dcm")], capture_output=True, check=True, timeout=60)
    shown = done.stdout.decode("utf-8")
    assert "KI-Entwurf, keine Diagnose. Von keiner Person geprüft." in shown
    assert "Bericht über Bildmessungen" in shown
