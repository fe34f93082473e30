from dataclasses import replace

import pytest

from inference.bundles import PHANTOM_MARK
from inference.reading import DraftReport, UseMode
from reporting import wording
from tests.reporting.samples import TRIAGE, disagreeing, reading, unassessed

WORDS = wording.of("en")


def test_the_phantom_mark_is_the_bundles_own():
    assert wording.PHANTOM_MARK == PHANTOM_MARK


def test_finding_lines_say_each_decision():
    assert [WORDS.finding_line(finding) for finding in reading().findings] == [
        "Pneumothorax: present, probability 93.1 % (threshold 50.0 %), STAT.",
        "Pleural effusion: absent, probability 2.1 % (threshold 40.0 %).",
        "Pulmonary nodule: not assessable. The film is lateral.",
    ]


NONE_POSITIVE = replace(reading(), findings=reading().findings[1:2])
OUTCOMES = {
    "marked and open": (reading(), "Marked for review: Pneumothorax 93.1 % (STAT). Not assessable: Pulmonary nodule."),
    "nothing marked": (NONE_POSITIVE, "No finding reached its threshold; this does not exclude disease."),
    "not assessed": (unassessed(), "Not assessable: The catalogue does not cover CT."),
    "no findings asked": (replace(reading(), findings=()), "No finding was judged: the catalogue holds none for this study."),
    "all open": (replace(reading(), findings=reading().findings[2:]), "Not assessable: Pulmonary nodule."),
}


@pytest.mark.parametrize(("read", "wanted"), OUTCOMES.values(), ids=OUTCOMES)
def test_outcome(read, wanted: str):
    assert WORDS.outcome(read) == wanted


def test_no_draft_gives_the_nearest_reason():
    assert (
        WORDS.no_draft(replace(reading(), draft=DraftReport((), "No drafting model")))
        == "No draft text was made: No drafting model."
    )
    assert WORDS.no_draft(replace(unassessed("Lost"), draft=DraftReport(()))) == "No draft text was made: Lost."
    assert "gave no text" in WORDS.no_draft(replace(reading(), draft=DraftReport(())))


def test_notices_say_phantom_mode_and_permission():
    assert WORDS.notices(replace(reading(), models=(TRIAGE,))) == (WORDS.phrases.disclaimer,)
    said = " ".join(WORDS.notices(replace(reading(phantom=True), mode=UseMode.SHADOW)))
    assert all(word in said for word in (WORDS.phrases.disclaimer, PHANTOM_MARK, "shadow mode", "A. Person, 2026"))


def test_skipped_instances_are_counted_by_reason():
    assert WORDS.skipped_lines(reading()) == ("2 instances not read: no pixels.",)
    assert WORDS.unreferable(0) == ()
    assert WORDS.unreferable(1)[0].startswith("1 instance has")


def test_a_sentence_line_carries_what_contradicts_it():
    read = disagreeing()
    assert WORDS.sentence_line(read.draft.sentences[0], read) == (
        "No pneumothorax. [confidence 90.0 %] "
        "(the findings say otherwise: Pneumothorax: present, probability 93.1 % (threshold 50.0 %), STAT)"
    )
    assert WORDS.sentence_line(read.draft.sentences[1], read) == "Clear lungs. [confidence 80.0 %]"


def test_agreement_lines():
    assert WORDS.agreement_lines(disagreeing()) == (
        "The draft contradicts the findings: Pneumothorax (present).",
        "Not mentioned in the draft: Mass (present).",
    )
    assert WORDS.agreement_lines(reading()) == ()
    assert WORDS.checking_lines(reading()) == ()
