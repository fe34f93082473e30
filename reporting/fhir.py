"""The reading as a FHIR R4 (4.0.1) transaction Bundle, in plain dictionaries.

Posting it again makes nothing new (``DocumentOptions.fhir_write``). Written by search, resources with an identifier are found
by it; Provenance has no identifier in R4, and is found by a tag, which every resource can carry (R4 3.1.1.5.7).
"""

from __future__ import annotations

import json
from typing import Final

from inference.reading import Decision, Finding, ModelVersion, Reading
from reporting import codes, wording
from reporting.fhir_context import (
    accession_identifier,
    imaging_study,
    model_device,
    node_device,
    organisation,
    patient,
    service_request,
)
from reporting.fhir_parts import (
    SYSTEM,
    Entry,
    Json,
    asserted,
    concept,
    instant,
    percent,
    present,
    result_entry,
    terminology,
    token,
)
from reporting.html import presented_form
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.sr_findings import triage_model
from reporting.uids import ReadingKey

IMR_REPORT: Final = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-diagnosticreport"
_ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_IMAGING: Final = terminology("observation-category", "imaging", "Imaging")
_RADIOLOGY: Final = terminology("v2-0074", "RAD", "Radiology")
_INTERPRETATION: Final = {
    Decision.POSITIVE: terminology("v3-ObservationInterpretation", "POS", "Positive"),
    Decision.NEGATIVE: terminology("v3-ObservationInterpretation", "NEG", "Negative"),
}


class BundleBuilder:
    """Builds the entries of one reading's Bundle in the order in which they refer to each other."""

    def __init__(self, source: SourceStudy, reading: Reading, options: DocumentOptions, key: ReadingKey) -> None:
        self._source, self._reading, self._options, self._key = source, reading, options, key
        self._patient = patient(source, options)
        self._study = imaging_study(source, self._patient, options)
        self._organisation = organisation(source)
        self._node = node_device(source, options)
        self._models = {model.digest: model_device(model) for model in reading.models}

    def bundle(self) -> Json:
        """The whole transaction; its identifier is the document's UID."""
        observations = [self._observation(finding) for finding in self._reading.findings]
        report = self._report(observations)
        results = [*observations, report, self._provenance([report, *observations])]
        entries = [self._patient, self._study, self._organisation, self._node, *self._models.values(), *results]
        return {
            "resourceType": "Bundle",
            "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{bundle_uid(self._key)}"},
            "type": "transaction",
            "timestamp": self._recorded,
            "entry": [entry.json(self._options.fhir_write) for entry in entries],
        }

    @property
    def _recorded(self) -> str:
        return instant(self._source.written_at)

    def _observation(self, finding: Finding) -> Entry:
        """Status *preliminary*: R4 defines it, for an Observation, as "may be incomplete or unverified"."""
        judge = triage_model(self._reading)
        resource = present(
            resourceType="Observation",
            meta=asserted(self._reading.phantom),
            status="preliminary",
            category=[_IMAGING],
            code=concept(finding.code),
            subject=self._patient.reference,
            effectiveDateTime=self._recorded,
            issued=self._recorded,
            performer=[self._organisation.reference],
            bodySite=concept(finding.site) if finding.site else None,
            device=self._models[judge.digest].reference if judge else self._node.reference,
            derivedFrom=[self._study.reference],
            note=[{"text": f"{wording.finding_line(finding)} {wording.DISCLAIMER}"}],
            component=_components(finding),
            **_answer(finding),
        )
        return result_entry(self._key, resource, finding.key)

    def _report(self, observations: list[Entry]) -> Entry:
        accession = accession_identifier(self._source, self._options)
        resource = present(
            resourceType="DiagnosticReport",
            meta=asserted(self._reading.phantom, IMR_REPORT),
            basedOn=[service_request(accession)] if accession else [],
            status=self._options.fhir_status,
            category=[_RADIOLOGY],
            code=concept(codes.DIAGNOSTIC_IMAGING_REPORT),
            subject=self._patient.reference,
            effectiveDateTime=self._recorded,
            issued=self._recorded,
            performer=[self._organisation.reference],
            resultsInterpreter=[_nobody()],
            result=[entry.reference for entry in observations],
            imagingStudy=[self._study.reference],
            conclusion=" ".join(_conclusion(self._reading)),
            presentedForm=[presented_form(self._reading, self._options, self._recorded)],
        )
        return result_entry(self._key, resource)

    def _provenance(self, targets: list[Entry]) -> Entry:
        """AI Transparency on FHIR: the models as authors, their cards, the questions asked and the images as what they used."""
        tag = {"system": SYSTEM, "code": self._key.uid("fhir", "Provenance")}
        authors = [_agent("author", entry, self._node) for entry in self._models.values()]
        resource = {
            "resourceType": "Provenance",
            "meta": asserted(self._reading.phantom, tag=tag),
            "target": [entry.reference for entry in targets],
            "recorded": self._recorded,
            "activity": terminology("v3-DataOperation", "CREATE", "create"),
            "agent": [*authors, _agent("assembler", self._node, self._organisation)],
            "entity": self._entities(),
        }
        return Entry(self._key.uuid("fhir", "Provenance"), resource, f"_tag={token(tag['system'], tag['code'])}")

    def _entities(self) -> list[Json]:
        catalogue = self._reading.catalogue
        asked = {
            "identifier": {"system": SYSTEM, "value": f"sha256:{catalogue.digest}"},
            "display": wording.catalogue_line(self._reading),
        }
        cards = [_card(model) for model in self._reading.models]
        return [{"role": "source", "what": what} for what in (self._study.reference, asked, *cards)]


