"""The comparison with one earlier study as a FHIR Observation: the model's own earlier word, never a radiologist's."""

from __future__ import annotations

from inference.reading import Code, Reading
from reporting import codes
from reporting.comparison import Compared, Comparison
from reporting.fhir_parts import DICOM_UID_SYSTEM, Json, concept, logical, present, terminology
from reporting.wording import Words
from reporting.wording.compared import Told, codes_of, compared_lines, prior_line, told


def comparison_body(prior: Comparison, reading: Reading, words: Words) -> Json:
    """What an Observation says of one earlier study: in words as its value, the change of each finding as components.

    The study is named by its UID alone (R4 2.3.0.2): the record may hold it under an id and with content of its own, which a
    resource of ours would double or replace.
    """
    line = prior_line(words, prior)
    identifier = {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{prior.study_uid}"}
    rows = zip(prior.findings, codes_of(prior, reading), told(words, prior, reading), strict=True)
    text = " ".join([f"{line}.", *compared_lines(words, prior, reading)])
    return present(
        code=concept(codes.PREVIOUS_FINDINGS, words.phrases.comparison),
        **({"valueString": text} if any(one.obstacle is None for one in prior.findings) else _nothing(text)),
        derivedFrom=[logical("ImagingStudy", identifier, line)],
        note=[{"text": f"{words.phrases.comparison_standing} {words.phrases.disclaimer}"}],
        component=[_component(*row, words) for row in rows],
    )


def _nothing(text: str) -> Json:
    """Of a study with which nothing could be compared: the reason for each finding stands in the words."""
    return {"dataAbsentReason": {**terminology("data-absent-reason", "not-performed", "Not Performed"), "text": text}}


def _component(one: Compared, code: Code, said: Told, words: Words) -> Json:
    """The change, and in its text what was said then."""
    text = f"{said.change} ({words.phrases.column_then}: {said.then})" if said.then else said.change
    return {
        "code": concept(code, words.name(code)),
        "valueCodeableConcept": concept(codes.CHANGE_OF[one.change], text),
    }
