"""The findings of a catalogue judged by a drafting model: a closed question for each, answered yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from inference.drafting.drafter import Drafter
from inference.reading import Finding, Frame
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.judge import judge

QUESTION: Final = "does the image show {}?"  # as in the questions the public checkpoints were trained on
_CANDIDATES: Final = ("yes", "no")


def ask_findings(drafter: Drafter, catalogue: FindingsCatalogue, frames: Sequence[Frame]) -> tuple[Finding, ...]:
    """Findings as triage gives them, of at least one frame; the probability is that of "yes" beside "no".

    Raises BundleError where the model answers no questions, DeviceError.
    """
    questions = [QUESTION.format(entry.display.lower()) for entry in catalogue.findings]
    probabilities = np.full((len(frames), len(questions)), np.nan, np.float32)
    for row, frame in enumerate(frames):
        choices = drafter.choose([frame] * len(questions), questions, _CANDIDATES)
        for column, choice in enumerate(choices):
            said = {score.text: score.probability for score in choice.scores}
            probabilities[row, column] = said.get("yes", np.nan)
    return judge(catalogue, frames, probabilities, catalogue.keys)
