"""The reading as a FHIR transaction Bundle, in plain dictionaries: R4 (4.0.1) as IHE RAD IMR asks (RAD-141), or R5.

Posting it again makes nothing new (``DocumentOptions.fhir_write``). Written by search, resources with an identifier are found
by it; Provenance has no identifier in R4, and is found by a tag, which every resource can carry (R4 3.1.1.5.7).

Findings that go out before their draft is written are a Bundle of the same resources, ids and status: the whole Bundle updates
them. Where a server gives out the ids there is nothing to update by, and only the whole Bundle should be sent (``by-search``).

A later revision of a study is a DiagnosticReport of its own that names the one it replaces (the standard extension
diagnosticReport-replaces, and Provenance). The earlier one keeps its status: *amended* and *corrected* follow a final report
(R4 diagnostic-report-status), which only a person makes, and *entered-in-error* would withdraw what was no error.

The Bundle claims IMR's profile, as RAD-141 demands, though the informative definition of that profile closes the entries to
report, order and study, by POST: the text allows Observations, and PUT creates as well (R4 3.1.0.7.1). imr-observation is not
claimed: it demands an order that can be resolved, and ours is named by its number only.
"""

from __future__ import annotations

import json
from typing import Final

from inference.reading import Decision, Finding, FrameSource, Reading
from reporting import codes
from reporting.context import DocumentKind
from reporting.fhir_comparison import comparison_body
from reporting.fhir_context import accession_identifier, organisation, patient, service_request
from reporting.fhir_devices import AI, Devices
from reporting.fhir_parts import (
    AIAST,
    SYSTEM,
    Entry,
    Json,
    asserted,
    bundle_uid,
    coding,
    concept,
    instant,
    logical,
    percent,
    present,
    result_entry,
    result_identifier,
    terminology,
)
from reporting.fhir_r5 import as_r5
from reporting.fhir_study import endpoint, imaging_study, side_of
from reporting.html import narrative, presented_form, sections_of
from reporting.options import DocumentOptions
from reporting.procedures import RADIOLOGY, carried, modality_category, report_code, study_procedures
from reporting.source import SourceStudy
from reporting.uids import ReadingKey, derive_uuid, message_uid
from reporting.wording import Words, fill, sentence

__all__ = ["IMR_BUNDLE", "IMR_REPORT", "BundleBuilder", "bundle_uid", "encode"]

IMR_BUNDLE: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-store-multimedia-report-bundle"
IMR_REPORT: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-diagnosticreport"
_ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_REPLACES: Final = "http://hl7.org/fhir/StructureDefinition/diagnosticReport-replaces"
_IMAGING: Final = terminology("observation-category", "imaging", "Imaging")
_RADIOLOGY: Final = terminology("v2-0074", "RAD", "Radiology")
_INTERPRETATION: Final = {
    Decision.POSITIVE: terminology("v3-ObservationInterpretation", "POS", "Positive"),
    Decision.NEGATIVE: terminology("v3-ObservationInterpretation", "NEG", "Negative"),
}


