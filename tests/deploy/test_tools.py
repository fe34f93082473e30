"""The parser of our commands refuses what the program would refuse."""

from __future__ import annotations

import pytest

from .tools import UNKNOWN, must_parse


@pytest.mark.parametrize("line", ["serve --config x.yaml", "jobs list --state dead", "events --kind conflict --limit 3"])
def test_a_command_of_the_program_is_taken(line: str) -> None:
    must_parse(line.split())


@pytest.mark.parametrize("line", ["srve", "serve --confg x", "jobs lst", "jobs show", "events --limit many"])
def test_any_other_is_refused(line: str) -> None:
    with pytest.raises(UNKNOWN):
        must_parse(line.split())
