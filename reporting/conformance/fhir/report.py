"""What we promise of the report and its answers: one report, its page and disclaimer, observations that do not contradict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from reporting import codes
from reporting.conformance.fhir.bundle import Entry, OwnBundle, items, profiles_of
from reporting.conformance.fhir.formats import decoded
from reporting.conformance.fhir.promises import IMR_REPORT
from reporting.context import Fault
from reporting.wording import PHRASES

_IMR: Final = "IHE RAD IMR RAD-141"
_DRAFT: Final = "WetRead conformance statement: drafts"
_ANSWERS: Final = "WetRead conformance statement: findings"
_AGREEING: Final = {codes.PRESENT.value: "POS", codes.ABSENT.value: "NEG"}


def report_faults(bundle: OwnBundle) -> Iterator[Fault]:
    """Each promise that the report or one of its observations breaks."""
    reports = bundle.of("DiagnosticReport")
    if len(reports) != 1:
        yield Fault("one-report", f"{_IMR}: one DiagnosticReport", f"Bundle: {len(reports)} DiagnosticReports instead of one")
    for report in reports:
        yield from _single_report_faults(report.resource, bundle)
        yield from _page_faults(report.resource)
    for observation in bundle.of("Observation"):
        yield from _answer_faults(observation)


def _single_report_faults(report: dict[str, Any], bundle: OwnBundle) -> Iterator[Fault]:
    if not bundle.r5 and IMR_REPORT not in profiles_of(report):
        yield Fault("imr-profile", f"{_IMR}: meta.profile", "DiagnosticReport.meta.profile: is not that of an IMR report")
    observations = {entry.url for entry in bundle.of("Observation")}
    if {one.get("reference") for one in items(report, "result")} != observations:
        yield Fault("report-results", f"{_IMR}: DiagnosticReport.result", "DiagnosticReport.result: is not every Observation")
    if not _disclaims(report.get("conclusion")):
        yield Fault("draft-disclaimer", _DRAFT, "DiagnosticReport.conclusion: does not say that it is an AI draft")


def _disclaims(text: object) -> bool:
    return isinstance(text, str) and any(phrases.disclaimer in text for phrases in PHRASES.values())


def _page_faults(report: dict[str, Any]) -> Iterator[Fault]:
    pages = [one for one in items(report, "presentedForm") if one.get("contentType") == "text/html"]
    clause = f"{_IMR}: DiagnosticReport.presentedForm"
    if not pages:
        yield Fault("presented-form", clause, "DiagnosticReport.presentedForm: no HTML page")
    for page in pages:
        if not {"data", "size", "hash"} <= page.keys():
            yield Fault("presented-form", clause, "DiagnosticReport.presentedForm: without data, size and hash")
        elif not _disclaims(_page_text(page["data"])):
            yield Fault("draft-disclaimer", _DRAFT, "DiagnosticReport.presentedForm: does not say that it is an AI draft")


def _page_text(data: object) -> str | None:
    content = decoded(data) if isinstance(data, str) else None
    return content.decode("utf-8", "replace") if content is not None else None


def _answer_faults(entry: Entry) -> Iterator[Fault]:
    observation = entry.resource
    absent = "dataAbsentReason" in observation
    if absent is any(name.startswith("value") for name in observation):
        text = "Observation: needs either an answer or the reason why there is none"
        yield Fault("observation-answer", f"{_ANSWERS}, FHIR R4 obs-6", text)
        return
    given = _codes(observation.get("interpretation"))
    answers = _codes([observation.get("valueCodeableConcept")])
    if given != {_AGREEING.get(str(one), "") for one in answers}:
        text = "Observation.interpretation: does not agree with the answer"
        yield Fault("observation-interpretation", f"{_ANSWERS}, FHIR R4 10.1.5.4 interpretation", text)
    yield from _certainty_faults(observation, answers)


def _certainty_faults(observation: dict[str, Any], answers: set[object]) -> Iterator[Fault]:
    """The probability and the threshold that decides (both in percent, rounded) against the answer."""
    certainty, threshold = (_percent(observation, code.value) for code in (codes.CERTAINTY, codes.THRESHOLD))
    if any(one is not None and not 0 <= one <= 100 for one in (certainty, threshold)):
        yield Fault("observation-probability", _ANSWERS, "Observation.component: a probability outside 0 to 100 %")
    elif certainty is not None and not answers:
        yield Fault("observation-probability", _ANSWERS, "Observation.component: a probability, yet no answer")
    elif certainty is not None and threshold is not None and certainty != threshold:
        decided = codes.PRESENT.value if certainty > threshold else codes.ABSENT.value
        if decided not in answers:
            text = "Observation.component: the probability and its threshold do not agree with the answer"
            yield Fault("observation-probability", _ANSWERS, text)


def _percent(observation: dict[str, Any], code: str) -> float | None:
    for part in items(observation, "component"):
        quantity = part.get("valueQuantity")
        if code in _codes([part.get("code")]) and isinstance(quantity, dict) and isinstance(quantity.get("value"), int | float):
            return float(quantity["value"])
    return None


def _codes(concepts: Any) -> set[object]:
    held = concepts if isinstance(concepts, list) else []
    return {one.get("code") for concept in held for one in items(concept, "coding")}
