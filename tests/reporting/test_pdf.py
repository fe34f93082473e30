"""The page, read back by an independent PDF library: one page, all of its words, and the object around it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from pydicom import Dataset, dcmread

from inference.reading import Decision, DraftReport, Frame, HeadVersion, HeatMap, Method, Reading, Sentence
from reporting.context import DocumentKind
from reporting.documents import build_documents
from tests.reporting.samples import OPTIONS, context, frame_of, header, reading, unassessed

PDF = replace(OPTIONS, kinds=frozenset({DocumentKind.PDF}))
SOURCE = frame_of(header())
FILM = Frame(np.full((300, 250), 120, np.uint8), SOURCE, "DX")
WARM = HeatMap("pneumothorax", SOURCE, ((0.0, 1.0), (0.0, 0.2)), (25, 0, 275, 250), "made up")


def build(read: Reading, *, frames: tuple[Frame, ...] = (FILM,), **headers: object) -> Dataset:
    (document,) = build_documents(read, context(header(**headers)), PDF, frames)
    assert document.faults == ()
    return dcmread(BytesIO(document.content))


def page(ds: Dataset) -> str:
    pdf = pypdfium2.PdfDocument(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    try:
        assert len(pdf) == 1
        return " ".join(pdf[0].get_textpage().get_text_bounded().split())
    finally:
        pdf.close()


def ink(ds: Dataset) -> np.ndarray:
    pdf = pypdfium2.PdfDocument(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    try:
        return np.asarray(pdf[0].render(scale=1).to_pil().convert("RGB")).astype(int)
    finally:
        pdf.close()


def test_the_page_says_what_the_reading_says() -> None:
    draft = replace(
        reading().draft,
        impression=(Sentence("Pneumothorax.", 0.7),),
        omits=("pneumothorax",),
        checked="BiomedGPT's own inference",
    )
    heads = (HeadVersion("calibration", "site A", "3", "e" * 64),)
    first, *rest = reading(phantom=True).findings
    findings = (replace(first, method=Method.CALIBRATED, aggregation="highest of 3 images"), *rest)
    read = replace(reading(phantom=True), findings=findings, draft=draft, heads=heads, heat_maps=(WARM,))
    text = page(build(read))
    for said in (
        "AI DRAFT, NOT FOR DIAGNOSIS",
        "phantom – not for patients",
        "Muster Erika",
        "ACC7",
        "1970-01-02",
        "Pneumothorax",
        "present · STAT",
        "93.1 %",
        "Not assessable: Pulmonary nodule. The film is lateral.",
        "Large left pneumothorax. [confidence 81.0 %]",
        "No effusion < 3 mm & nothing else.",
        "Impression: Pneumothorax.",
        "Not mentioned in the draft: Pneumothorax",
        "where the score rests (made up)",
        "calibration site A 3",
        "calibrated on labelled images of the site, highest of 3 images",
        "2 instances not read: no pixels.",
        "BiomedGPT 2.0",
    ):
        assert said in text, said


def test_a_reading_of_nothing_says_so() -> None:
    text = page(build(unassessed(), frames=()))
    assert "Not assessable: The catalogue does not cover CT." in text
    assert "No picture of the study was read." in text
    assert "No draft text was made" in text


def test_the_heat_map_is_on_the_page() -> None:
    plain, warm = (ink(build(replace(reading(), heat_maps=maps))) for maps in ((), (WARM,)))
    coloured = [(np.ptp(shown[110:], axis=2) > 40).sum() for shown in (plain, warm)]
    assert coloured[1] > coloured[0] + 500


@pytest.mark.parametrize("count", [0, 40, 150])
def test_however_much_there_is_it_stays_one_page(count: int) -> None:
    many = tuple(replace(reading().findings[n % 3], key=f"f{n}") for n in range(count))
    draft = DraftReport(tuple(Sentence(f"Sentence number {n} of a very long draft report.", 0.5) for n in range(count)))
    text = page(build(replace(reading(), findings=many, draft=draft, heat_maps=(WARM,) * 5)))
    if count:
        assert f"Sentence number {count - 1} " in text
        assert text.count("present · STAT") == sum(one.decision is Decision.POSITIVE for one in many)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Διονυσιος", "Διονυσιος"),
        ("Люкceмбypг", "Люкceмбypг"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou"),
        ("Müller^<b>Jörg</b>&amp;", "Müller <b>Jörg</b>&amp;"),
    ],
    ids=["Greek", "Cyrillic", "Japanese", "markup"],
)
def test_names_of_other_scripts(name: str, shown: str) -> None:
    assert shown in page(build(reading(), PatientName=name))


def test_a_name_that_the_typeface_lacks_is_still_written() -> None:
    ds = build(reading(), PatientName="홍^길동")
    assert b"HYGothic-Medium" in ds.EncapsulatedDocument  # one of the collections that readers bring themselves
    assert "P-1" in page(ds)


def test_object_and_determinism(tmp_path: Path) -> None:
    first, again = build(reading()), build(reading())
    assert first == again
    assert (first.VerificationFlag, first.BurnedInAnnotation, first.Modality) == ("UNVERIFIED", "YES", "DOC")
    assert [item.ReferencedSOPInstanceUID for item in first.SourceInstanceSequence] == ["1.2.3.1.1"]
    first.save_as(tmp_path / "page.dcm", enforce_file_format=True)
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    done = subprocess.run(["dciodvfy", "-new", tmp_path / "page.dcm"], capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