class BundleBuilder:
    """Builds the entries of one reading's Bundle in the order in which they refer to each other."""

    def __init__(self, source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey) -> None:
        self._source, self._reading, self._options, self._uid = source, reading, options, bundle_uid(key)
        self._words = options.words
        self._replaced = _replaced(source)
        self._patient = patient(source, options)
        self._place = endpoint(options)
        accession = accession_identifier(source, options)
        self._general = report_code(source)
        self._study = imaging_study(source, self._patient, self._place, accession, study_procedures(source, self._general))
        self._organisation = organisation(source)
        self._devices = Devices(source, reading, options)
        self._orders = [service_request(accession)] if accession else []
        self._effective = self._study.resource.get("started", "")
        self._recorded = instant(source.written_at)

    def bundle(self) -> Json:
        """The whole transaction; its identifier is the document's UID."""
        observations = [self._observation(finding) for finding in self._reading.findings]
        observations += self._comparisons()
        report = self._report(observations)
        results = [*observations, report, self._provenance([report, *observations])]
        places = [self._place] if self._place else []
        entries = [self._patient, *places, self._study, self._organisation, *self._devices.entries, *results]
        found = {
            "resourceType": "Bundle",
            "meta": {"profile": [IMR_BUNDLE]},
            "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{message_uid(self._reading, self._uid)}"},
            "type": "transaction",
            "timestamp": self._recorded,
            "entry": [entry.json(self._options.fhir_write) for entry in entries],
        }
        return as_r5(found) if self._options.fhir_version == "R5" else found

    def _observation(self, finding: Finding) -> Entry:
        """Status *preliminary*: R4 defines it, for an Observation, as "may be incomplete or unverified"."""
        words = self._words
        resource = present(
            resourceType="Observation",
            meta=asserted(self._reading.phantom),
            basedOn=self._orders,
            status="preliminary",
            category=[_IMAGING],
            code=concept(finding.code, words.name(finding.code)),
            subject=self._patient.reference,
            effectiveDateTime=self._effective,
            issued=self._recorded,
            performer=[self._organisation.reference],
            bodySite=concept(finding.site, words.name(finding.site)) if finding.site else None,
            method=self._method(finding),
            device=self._devices.judge(finding).reference,
            derivedFrom=[self._study.reference],
            note=[{"text": f"{words.finding_line(finding)} {words.phrases.disclaimer}"}],
            component=self._components(finding),
            **_answer(finding, words),
        )
        return result_entry(self._uid, resource, finding.key)

    def _comparisons(self) -> list[Entry]:
        """An Observation for each earlier study."""
        priors = self._source.comparisons(self._reading)
        bodies = [(prior.study_uid, comparison_body(prior, self._reading, self._words)) for prior in priors]
        shared = present(
            meta=asserted(self._reading.phantom),
            basedOn=self._orders,
            status="preliminary",
            category=[_IMAGING],
            subject=self._patient.reference,
            effectiveDateTime=self._effective,
            issued=self._recorded,
            performer=[self._organisation.reference],
            device=self._devices.node.reference,
        )
        return [
            result_entry(
                self._uid,
                {"resourceType": "Observation", **shared, **body, "derivedFrom": [self._study.reference, *body["derivedFrom"]]},
                "comparison",
                uid,
            )
            for uid, body in bodies
        ]

    def _method(self, finding: Finding) -> Json | None:
        said = self._words.method_line(finding)
        return concept(codes.METHOD_OF[finding.method], said) if said else None

    def _components(self, finding: Finding) -> list[Json]:
        """How sure, from which threshold on, how urgent, and which image decided, of which side of the body."""
        name = self._words.name
        sure = {"valueQuantity": percent(finding.probability)} if finding.probability is not None else _not_performed()
        urgency = codes.URGENCY_OF[finding.urgency]
        side = side_of(self._source.header(finding.source.sop_instance_uid)) if finding.source else None
        image = self._source.reference(finding.source) and _path(finding.source)
        values = (
            (codes.CERTAINTY, sure),
            (codes.THRESHOLD, {"valueQuantity": percent(finding.threshold)}),
            (codes.URGENCY, {"valueCodeableConcept": concept(urgency, name(urgency))}),
            (codes.LATERALITY, {"valueCodeableConcept": concept(side, name(side))} if side else None),
            (codes.SOURCE_OF_MEASUREMENT, {"valueString": image} if image else None),
        )
        return [{"code": concept(code, name(code)), **value} for code, value in values if value]

    def _report(self, observations: list[Entry]) -> Entry:
        sections = sections_of(self._reading, self._words, self._source.comparisons(self._reading))
        resource = present(
            resourceType="DiagnosticReport",
            meta=asserted(self._reading.phantom, IMR_REPORT),
            language=self._options.language,
            text=narrative(sections, self._words),
            extension=[{"url": _REPLACES, "valueReference": earlier} for earlier in self._replaced],
            basedOn=self._orders,
            status=self._options.fhir_status,
            category=self._categories(),
            code=self._kind(),
            subject=self._patient.reference,
            effectiveDateTime=self._effective,
            issued=self._recorded,
            performer=[self._organisation.reference],
            resultsInterpreter=[_nobody(self._words)],
            result=[entry.reference for entry in observations],
            imagingStudy=[self._study.reference],
            conclusion=" ".join(_conclusion(self._reading, self._words)),
            presentedForm=[presented_form(sections, self._options, self._recorded)],
        )
        return result_entry(self._uid, resource)

    def _kind(self) -> Json:
        """The report by its LOINC code; beside it the one procedure that the images name, in whatever scheme they do."""
        general, said = self._general, carried(self._source)
        own = [found for code in said if code != general and (found := coding(code))] if len(said) == 1 else []
        text = "; ".join(self._words.name(code) for code in said) or self._words.name(general)
        return {"coding": [coding(general), *own], "text": text}

    def _categories(self) -> list[Json]:
        service = modality_category(self._source)
        found = [_RADIOLOGY, terminology("v2-0074", *service)] if service else [_RADIOLOGY]
        return [*found, concept(RADIOLOGY, self._words.name(RADIOLOGY))]

    def _provenance(self, targets: list[Entry]) -> Entry:
        """AI Transparency on FHIR: the models as authors, their cards, the questions asked and the images as what they used."""
        uuid = derive_uuid("fhir result", self._uid, "Provenance")
        tag = {"system": SYSTEM, "code": f"2.25.{uuid.int}"}
        authors = [
            {**_agent("author", entry, self._devices.node), "role": [{"coding": [AI]}]} for entry in self._devices.models
        ]
        resource = {
            "resourceType": "Provenance",
            "meta": asserted(self._reading.phantom, tag=tag),
            "target": [entry.reference for entry in targets],
            "occurredDateTime": self._recorded,
            "recorded": self._recorded,
            "reason": [{"coding": [AIAST]}],
            "activity": terminology("v3-DataOperation", *(("UPDATE", "revise") if self._replaced else ("CREATE", "create"))),
            "agent": [*authors, _agent("assembler", self._devices.node, self._organisation)],
            "entity": self._entities(),
        }
        return Entry(str(uuid), resource)

    def _entities(self) -> list[Json]:
        words, reading = self._words, self._reading
        asked = _by_digest(reading.catalogue.digest, words.catalogue_line(reading))
        cards = [
            _by_digest(model.digest, fill(words.phrases.model_card, model=words.model_line(model))) for model in reading.models
        ]
        heads = [_by_digest(head.digest, words.head_line(head)) for head in self._devices.heads]
        sources = [{"role": "source", "what": what} for what in (self._study.reference, asked, *cards, *heads)]
        return sources + [{"role": "revision", "what": earlier} for earlier in self._replaced]


