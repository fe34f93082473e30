"""Settings and routes as a person has written them: read without a guess, their faults told in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from inference.unique_keys import UniqueKeys


def read_yaml(text: str) -> Any:
    """Raises yaml.YAMLError, also for a key that is written twice in one place."""
    return yaml.load(text, UniqueKeys)  # a SafeLoader


def first_faults(faults: Sequence[Any]) -> list[Any]:
    """Of pydantic's errors those that stand by themselves: a list is not also too short because an entry of it is at fault."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short" or not any(place[: len(fault["loc"])] == fault["loc"] != place for place in places)
    ]


def in_words(fault: Any) -> str:
    """One of pydantic's errors for who writes YAML and knows neither Python nor regular expressions."""
    kind, told = fault["type"], fault.get("ctx", {})
    if kind == "tuple_type":
        value = fault["input"]
        if fault["loc"][-1:] == ("hours",):  # YAML 1.1 takes 22:00 for a number to the base of 60
            return 'give a span of time in quotes, such as "22:00-06:30"'
        return f"give a list, such as [{value if isinstance(value, str | int | float) else '…'}]"
    if kind == "too_short":
        return "give at least 1"
    if kind == "union_tag_not_found":
        return "say of which 'kind' it is, such as {kind: dicom, …}"
    if kind == "union_tag_invalid":
        return f"kind {told['tag']!r} is not known; there are: {told['expected_tags']}"
    if kind == "string_pattern_mismatch" and str(told["pattern"]).lstrip("^(").startswith("http"):
        return "give an address that begins with https:// or http://"
    return str(fault["msg"]).removeprefix("Value error, ")
