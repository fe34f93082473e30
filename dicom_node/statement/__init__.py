"""The DICOM Conformance Statement (PS3.2 annex A): a text with tables that the code's own tables fill."""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.settings import Settings
from dicom_node.statement.tables import TABLES

_TEXT = Path(__file__).with_name("statement.md")
_PLACE = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)


def statement(settings: Settings) -> str:
    """The whole statement as Markdown, for the AE titles, ports and limits of ``settings``."""
    return _PLACE.sub(lambda found: TABLES[found[1]](settings), _TEXT.read_text("utf-8"))


def places() -> tuple[str, ...]:
    """The names of the tables that the text asks for, in order."""
    return tuple(_PLACE.findall(_TEXT.read_text("utf-8")))
