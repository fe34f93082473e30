"""A query against the index: the same for C-FIND and QIDO-RS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from dicom_node.index.headers import INSTANCE, SERIES, Attributes, tags_of
from dicom_node.index.matching import Key, matches, narrowed
from dicom_node.remote.matches import Level
from dicom_node.storage.database import Database
from dicom_node.storage.index import Narrow, Row, search_instances, search_series, search_studies

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SEARCH: Final[dict[Level, Callable[[Connection, Narrow], Iterator[Row]]]] = {
    Level.STUDY: search_studies,
    Level.SERIES: search_series,
    Level.IMAGE: search_instances,
}

_OF_SERIES: Final = frozenset(tags_of(SERIES))
_OF_INSTANCE: Final = frozenset(tags_of(INSTANCE))
_BELOW: Final = {Level.STUDY: _OF_SERIES | _OF_INSTANCE, Level.SERIES: _OF_INSTANCE, Level.IMAGE: frozenset[str]()}


@dataclass(frozen=True, slots=True)
class Page:
    """``matches``: the attributes of each, of its level and those above. ``more``: there are others after them."""

    matches: tuple[Attributes, ...]
    more: bool


def search(db: Database, level: Level, keys: Sequence[Key], most: int, offset: int = 0) -> Page:
    """At most ``most`` matches after the first ``offset``, the newest studies first. Raises StorageError.

    Keys of the levels above count too (relational queries, PS3.4 C.4.1.2.2.2), those of levels below do not. ``level``: STUDY,
    SERIES or IMAGE.
    """
    wanted = [one for one in keys if one.tag not in _BELOW[level]]
    with db.read() as conn:
        found = _matching(_SEARCH[level](conn, narrowed(wanted)), wanted)
        page = tuple(islice(found, offset, offset + most + 1))
    return Page(page[:most], len(page) > most)


def _matching(rows: Iterator[Row], keys: Sequence[Key]) -> Iterator[Attributes]:
    for row in rows:
        told: Attributes = {}
        for text in (row.study, row.series, row.instance):
            if text:
                told |= json.loads(text)
        if matches(told, keys):
            yield told
