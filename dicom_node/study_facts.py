"""What routes may ask of a study, from its rows and, where a route asks for more, from the images' headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

from dicom_node.pixels.quiet import quiet
from dicom_node.routing import StudyFacts
from dicom_node.storage.instances import InstanceRow


def study_facts(instances: Sequence[InstanceRow], at: datetime | None, path: Callable[[str], Path]) -> StudyFacts:
    """``at``: the moment, in local time. ``path``: where the file of a row's path lies."""
    read = [row for row in instances if not row.set_aside]
    firsts = list({row.series_uid: path(row.path) for row in reversed(read)}.values())
    return StudyFacts(
        modalities=_terms(row.modality for row in read),
        body_parts=_terms(row.body_part for row in read),
        calling_aes=frozenset(row.calling_ae for row in read),
        requested_priorities=_terms(row.requested_priority for row in read),
        called_aes=frozenset(row.called_ae for row in read),
        hosts=frozenset(row.host for row in read),
        attribute=attribute_of(firsts),
        at=at,
    )


def attribute_of(paths: Sequence[Path]) -> Callable[[str], frozenset[str]]:
    """The values of an attribute over some files, read when asked for and once. A file that cannot be read has none."""

    @cache
    def values(keyword: str) -> frozenset[str]:
        return frozenset(value for path in paths for value in _values(path, keyword))

    return values


def _values(path: Path, keyword: str) -> list[str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        return []
    try:
        with quiet():
            value = dcmread(path, stop_before_pixels=True, specific_tags=[tag], force=True).get(keyword)
    except Exception:  # noqa: BLE001  whatever a header does to the reader, the study is routed by the rest
        return []
    if value is None:
        return []
    return [str(one) for one in (value if isinstance(value, MultiValue) else [value])]


def _terms(values: Iterable[str]) -> frozenset[str]:
    return frozenset(value.upper() for value in values if value)
