"""Every sentence and label of our documents, by name: what a language must have a form of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """The sentences of one language.

    ``{placeholders}`` stand for what a document knows; one written with a capital (``{Reason}``) is put in with a capital, for
    languages that begin a sentence so after a colon. Dates are formats of ``datetime.strftime``. Series descriptions have at
    most 64 characters (LO), with the mark of a phantom too.
    """

    decimal: str  # what stands before the decimals
    either: str  # between the last of several things
    date: str
    time: str

    # Standing
    disclaimer: str
    burned_in: str
    phantom: str
    research: str
    shadow: str
    acknowledged: str
    no_interpreter: str
    draft_language: str  # said where the models write another language than the document's; empty where they do not
    revision: str

    # Titles of series and documents
    findings_series: str
    draft_series: str
    heat_map_series: str
    outlines_series: str
    signed_series: str
    phantom_series: str

    # Findings
    finding_positive: str
    finding_negative: str
    finding_open: str
    present: str
    absent: str
    not_assessable: str
    stat: str
    urgent: str
    routine: str
    not_assessed: str
    no_reason: str

    # Outcome
    none_asked: str
    marked: str
    marked_finding: str
    open_findings: str
    none_reached: str

    # Comparison with earlier studies
    comparison: str
    comparison_standing: str
    prior_days: str
    prior_day: str
    prior_same_day: str
    prior_on: str  # of a study whose own day is not told
    prior_undated: str
    prior_uid: str
    change_new: str
    change_known: str
    change_gone: str
    change_absent: str
    change_open: str
    then_judged: str
    not_compared: str
    compared_judged: str
    compared_open: str
    compared_both: str
    open_now: str
    open_then: str
    not_asked: str
    other_model: str
    other_catalogue: str
    other_head: str

    # Draft
    drafted: str
    otherwise: str
    contradicted: str
    omitted: str
    named_finding: str
    compared: str
    note: str
    no_draft: str
    no_text: str
    drafted_by: str
    impression: str
    prepared_with: str

    # What was not read
    skipped_one: str
    skipped_many: str
    unreferable_one: str
    unreferable_many: str

    # Who made it
    catalogue: str
    model: str
    model_card: str
    model_type: str
    node_type: str
    head: str
    method: str
    method_of: str
    aggregation: str
    zero_shot: str
    calibrated: str
    probe: str

    # Headings and labels of pages
    outcome: str
    draft: str
    draft_report: str
    draft_impression: str
    findings: str
    made_by: str
    not_read: str
    none: str
    none_held: str
    open_line: str
    answer_positive: str
    column_finding: str
    column_answer: str
    column_probability: str
    column_threshold: str
    column_change: str
    column_then: str
    absent_both: str
    label_patient: str
    label_patient_id: str
    label_born: str
    label_sex: str
    sex_female: str
    sex_male: str
    sex_other: str
    label_accession: str
    label_study: str
    label_read: str
    label_revision: str
    label_catalogue: str

    # Pictures
    hottest: str
    coldest: str
    map_caption: str
    derivation: str
    more_maps: str
    more_priors: str
    no_map: str
    unread_picture: str
    no_picture: str
    percent_unit: str
