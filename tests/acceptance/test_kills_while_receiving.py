"""Hundreds of kill -9 while DCMTK sends: what was acknowledged is there with the sent bytes, nothing is half-written.

WETREAD_SEED repeats a run, WETREAD_KILLS makes it longer.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from .harness.kills import Killing

KILLS = int(os.environ.get("WETREAD_KILLS") or 200)


@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_whenever_the_listener_dies(tmp_path: Path) -> None:
    seed = int(os.environ.get("WETREAD_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed}")
    outcome = Killing(tmp_path, seed, objects=KILLS * 15).run(KILLS)
    print(f"{outcome.kills} kills, {outcome.in_flight} before an answer; {len(outcome.acknowledged)} acknowledged")
    assert outcome.faults == [], f"seed {seed}"
    assert outcome.kills == KILLS
    assert outcome.in_flight > KILLS // 20, "too few deaths struck an object on its way"
