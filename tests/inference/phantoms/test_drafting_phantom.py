"""The phantom BiomedGPT: that it can be trained through the real form, and that the shipped one reports what was drawn."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
import torch

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.pictures import load_pictures
from inference.bundles import open_bundle, verify_bundle
from inference.consistency import check
from inference.drafting.drafter import Drafter
from inference.drafting.results import Task
from inference.phantoms import KEYS, bundle_folder, draw_phantom, train_drafting
from inference.phantoms.facts import sentences_of
from inference.phantoms.questions import KINDS
from inference.phantoms.score_drafting import FIRST_UNSEEN_SEED, named_findings, score_drafter
from inference.phantoms.score_tasks import TaskScore, score_tasks
from inference.reading import Code, Decision, DraftReport, Finding, Sentence, Urgency, UseMode
from inference.triage.catalogue import load_catalogue
from tests.support import save

CATALOGUE = load_catalogue(Path(__file__).parents[3] / "config" / "findings" / "chest_xray.yaml")
SHIPPED = bundle_folder("biomedgpt")

TEXTS = {
    "named": (["small left pneumothorax.", "no pleural effusion."], {"pneumothorax": "left"}),
    "denied": (["clear lungs.", "normal heart size.", "no pleural effusion.", "no pneumothorax."], {}),
    "two": (
        ["there is a large left pleural effusion.", "right mid zone nodule."],
        {"pleural_effusion": "left", "nodule": "right"},
    ),
    "capitals, no side": (["Tracheal tube device in place.", "No pneumothorax."], {"device": ""}),
    "without": (["clear lungs without consolidation."], {}),
    "nothing": ([], {}),
}


@pytest.mark.parametrize(("sentences", "wanted"), TEXTS.values(), ids=TEXTS)
def test_what_sentences_name(sentences: list[str], wanted: dict[str, str]) -> None:
    assert named_findings(sentences) == wanted


def test_training_makes_a_bundle_of_the_real_form(tmp_path: Path) -> None:
    plan = train_drafting.Plan(films=24, caption_epochs=1, epochs=1, seconds=60, words=200)
    bundle = train_drafting.train(tmp_path / "bundle", plan=plan, seed=3)
    verify_bundle(bundle)
    assert bundle.card.phantom
    assert set(bundle.card.allowed_modes) == set(UseMode)
    assert "not for patients" in bundle.card.intended_use
    drafter = Drafter.load(bundle, torch.device("cpu"))
    assert drafter.tasks == set(Task)
    assert score_drafter(drafter, range(3), size=64).films == 3
    assert set(score_tasks(drafter, range(2), size=64).questions) == set(KINDS)


def test_training_films_are_not_those_of_the_figures() -> None:
    assert FIRST_UNSEEN_SEED + 100_000 < train_drafting.FIRST_TRAINING_SEED


def test_patches_of_a_box() -> None:
    """The film is 8 patches a side."""
    assert train_drafting.GRID == 8
    cases = {(0.0, 1.0): slice(0, 8), (0.5, 0.75): slice(4, 6), (0.51, 0.54): slice(4, 5), (0.99, 1.0): slice(7, 8)}
    assert {box: train_drafting.covered(*box) for box in cases} == cases


def test_the_shipped_bundle_is_whole_small_and_marked() -> None:
    bundle = open_bundle(SHIPPED, kinds=["biomedgpt"])
    verify_bundle(bundle)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 6e6
    assert bundle.card == train_drafting.CARD
    assert "phantom – not for patients" in bundle.model_version().name


def test_the_shipped_bundle_reports_unseen_films() -> None:
    """A floor over few films; the benchmark holds the figures over many."""
    score = score_drafter(Drafter.load(open_bundle(SHIPPED), torch.device("cpu")), range(90_000, 90_060), size=256)
    assert score.named >= 0.85
    assert score.normal_kept >= 0.85
    assert score.sides_right >= 0.9
    assert max(score.false_mentions.values()) <= 0.1


@pytest.fixture(scope="module")
def drafter() -> Drafter:
    return Drafter.load(open_bundle(SHIPPED), torch.device("cpu"))


@pytest.fixture(scope="module")
def tasks(drafter: Drafter) -> TaskScore:
    return score_tasks(drafter, range(91_000, 91_024), size=192, texts=60)


def test_the_shipped_bundle_is_fit_for_every_task(drafter: Drafter) -> None:
    assert drafter.tasks == set(Task)


# Floors well below the figures of the benchmark: 24 films leave room for chance.
FLOORS = dict.fromkeys(KINDS, 0.75) | {"closed": 0.7, "side": 0.85, "device": 0.85, "modality": 0.9}


@pytest.mark.parametrize("kind", KINDS)
def test_questions_about_unseen_films(tasks: TaskScore, kind: str) -> None:
    assert tasks.questions[kind] >= FLOORS[kind]


def test_labels_of_unseen_films(tasks: TaskScore) -> None:
    assert tasks.classified >= 0.8


@pytest.mark.parametrize("relation", ["entailment", "contradiction", "neutral"])
def test_inferences_from_unseen_pairs(tasks: TaskScore, relation: str) -> None:
    assert tasks.inferences[relation] >= 0.7


def test_summaries_of_unseen_findings(tasks: TaskScore) -> None:
    assert tasks.summaries is not None
    assert tasks.summaries >= 0.85


def test_the_check_of_a_true_report_marks_nothing_and_of_a_false_one_marks_it(drafter: Drafter) -> None:
    """The reports are the drawn films' own; findings that say the opposite of them must be seen to."""
    kept = []
    for seed in range(92_000, 92_012):
        film = draw_phantom(seed, size=32)
        draft = DraftReport(tuple(Sentence(text, 1.0) for text in sentences_of(film.caption)))
        right = check(draft, findings(film.findings), CATALOGUE, drafter)
        wrong = check(draft, findings(set(KEYS) - film.findings), CATALOGUE, drafter)
        kept.append(not right.omits and not any(sentence.contradicts for sentence in right.sentences))
        against = {key for sentence in wrong.sentences for key in sentence.contradicts}
        assert film.findings <= against
    assert sum(kept) >= 11


def findings(present: Collection[str]) -> list[Finding]:
    code = Code("1", "SCT", "Finding")
    decisions = {key: Decision.POSITIVE if key in present else Decision.NEGATIVE for key in KEYS}
    return [Finding(key, code, None, Urgency.ROUTINE, 0.5, one, float(key in present)) for key, one in decisions.items()]


def test_films_that_came_as_dicom_are_read_alike(drafter: Drafter, tmp_path: Path) -> None:
    """A window over 12 bits, both photometric interpretations and another size: the same sentences."""
    for photometric, size in (("MONOCHROME2", 512), ("MONOCHROME1", 700)):
        ds = phantom_dx(90_005, size=size, photometric=photometric)
        (frame,) = load_pictures([save(ds, tmp_path / f"{photometric}.dcm")]).frames
        score = named_findings(sentence.text for sentence in drafter.draft([frame])[0].sentences)
        assert set(score) == draw_phantom(90_005, size=32).findings
