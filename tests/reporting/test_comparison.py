"""What is said of earlier studies: the change of each finding, in every document, never more than two answers allow."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from inference.reading import Decision, HeadVersion, Method, Reading
from reporting import codes, wording
from reporting.comparison import Change, Comparison, Obstacle, compare, days_between, digest_of, prior_reading
from reporting.content import concept, is_code, walk
from reporting.context import Document, DocumentKind
from reporting.read_back import read_findings
from reporting.sr_signed import Signature, signed_report
from reporting.wording.compared import change_name, compared_lines, prior_line, prior_name
from tests.reporting.samples import OPTIONS, READ_AT, TRIAGE, by_kind, context, disagreeing, header, priors, reading, unassessed

NOW = reading()
ALL = replace(OPTIONS, kinds=frozenset(DocumentKind))
P, A, O = Decision.POSITIVE, Decision.NEGATIVE, Decision.NOT_ASSESSABLE  # noqa: E741


def of(decision: Decision, read: Reading = NOW) -> Reading:
    """The first finding decided so."""
    first, *rest = read.findings
    probability = {P: 0.9, A: 0.1, O: None}[decision]
    return replace(read, findings=(replace(first, decision=decision, probability=probability, reason="why"), *rest))


CHANGES = {
    "new": (A, P, Change.NEW, None),
    "known": (P, P, Change.KNOWN, None),
    "gone": (P, A, Change.GONE, None),
    "absent": (A, A, Change.ABSENT, None),
    "open then": (O, P, Change.NOT_COMPARABLE, Obstacle.OPEN_THEN),
    "open now": (P, O, Change.NOT_COMPARABLE, Obstacle.OPEN_NOW),
    "open both": (O, O, Change.NOT_COMPARABLE, Obstacle.OPEN_THEN),
}


@pytest.mark.parametrize(("then", "now", "change", "obstacle"), CHANGES.values(), ids=CHANGES)
def test_change(then: Decision, now: Decision, change: Change, obstacle: Obstacle | None) -> None:
    (one,) = compare(of(now), [prior_reading("1.2", "20260101", "", 1, of(then))], "20260304")
    first = one.findings[0]
    assert (first.change, first.obstacle, first.decision) == (change, obstacle, then)
    assert first.reason == ("why" if then is O else "")


CALIBRATED = replace(
    NOW,
    findings=(replace(NOW.findings[0], method=Method.CALIBRATED), *NOW.findings[1:]),
    heads=(HeadVersion("calibration", "site", "1", "e" * 64),),
)
OTHERS = {
    "another model": (replace(NOW, models=(replace(TRIAGE, digest="9" * 64),)), Obstacle.OTHER_MODEL),
    "another drafting model only": (replace(NOW, models=NOW.models[:1]), None),
    "another catalogue": (replace(NOW, catalogue=replace(NOW.catalogue, digest="8" * 64)), Obstacle.OTHER_CATALOGUE),
    "another calibration": (CALIBRATED, Obstacle.OTHER_HEAD),
    "not asked": (replace(NOW, findings=()), Obstacle.NOT_ASKED),
    "not asked by another catalogue": (
        replace(NOW, findings=(), catalogue=replace(NOW.catalogue, digest="8" * 64)),
        Obstacle.OTHER_CATALOGUE,
    ),
    "nothing assessed": (unassessed(), Obstacle.OPEN_THEN),
}


@pytest.mark.parametrize(("then", "obstacle"), OTHERS.values(), ids=OTHERS)
def test_what_others_said_is_not_compared(then: Reading, obstacle: Obstacle | None) -> None:
    (one,) = compare(NOW, [prior_reading("1.2", "", "", 1, then)], "20260304")
    assert (one.findings[0].obstacle, one.days) == (obstacle, None)
    assert (one.findings[0].change is Change.NOT_COMPARABLE) is (obstacle is not None)


def test_a_reading_without_a_model_compares_nothing() -> None:
    (one,) = compare(unassessed(), [priors()[0]], "20260304")
    assert {finding.obstacle for finding in one.findings} == {Obstacle.OPEN_NOW, Obstacle.OPEN_THEN}


def test_the_newest_first_whatever_the_order_given() -> None:
    days = [("1.1", "20250101", ""), ("1.2", "20260301", "0700"), ("1.3", "20260301", "1900"), ("1.4", "", "")]
    given = [prior_reading(uid, day, clock, 1, NOW) for uid, day, clock in days]
    assert [one.study_uid for one in compare(NOW, given, "20260304")] == ["1.3", "1.2", "1.1", "1.4"]


DAYS = {"some": ("20260228", "20260304", 4), "leap": ("20240228", "20240301", 2), "none": ("", "20260304", None)}


@pytest.mark.parametrize(("one", "other", "days"), DAYS.values(), ids=DAYS)
def test_days(one: str, other: str, days: int | None) -> None:
    assert days_between(one, other) == days


def documents(read: Reading = NOW, language: str = "en") -> dict[DocumentKind, Document]:
    return by_kind(read, context(priors=priors(read)), replace(ALL, language=language))


def test_other_priors_make_other_objects_and_none_make_the_same_as_ever() -> None:
    one, two = priors()
    sets = [(), (one,), (one, two), (replace(one, revision=2), two)]
    uids = [by_kind(NOW, context(priors=some), ALL)[DocumentKind.FINDINGS_SR].uid for some in sets]
    assert len(set(uids)) == len(sets)
    assert uids[0] == by_kind(NOW, context(), ALL)[DocumentKind.FINDINGS_SR].uid
    assert digest_of(()) == ""


@pytest.mark.parametrize("language", wording.LANGUAGES)
@pytest.mark.parametrize("read", [NOW, disagreeing(), unassessed()], ids=["each decision", "more", "unassessed"])
def test_the_report_gives_the_comparison_back(read: Reading, language: str) -> None:
    made = documents(read, language)
    assert [fault for one in made.values() for fault in one.faults] == []
    back = read_findings(made[DocumentKind.FINDINGS_SR].content)
    assert back.comparisons == compare(read, priors(read), "20260304")
    assert [one.decision for one in back.findings] == [one.decision for one in read.findings]
    assert [one.sop_instance_uid for one in back.sources] == [one.sop_instance_uid for one in read.sources]


def sections(ds: Dataset) -> list[Dataset]:
    return [item for item in ds.ContentSequence if is_code(concept(item), codes.PREVIOUS_FINDINGS)]


@pytest.mark.parametrize("kind", [DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR, DocumentKind.TEXT_SR])
def test_each_section_is_of_one_earlier_study_and_says_whose_word_it_is(kind: DocumentKind) -> None:
    """TID 1005 row 1; TID 2000 lets nothing else of the context be told."""
    ds = dcmread(BytesIO(documents()[kind].content))
    for section, uid in zip(sections(ds), ("1.2.9", "1.2.8"), strict=True):
        context_items = [item for item in section.ContentSequence if item.RelationshipType == "HAS OBS CONTEXT"]
        assert [(concept(item).value, item.UID) for item in context_items] == [("121018", uid)]
        said = [str(item.get("TextValue", "")) for item in section.ContentSequence]
        assert wording.of("en").phrases.comparison_standing in said
        assert any(uid in text for text in said)
    dates = [item.Date for item in walk(ds) if item.get("ValueType") == "DATE"]
    assert dates == (["20260301", "20250301"] if kind is DocumentKind.FINDINGS_SR else [])


def test_images_of_the_earlier_study_are_other_evidence_each_once() -> None:
    ds = dcmread(BytesIO(documents()[DocumentKind.FINDINGS_SR].content))
    (study,) = ds.PertinentOtherEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == ("1.2.9", "1.2.9.1")
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == ["1.2.9.1.1"]
    assert {one.StudyInstanceUID for one in ds.CurrentRequestedProcedureEvidenceSequence} == {"1.2.3"}


def test_the_record_finds_the_earlier_study_by_its_uid_and_gets_no_resource_for_it() -> None:
    bundle = json.loads(documents()[DocumentKind.FHIR_BUNDLE].content)
    studies = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "ImagingStudy"]
    assert len(studies) == 1
    compared = [
        one["resource"]
        for one in bundle["entry"]
        if one["resource"].get("code", {}).get("coding", [{}])[0].get("code") == codes.PREVIOUS_FINDINGS.value
    ]
    named = [one["derivedFrom"][1]["identifier"] for one in compared]
    assert named == [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"} for uid in ("1.2.9", "1.2.8")]
    first = compared[0]["component"][0]
    assert (first["code"]["coding"][0]["code"], first["valueCodeableConcept"]["coding"][0]["code"]) == ("36118008", "NEW")
    assert "12.3 %" in first["valueCodeableConcept"]["text"]


def test_no_receiver_of_the_message_can_take_the_earlier_study_for_its_own() -> None:
    rows = [
        line.split("|") for line in documents()[DocumentKind.HL7_ORU].content.decode().split("\r") if line.startswith("OBX")
    ]
    assert [row[5] for row in rows if row[3].startswith("110180^")] == ["1.2.3"]
    assert [(row[4], row[5]) for row in rows if row[3].startswith("121018^")] == [("prior-1", "1.2.9"), ("prior-2", "1.2.8")]
    assert any("Pneumothorax: new. Then absent, probability 12.3 %." in row[5] for row in rows if row[4] == "prior-1")


def test_a_signed_report_is_a_person_s_and_keeps_nothing_of_the_comparison() -> None:
    draft = documents()[DocumentKind.DRAFT_SR].content
    signed = signed_report(draft, Signature("Muster^Eva", "Haus A", READ_AT, ("No pneumothorax.",), ()))
    assert sections(dcmread(BytesIO(signed.content))) == []


PRIORS = {
    "some days": ("20260301", "101530", 3, "Study of 2026-03-01 10:15, 3 days before"),
    "one day": ("20260303", "", 1, "Study of 2026-03-03, 1 day before"),
    "the same day": ("20260304", "0310", 0, "Study of 2026-03-04 03:10, earlier on the same day"),
    "no day of its own": ("", "", None, "An earlier study without a date"),
    "no day of the study": ("20260301", "1", None, "Study of 2026-03-01"),
}


@pytest.mark.parametrize(("day", "clock", "days", "text"), PRIORS.values(), ids=PRIORS)
def test_a_prior_in_words(day: str, clock: str, days: int | None, text: str) -> None:
    prior = Comparison("1.2.9", day, clock, days, ())
    words = wording.of("en")
    assert prior_name(words, prior) == text
    assert prior_line(words, prior) == f"{text}; Study Instance UID 1.2.9"


LINES = {
    "en": (
        "Pneumothorax: new. Then absent, probability 12.3 %.",
        "Pneumothorax: not comparable: another model judged it then. Then absent, probability 12.3 %.",
    ),
    "de": (
        "Pneumothorax: neu. Damals nicht vorhanden, Wahrscheinlichkeit 12,3 %.",
        "Pneumothorax: nicht vergleichbar (damals von einem anderen Modell beurteilt). Damals nicht vorhanden,"
        " Wahrscheinlichkeit 12,3 %.",
    ),
    "es": (
        "Neumotórax: nuevo. Entonces ausente, probabilidad 12,3 %.",
        "Neumotórax: no comparable (entonces lo juzgó otro modelo). Entonces ausente, probabilidad 12,3 %.",
    ),
}


@pytest.mark.parametrize("language", LINES)
def test_findings_in_words(language: str) -> None:
    words = wording.of(language)
    told = [compared_lines(words, one, NOW)[0] for one in compare(NOW, priors(), "20260304")]
    assert tuple(told) == LINES[language]


@pytest.mark.parametrize("language", wording.LANGUAGES)
def test_changes_and_their_codes_agree(language: str) -> None:
    words = wording.of(language)
    assert all(change_name(words, one) == words.name(codes.CHANGE_OF[one]).lower() for one in Change)
    assert len({change_name(words, one) for one in Change}) == len(Change)


def test_more_priors_than_a_page_has_room_for() -> None:
    many = tuple(replace(priors()[0], study_uid=f"1.2.9.{number}", study_date=f"202602{number:02}") for number in range(10, 20))
    made = by_kind(NOW, context(header(), priors=many), ALL)
    assert [str(fault) for one in made.values() for fault in one.faults] == []