def encode(bundle: Json) -> bytes:
    """UTF-8 JSON, the same bytes for the same Bundle; without indentation, which costs more than all the rest."""
    return json.dumps(bundle, ensure_ascii=False, allow_nan=False).encode()


def _replaced(source: SourceStudy) -> list[Json]:
    earlier = [one for one in source.context.predecessors if one.kind is DocumentKind.FHIR_BUNDLE]
    return [logical("DiagnosticReport", result_identifier(one.uid, "DiagnosticReport")) for one in earlier]


def _conclusion(reading: Reading, words: Words) -> tuple[str, ...]:
    return (*words.notices(reading), words.outcome(reading), *words.agreement_lines(reading), *words.pending_lines(reading))


def _answer(finding: Finding, words: Words) -> Json:
    if finding.probability is None:
        return {
            "dataAbsentReason": {
                **terminology("data-absent-reason", "not-performed", "Not Performed"),
                "text": words.not_assessed(sentence(words.reason_of(finding))),
            }
        }
    present_or_absent = codes.PRESENCE_OF[finding.decision]
    return {
        "valueCodeableConcept": concept(present_or_absent, words.name(present_or_absent)),
        "interpretation": [_INTERPRETATION[finding.decision]],
    }


def _path(source: FrameSource | None) -> str:
    """The image that decided, as DICOMweb addresses it below its study (PS3.18 10.1.1)."""
    if source is None:
        return ""
    frame = f"/frames/{source.frame_number}" if source.frame_number > 1 else ""
    return f"series/{source.series_instance_uid}/instances/{source.sop_instance_uid}{frame}"


def _not_performed() -> Json:
    return {"dataAbsentReason": terminology("data-absent-reason", "not-performed", "Not Performed")}


def _nobody(words: Words) -> Json:
    """IMR asks for an interpreter; there is none, and the report says so instead of naming a person who read nothing."""
    extension = [{"url": _ABSENT_REASON, "valueCode": "not-performed"}]
    return {"extension": extension, "type": "Practitioner", "display": words.phrases.no_interpreter}


def _agent(role: str, who: Entry, behalf: Entry) -> Json:
    kind = terminology("provenance-participant-type", role, role.capitalize())
    return {"type": kind, "who": who.reference, "onBehalfOf": behalf.reference}


def _by_digest(digest: str, words: str) -> Json:
    """A file by its sha256; what it says travels as the display."""
    return {"identifier": {"system": SYSTEM, "value": f"sha256:{digest}"}, "display": words}
