"""What a model makes of a catalogue's words. An untrained BERT says nearly the same of all: every warning is due."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.bundles import Bundle
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.prompt_check import NEAR, PromptModel, check_prompts

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def untrained(judges_all: Bundle) -> PromptModel:
    return PromptModel(judges_all, CPU)


def test_sides_and_kinds_that_are_nearly_one_are_told(catalogue: FindingsCatalogue, untrained: PromptModel) -> None:
    """Oracle: the cosine of the mean embeddings, and the sigmoid at the longest the margin can be."""
    notes = check_prompts(catalogue, untrained)
    assert not any(note.fault for note in notes)
    entry = catalogue.findings[0]
    means = [untrained.embed_texts(catalogue.texts(side)).mean(axis=0) for side in (entry.positive, entry.negative)]
    positive, negative = (mean / np.linalg.norm(mean) for mean in means)
    assert positive @ negative > NEAR, "an untrained model that tells them apart is no case for this test"
    (told,) = (note.words for note in notes if note.words.startswith(f"finding {entry.key}:"))
    assert f"(cosine {positive @ negative:.3f})" in told
    most = 1 / (1 + np.exp(-untrained.scale * np.linalg.norm(positive - negative)))
    low, high = (float(found) for found in re.findall(r"outside (\S+) to ([\d.]+):", told)[0])
    assert (low, high) == pytest.approx((1 - most, most), abs=0.006)
    assert any(note.words.startswith("kinds chest_frontal and ") for note in notes)


def test_a_prompt_that_is_cut_is_a_fault(catalogue: FindingsCatalogue, untrained: PromptModel) -> None:
    cut = replace(catalogue.findings[2], positive=("lung " * 280,))
    notes = check_prompts(replace(catalogue, findings=(*catalogue.findings[:2], cut)), untrained)
    assert len(notes) == len(catalogue.templates)
    assert all(note.fault and "lung lung" in note.words and "longer than this model reads" in note.words for note in notes)


def test_what_a_bundle_was_not_trained_for_is_told_and_not_measured(
    catalogue: FindingsCatalogue, random_bundle: Bundle
) -> None:
    words = [note.words for note in check_prompts(catalogue, PromptModel(random_bundle, CPU))]
    assert "the model was not trained for pneumomediastinum" in words[0]
    assert not any(line.startswith("finding pneumomediastinum") for line in words)
