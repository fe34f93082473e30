"""What our documents say is what was read: read back, they give the same reading, but for what is listed here by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.reading import Code, Decision, DraftReport, Finding, FrameSource, Method, Reading, Sentence, Urgency
from reporting import codes
from reporting.context import DocumentKind
from reporting.errors import DocumentError
from reporting.read_back import DraftBack, FindingsBack, read_draft, read_findings
from reporting.sr_signed import Signature, signed_report
from reporting.uids import tracking_uid
from tests.reporting.samples import OPTIONS, READ_AT, by_kind, context, disagreeing, frame_of, header, reading, unassessed

REPORTS = replace(OPTIONS, kinds=frozenset({DocumentKind.FINDINGS_SR, DocumentKind.DRAFT_SR}))
# What the two reports do not carry of a Reading, or not as data: ``skipped`` is counted by reason, ``mode`` said in words, the
# cards of ``heads`` stand among the equipment, ``heat_maps`` are documents of their own; ``shadow`` is in no document.
# Of a Sentence: ``source``, since a draft lists its images once. Of the Bundle: a finding's key (in derived identifiers only),
# its aggregation (in words), its image's SOP class, and the draft (in the pages only).
NOT_CARRIED = {"skipped", "heads", "heat_maps", "mode", "device", "precision", "shadow", "sketch"}


def both(read: Reading, language: str = "en") -> tuple[FindingsBack, DraftBack]:
    documents = by_kind(read, context(), replace(REPORTS, language=language))
    findings = read_findings(documents[DocumentKind.FINDINGS_SR].content)
    return findings, read_draft(documents[DocumentKind.DRAFT_SR].content, findings)


def carried(draft: DraftReport) -> DraftReport:
    """Without what a draft SR does not carry."""
    said = [tuple(replace(one, source=None) for one in part) for part in (draft.sentences, draft.impression)]
    return replace(draft, sentences=said[0], impression=said[1])


CASES = {
    "each decision": reading(),
    "phantom": reading(phantom=True),
    "contradicted, omitted, noted": disagreeing(),
    "not assessed": unassessed(),
    "probe": replace(
        reading(), findings=(replace(reading().findings[0], method=Method.PROBE, aggregation="highest of 3 images"),)
    ),
}


@pytest.mark.parametrize("read", CASES.values(), ids=CASES)
def test_both_reports_give_the_reading_back(read: Reading) -> None:
    findings, draft = both(read)
    assert findings.findings == read.findings
    assert findings.models == read.models
    assert findings.catalogue == read.catalogue
    assert findings.sources == read.sources
    assert findings.reason == read.reason
    assert findings.tracking == {one.key: tracking_uid("1.2.3", one.key) for one in read.findings}
    assert draft.draft == carried(read.draft)
    assert findings.study_instance_uid == draft.study_instance_uid == "1.2.3"


@pytest.mark.parametrize("language", ["de", "es"])
def test_in_other_languages_codes_numbers_and_marks_come_back(language: str) -> None:
    read = disagreeing()
    findings, draft = both(read, language)
    assert findings.language == language
    plain = [replace(one, reason="", code=replace(one.code, meaning=""), site=None) for one in findings.findings]
    assert plain == [replace(one, reason="", code=replace(one.code, meaning=""), site=None) for one in read.findings]
    assert findings.models == read.models
    assert draft.draft.sentences == carried(read.draft).sentences
    assert draft.draft.omits == read.draft.omits


words = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="\\{}"), min_size=1, max_size=20)
texts = st.lists(words, min_size=1, max_size=5).map(" ".join)
sources = st.just(frame_of(header()))
schemes = st.sampled_from(["SCT", "RADLEX"])


@st.composite
def findings_of(draw: st.DrawFn, number: int) -> Finding:
    """Of its own name: marks name findings in words, and two of one name could not be told apart."""
    decision = draw(st.sampled_from(Decision))
    open_ = decision is Decision.NOT_ASSESSABLE
    return Finding(
        key=f"finding {number} {draw(words)}",
        code=Code(f"{number}-{draw(st.integers(0, 10**9))}", draw(schemes), f"{number} {draw(texts)}"[:60].strip()),
        site=draw(st.none() | st.just(Code("39607008", "SCT", "Lung structure"))),
        urgency=draw(st.sampled_from(Urgency)),
        threshold=draw(st.integers(0, 10_000)) / 10_000,
        decision=decision,
        probability=None if open_ else draw(st.integers(0, 10_000)) / 10_000,
        reason=draw(texts).rstrip(".!?") if open_ else "",
        source=None if open_ else draw(st.none() | sources),
        method=Method.ZERO_SHOT if open_ else draw(st.sampled_from(Method)),
    )


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    findings = tuple(draw(findings_of(number)) for number in range(draw(st.integers(1, 5))))
    keys = st.lists(st.sampled_from([one.key for one in findings]), unique=True, max_size=2)
    order = [one.key for one in findings]
    ordered = keys.map(lambda found: tuple(sorted(found, key=order.index)))
    sentence = st.builds(Sentence, texts, st.integers(0, 10_000).map(lambda n: n / 10_000), st.none(), ordered)
    source = draw(sources)
    draft = DraftReport(
        sentences=tuple(draw(st.lists(sentence, min_size=1, max_size=4))),
        source=source,
        impression=tuple(draw(st.lists(sentence, max_size=2))),
        omits=draw(ordered),
    )
    return replace(reading(), findings=findings, draft=draft)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(read=readings())
def test_any_reading_survives(read: Reading) -> None:
    findings, draft = both(read)
    assert [one.code.value for one in findings.findings] == [one.code.value for one in read.findings]
    assert findings.findings == tuple(replace(one, reason=one.reason.removesuffix(".")) for one in read.findings)
    assert draft.draft == carried(read.draft)


def test_every_field_of_a_reading_is_carried_or_named_as_not() -> None:
    """A field that someone adds must be read back, or be named above."""
    read = set(FindingsBack.__dataclass_fields__) | {"draft"}
    assert set(Reading.__dataclass_fields__) - read == NOT_CARRIED


@pytest.mark.parametrize("bytes_", [b"", b"no DICOM", b"\0" * 128 + b"DICM"], ids=["empty", "text", "torn"])
def test_what_is_no_report_is_refused(bytes_: bytes) -> None:
    with pytest.raises(DocumentError, match=r"no DICOM file|not a findings report"):
        read_findings(bytes_)


def test_other_reports_are_refused() -> None:
    documents = by_kind(reading(), context(), REPORTS)
    findings = read_findings(documents[DocumentKind.FINDINGS_SR].content)
    with pytest.raises(DocumentError, match="not a findings report"):
        read_findings(documents[DocumentKind.DRAFT_SR].content)
    with pytest.raises(DocumentError, match="not a draft report"):
        read_draft(documents[DocumentKind.FINDINGS_SR].content, findings)
    with pytest.raises(DocumentError, match="different studies"):
        read_draft(documents[DocumentKind.DRAFT_SR].content, replace(findings, study_instance_uid="1.2.4"))
    signature = Signature("Lesemann^Li", "Example Hospital", READ_AT, ("Clear.",), ())
    with pytest.raises(DocumentError, match="signed"):
        read_draft(signed_report(documents[DocumentKind.DRAFT_SR].content, signature).content, findings)


@pytest.mark.parametrize("read", CASES.values(), ids=CASES)
def test_the_bundle_gives_the_findings_back(read: Reading) -> None:
    document = by_kind(read, context(), OPTIONS)[DocumentKind.FHIR_BUNDLE]
    resources = [entry["resource"] for entry in json.loads(document.content)["entry"]]
    found = [_observed(one) for one in resources if one["resourceType"] == "Observation"]
    assert found == [_plain(one) for one in read.findings]


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "code": (finding.code.value, codes.SCHEMES[finding.code.scheme].uri),
        "site": finding.site.value if finding.site else None,
        "urgency": codes.URGENCY_OF[finding.urgency].value,
        "threshold": pytest.approx(100 * finding.threshold),
        "probability": None if finding.probability is None else pytest.approx(100 * finding.probability),
        "answer": None if finding.probability is None else codes.PRESENCE_OF[finding.decision].value,
        "method": None if finding.probability is None else codes.METHOD_OF[finding.method].value,
        "reason": f"Not assessable: {finding.reason}." if finding.probability is None else None,
        "image": _image(finding.source),
    }


def _image(source: FrameSource | None) -> str | None:
    return f"series/{source.series_instance_uid}/instances/{source.sop_instance_uid}" if source else None


def _observed(observation: dict[str, Any]) -> dict[str, Any]:
    parts = {part["code"]["coding"][0]["code"]: part for part in observation["component"]}

    def number(code: Code) -> float | None:
        quantity = parts[code.value].get("valueQuantity")
        return quantity["value"] if quantity else None

    return {
        "code": tuple(observation["code"]["coding"][0][key] for key in ("code", "system")),
        "site": _first(observation.get("bodySite")),
        "urgency": _first(parts[codes.URGENCY.value]["valueCodeableConcept"]),
        "threshold": number(codes.THRESHOLD),
        "probability": number(codes.CERTAINTY),
        "answer": _first(observation.get("valueCodeableConcept")),
        "method": _first(observation.get("method")),
        "reason": observation.get("dataAbsentReason", {}).get("text"),
        "image": parts.get(codes.SOURCE_OF_MEASUREMENT.value, {}).get("valueString"),
    }


def _first(concept: dict[str, Any] | None) -> str | None:
    return str(concept["coding"][0]["code"]) if concept else None