def bundle_uid(key: ReadingKey) -> str:
    """The UID that names the Bundle of a reading."""
    return key.uid("fhir", "Bundle")


def encode(bundle: Json) -> bytes:
    """UTF-8 JSON, the same bytes for the same Bundle."""
    return json.dumps(bundle, ensure_ascii=False, indent=1, allow_nan=False).encode()


def _conclusion(reading: Reading) -> tuple[str, ...]:
    return (*wording.notices(reading), wording.outcome(reading), *wording.agreement_lines(reading))


def _answer(finding: Finding) -> Json:
    if finding.probability is None:
        text = wording.sentence(finding.reason or "No reason was given")
        return {
            "dataAbsentReason": {
                **terminology("data-absent-reason", "not-performed", "Not Performed"),
                "text": f"Not assessable: {text}",
            }
        }
    return {
        "valueCodeableConcept": concept(codes.PRESENCE_OF[finding.decision]),
        "interpretation": [_INTERPRETATION[finding.decision]],
    }


def _components(finding: Finding) -> list[Json]:
    certainty = {"valueQuantity": percent(finding.probability)} if finding.probability is not None else _not_performed()
    return [
        {"code": concept(codes.CERTAINTY), **certainty},
        {"code": concept(codes.THRESHOLD), "valueQuantity": percent(finding.threshold)},
        {"code": concept(codes.URGENCY), "valueCodeableConcept": concept(codes.URGENCY_OF[finding.urgency])},
    ]


def _not_performed() -> Json:
    return {"dataAbsentReason": terminology("data-absent-reason", "not-performed", "Not Performed")}


def _nobody() -> Json:
    """IMR asks for an interpreter; there is none, and the report says so instead of naming a person who read nothing."""
    extension = [{"url": _ABSENT_REASON, "valueCode": "not-performed"}]
    return {"extension": extension, "type": "Practitioner", "display": wording.NO_INTERPRETER}


def _agent(role: str, who: Entry, behalf: Entry) -> Json:
    display = role.capitalize()
    kind = terminology("provenance-participant-type", role, display)
    return {"type": kind, "who": who.reference, "onBehalfOf": behalf.reference}


def _card(model: ModelVersion) -> Json:
    """A model card by its digest; the words of the card travel as its display."""
    return {
        "identifier": {"system": SYSTEM, "value": f"sha256:{model.digest}"},
        "display": f"Model card: {wording.model_line(model)}",
    }
