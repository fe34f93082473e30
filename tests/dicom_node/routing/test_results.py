"""Rules on results: which of them hold for a reading."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_node.routing import ResultConditions
from inference.reading import Decision, Reading
from tests.reporting.samples import reading

SAMPLE = reading()
POSITIVE = next(one for one in SAMPLE.findings if one.decision is Decision.POSITIVE)
NEGATIVE = next(one for one in SAMPLE.findings if one.decision is Decision.NEGATIVE)
UNREAD = replace(SAMPLE, findings=(), reason="the study holds no radiograph")

HOLDS: dict[str, tuple[dict[str, Any], Reading, bool]] = {
    "its key": ({"finding": POSITIVE.key}, SAMPLE, True),
    "its key and decision": ({"finding": POSITIVE.key, "decision": "positive"}, SAMPLE, True),
    "another's decision does not count": ({"finding": NEGATIVE.key, "decision": "positive"}, SAMPLE, False),
    "urgency and decision of one": ({"urgency": POSITIVE.urgency.value, "decision": "Positive"}, SAMPLE, True),
    "sure enough": ({"decision": "positive", "min_probability": POSITIVE.probability}, SAMPLE, True),
    "not sure enough": ({"finding": POSITIVE.key, "min_probability": 1.0}, SAMPLE, False),
    "a key nobody judged": ({"finding": "gout"}, SAMPLE, False),
    "assessed": ({"assessed": True}, SAMPLE, True),
    "not assessed": ({"assessed": False}, UNREAD, True),
    "not assessed has no finding": ({"assessed": False, "decision": "positive"}, UNREAD, False),
    "route": ({"route": ["night"]}, SAMPLE, True),
    "another route": ({"route": "day", "assessed": True}, SAMPLE, False),
}


@pytest.mark.parametrize(("when", "read", "holds"), HOLDS.values(), ids=HOLDS)
def test_a_condition_on_a_result(when: dict[str, Any], read: Reading, holds: bool) -> None:
    assert ResultConditions.model_validate(when).hold(read, "night") is holds
