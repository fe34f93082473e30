"""Chaos, the short form: studies stream in while processes are killed and paused, disks fill, lines break and peers lie.

At the end, with nobody's hand, every acknowledged study has exactly one current result at every destination. The long form is
benchmarks/chaos.py. WETREAD_SEED repeats a run, or draws other faults; WETREAD_CHAOS_S makes it longer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.storage.jobs import JobState

from .harness.chaos.faults import PERMANENT, FaultKind, schedule
from .harness.chaos.found import Found
from .harness.chaos.invariant import check
from .harness.chaos.run import Outcome, Wish, run
from .harness.chaos.site import Plan

SEED = int(os.environ.get("WETREAD_SEED") or 20_261_122)
SECONDS = float(os.environ.get("WETREAD_CHAOS_S") or 25)
KINDS = frozenset(FaultKind) - PERMANENT


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(tmp_path_factory.mktemp("one"), Wish(SEED, SECONDS, Plan(1), KINDS, every_s=1.7))


def told(outcome: Outcome) -> str:
    """What a reader of the log wants to see, and that something happened at all."""
    print(f"seed {outcome.wish.seed}: {outcome.studies} studies, {outcome.images} images, {outcome.revisions} revisions,"
          f" {outcome.documents} documents, {len(outcome.faults)} faults, settled after {outcome.settled_s} s")  # fmt: skip
    print(f"starts: {outcome.starts}; left out: {outcome.left_out}")
    for fault in outcome.faults:
        print(fault)
    assert outcome.studies >= 5
    assert outcome.revisions > outcome.studies, "no late image opened a revision"
    assert outcome.documents >= 4 * outcome.studies
    return outcome.text


@pytest.mark.timeout(600)
def test_one_machine_on_sqlite(one_machine: Outcome) -> None:
    assert told(one_machine) == ""
    assert one_machine.dead == 0


@pytest.mark.timeout(600)
def test_two_machines_on_postgresql(tmp_path: Path) -> None:
    outcome = run(tmp_path, Wish(SEED + 1, SECONDS, Plan(2), KINDS, every_s=1.7))
    assert told(outcome) == ""
    assert outcome.dead == 0


# Each with faults that bring it to light
PLANTED = {
    "failures-count-as-done": {FaultKind.PACS_FULL, FaultKind.RIS_BUSY, FaultKind.RECORD_REFUSES},
    "forgets-outbox-rows": {FaultKind.RIS_BUSY},
}


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.timeout(300)
def test_a_planted_bug_is_caught(bug: str, tmp_path: Path) -> None:
    """The same harness over a node with a bug in it: the checker says what is missing, and how to repeat it."""
    plan = Plan(1, f"synthetic,bug={bug}", small_disk=False)
    outcome = run(tmp_path, Wish(SEED, 6, plan, PLANTED[bug], every_s=1.2, patience_s=6))
    print(outcome.text)
    assert outcome.violations
    assert f"Seed {SEED}" in outcome.text
    assert "WRONG: " in outcome.text
    assert "PHANTOM-" not in outcome.text  # a patient's identifier


def _without_a_report(one: Found) -> Found:
    return replace(one, reports=one.reports[1:])


def _with_a_second_report(one: Found) -> Found:
    return replace(one, reports=(*one.reports, replace(one.reports[0], uid="2.25.1")))


def _with_a_report_twice(one: Found) -> Found:
    return replace(one, reports=(*one.reports, one.reports[0]))


def _with_an_image_unseen(one: Found) -> Found:
    return replace(one, acknowledged=one.acknowledged | {"2.25.2"})


def _with_two_heads(one: Found) -> Found:
    if not any(report.replaces for report in one.reports):
        pytest.skip("no study of this run got two results: the machine is too slow")
    return replace(one, reports=tuple(replace(report, replaces=frozenset()) for report in one.reports))


def _without_an_entry(one: Found) -> Found:
    return replace(one, entries=())


def _with_old_words(one: Found) -> Found:
    return replace(one, entries=tuple(replace(entry, conclusion="old") for entry in one.entries))


def _without_a_message(one: Found) -> Found:
    return replace(one, messages={})


def _with_two_texts_of_a_message(one: Found) -> Found:
    return replace(one, messages={control: Counter({"a": 1, "b": 1}) for control in one.messages})


def _without_a_file(one: Found) -> Found:
    return replace(one, files=dict(list(one.files.items())[1:]))


def _with_a_torn_file(one: Found) -> Found:
    return replace(one, files=dict.fromkeys(one.files, "00"))


def _with_a_job_that_waits(one: Found) -> Found:
    return replace(one, jobs=(replace(one.jobs[0], state=JobState.LEASED), *one.jobs[1:]))


def _with_a_dead_job(one: Found) -> Found:
    return replace(one, jobs=(replace(one.jobs[0], state=JobState.DEAD), *one.jobs[1:]))


def _with_a_late_image_forgotten(one: Found) -> Found:
    assert one.row is not None
    return replace(one, row=replace(one.row, dirty=True))


def _unknown(one: Found) -> Found:
    return replace(one, row=None)


DAMAGE: tuple[Callable[[Found], Found], ...] = (
    _without_a_report, _with_a_second_report, _with_a_report_twice, _with_an_image_unseen, _with_two_heads, _without_an_entry,
    _with_old_words, _without_a_message, _with_two_texts_of_a_message, _without_a_file, _with_a_torn_file,
    _with_a_job_that_waits, _with_a_dead_job, _with_a_late_image_forgotten, _unknown,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.strip("_"))
def test_the_checker_sees(damage: Callable[[Found], Found], one_machine: Outcome) -> None:
    """A study that passes, of two revisions where there is one, is damaged in one way, and passes no more."""
    good = max((one for one in one_machine.found if not check(one)), key=lambda one: len(one.reports))
    assert check(damage(good))


def test_the_same_seed_makes_the_same_schedule() -> None:
    first, second, other = (schedule(seed, 60, KINDS, 2) for seed in (5, 5, 6))
    assert first == second
    assert first != other
    assert {fault.kind for fault in schedule(5, 300, KINDS)} == KINDS
