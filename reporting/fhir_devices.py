"""Who made a reading, as FHIR Devices: the installation, each model by its weights, and what a site fitted on its own films."""

from __future__ import annotations

from typing import Final

from inference.reading import Finding, HeadVersion, Method, ModelVersion, Reading
from reporting import clean
from reporting.fhir_parts import SYSTEM, Entry, Json, lasting_entry, present
from reporting.header import PRODUCT
from reporting.heads import triage_model
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.uids import derive_uid, device_uid
from reporting.wording import Words, fill

# AI Transparency on FHIR (HL7): the type of a Device that is an AI, and the role in which it acts
AI: Final = {
    "system": "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS",
    "code": "Artificial-Intelligence",
    "display": "All kinds of Artificial Intelligence",
}
_HEAD_OF: Final = {Method.CALIBRATED: "calibration", Method.PROBE: "probe"}


class Devices:
    """The Devices of one reading, in the order in which they refer to each other."""

    def __init__(self, source: SourceStudy, reading: Reading, options: DocumentOptions) -> None:
        words = options.words
        self.node = _node(source, options)
        self._models = {model.digest: _model(model, words) for model in reading.models}
        judge = triage_model(reading)
        self._judge = self._models[judge.digest] if judge else self.node
        self.heads = tuple(head for head in reading.heads if _decided(head, reading))
        self._heads = {head.kind: _head(head, self._judge, words) for head in self.heads}

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (self.node, *self.models)

    @property
    def models(self) -> tuple[Entry, ...]:
        """What gave the words and numbers: models, then the heads that stood between a model and its numbers."""
        return (*self._models.values(), *self._heads.values())

    def judge(self, finding: Finding) -> Entry:
        """Whose weights judged the finding: a probe or calibration of the site (its parent is the model), or the model."""
        return self._heads.get(_HEAD_OF.get(finding.method, ""), self._judge)


def _decided(head: HeadVersion, reading: Reading) -> bool:
    """A head on trial decided nothing and is not named: its numbers are in no document."""
    return any(_HEAD_OF.get(finding.method) == head.kind for finding in reading.findings)


def _model(model: ModelVersion, words: Words) -> Entry:
    """Other weights, other Device; the facts of the model's card are its properties."""
    facts = {
        "kind": model.kind,
        "source": model.source,
        "licence": model.licence,
        "intended use": model.intended_use,
        "acknowledgement": model.acknowledgement,
        "phantom": words.phrases.phantom if model.phantom else "no",
    }
    resource = present(
        resourceType="Device",
        status="active",
        manufacturer=clean.one_line(model.source),
        deviceName=[{"name": clean.one_line(model.name), "type": "model-name"}],
        modelNumber=clean.one_line(model.version),
        type={"coding": [AI], "text": fill(words.phrases.model_type, kind=model.kind)},
        version=[_version("model", model.version), _version("sha256", model.digest)],
        property=_properties(facts),
        note=[{"text": clean.one_line(words.model_line(model))}],
    )
    return lasting_entry(resource, {"system": SYSTEM, "value": device_uid(model.digest)})


def _head(head: HeadVersion, model: Entry, words: Words) -> Entry:
    """What a site fitted on its own labelled films, as a part of the model that it was fitted for."""
    resource = present(
        resourceType="Device",
        status="active",
        deviceName=[{"name": clean.one_line(head.name), "type": "user-friendly-name"}],
        modelNumber=clean.one_line(head.version),
        type={"coding": [AI], "text": words.translate(head.kind)},
        version=[_version(head.kind, head.version), _version("sha256", head.digest)],
        note=[{"text": clean.one_line(words.head_line(head))}],
        parent=model.reference,
    )
    return lasting_entry(resource, {"system": SYSTEM, "value": derive_uid("head", model.uuid, head.kind, head.digest)})


def _node(source: SourceStudy, options: DocumentOptions) -> Entry:
    """The installation that ran the models."""
    resource = present(
        resourceType="Device",
        status="active",
        manufacturer=clean.one_line(options.manufacturer),
        deviceName=[{"name": PRODUCT, "type": "model-name"}],
        type={"text": options.words.phrases.node_type},
        version=[_version("software", options.software_version)],
    )
    value = derive_uid("node", source.context.device_uid, options.software_version)
    return lasting_entry(resource, {"system": SYSTEM, "value": value})


def _version(what: str, value: str) -> Json:
    return {"type": {"text": what}, "value": clean.one_line(value) or "unknown"}


def _properties(facts: dict[str, str]) -> list[Json]:
    said = {name: clean.one_line(value) for name, value in facts.items()}
    return [{"type": {"text": name}, "valueCode": [{"text": value}]} for name, value in said.items() if value]
