"""Conditions on a study: a small typed form, checked when the file is loaded. Nothing is evaluated as code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydicom.datadict import tag_for_keyword

from dicom_node.frozen import Frozen
from dicom_node.routing.facts import StudyFacts

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[str, ...]] = get_args(Weekday)  # in the order of datetime.weekday
_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Judgement:
    """One condition of a study, in words, and whether it holds. ``depth``: how deep it stands under all, any or not."""

    text: str
    holds: bool
    depth: int = 0


def listed(change: Callable[[str], str]) -> BeforeValidator:
    """One value or a list of them; numbers and dates that YAML makes of words stay what they are and are refused."""

    def read(value: Any) -> Any:
        values = [value] if isinstance(value, str) else value
        return [change(v) if isinstance(v, str) else v for v in values] if isinstance(values, list | tuple) else values

    return BeforeValidator(read)


def _network(value: str) -> str:
    ip_network(value, strict=False)
    return value


def _span(value: str) -> str:
    if _SPAN.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no span of time such as 22:00-06:30 (write it in quotes)")
    return value


def _keywords(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for keyword in value:
        if tag_for_keyword(keyword) is None:
            raise ValueError(f"{keyword!r} is no keyword of a DICOM attribute (PS3.6), such as StationName")
    return value


Terms = Annotated[frozenset[str], listed(lambda v: v.strip().upper())]
Words = Annotated[frozenset[str], listed(str.strip)]
Networks = Annotated[frozenset[Annotated[str, AfterValidator(_network)]], listed(str.strip)]
Spans = Annotated[tuple[Annotated[str, AfterValidator(_span)], ...], listed(str.strip)]
Attributes = Annotated[dict[str, Words], AfterValidator(_keywords)]


class Conditions(Frozen):
    """All that is named must hold. A list holds when the study has any of its values.

    ``modality``, ``body_part``, ``requested_priority``: whatever the case. ``calling_ae``, ``called_ae``: exact in case.
    ``host``: networks (CIDR) or addresses of the sender. ``attributes``: keyword to values, in which ``*`` stands for anything;
    whatever the case. ``hours``: local time, "22:00-06:30", the end not included. ``weekdays``: mon to sun, of the same moment.
    ``all``, ``any``, ``not``: conditions of which all, any one, or none must hold.
    """

    model_config = ConfigDict(populate_by_name=True)

    modality: Terms = frozenset()
    body_part: Terms = frozenset()
    calling_ae: Words = frozenset()
    called_ae: Words = frozenset()
    host: Networks = frozenset()
    requested_priority: Terms = frozenset()
    attributes: Attributes = Field(default_factory=dict)
    hours: Spans = ()
    weekdays: Annotated[frozenset[Weekday], listed(lambda v: v.strip().lower()[:3])] = frozenset()
    all: tuple[Conditions, ...] = ()
    any: tuple[Conditions, ...] = ()
    not_: Conditions | None = Field(default=None, alias="not")

    def hold(self, study: StudyFacts) -> bool:
        return all(one.holds for one in self.judge(study) if one.depth == 0)

    def judge(self, study: StudyFacts, depth: int = 0) -> Iterator[Judgement]:
        """Each condition by itself, and under it those it is made of."""
        for text, holds in (*self._sets(study), *self._attributes(study), *self._moment(study.at)):
            yield Judgement(text, holds, depth)
        yield from self._nested(study, depth)

    def _sets(self, study: StudyFacts) -> Iterator[tuple[str, bool]]:
        pairs = (
            ("modality", self.modality, study.modalities),
            ("body_part", self.body_part, study.body_parts),
            ("calling_ae", self.calling_ae, study.calling_aes),
            ("called_ae", self.called_ae, study.called_aes),
            ("requested_priority", self.requested_priority, study.requested_priorities),
        )
        for name, wanted, found in pairs:
            if wanted:
                yield f"{name}: {_either(wanted)}", not wanted.isdisjoint(found)
        if self.host:
            yield f"host: {_either(self.host)}", any(map(self._from_here, study.hosts))

    def _from_here(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in ip_network(network, strict=False) for network in self.host)

    def _attributes(self, study: StudyFacts) -> Iterator[tuple[str, bool]]:
        for keyword, wanted in self.attributes.items():
            found = [value.strip().upper() for value in study.attribute(keyword)]
            holds = any(fnmatchcase(value, pattern.upper()) for value in found for pattern in wanted)
            yield f"attributes: {keyword} {_either(wanted)}", holds

    def _moment(self, at: datetime | None) -> Iterator[tuple[str, bool]]:
        if self.hours:
            yield f"hours: {_either(self.hours)}", at is not None and any(_within(span, at.time()) for span in self.hours)
        if self.weekdays:
            yield f"weekdays: {_either(self.weekdays)}", at is not None and WEEKDAYS[at.weekday()] in self.weekdays

    def _nested(self, study: StudyFacts, depth: int) -> Iterator[Judgement]:
        if self.all:
            yield Judgement("all of:", all(one.hold(study) for one in self.all), depth)
            yield from self._below(self.all, study, depth)
        if self.any:
            yield Judgement("any of:", any(one.hold(study) for one in self.any), depth)
            yield from self._below(self.any, study, depth)
        if self.not_ is not None:
            yield Judgement("not:", not self.not_.hold(study), depth)
            yield from self._below((self.not_,), study, depth)

    @staticmethod
    def _below(parts: tuple[Conditions, ...], study: StudyFacts, depth: int) -> Iterator[Judgement]:
        for part in parts:
            yield from part.judge(study, depth + 1)


def _within(span: str, at: time) -> bool:
    """Whether a time of day lies in a span, which may go over midnight; "00:00-00:00" is the whole day."""
    start, end = (time.fromisoformat(part) for part in span.split("-"))
    return start <= at < end if start < end else at >= start or at < end


def _either(values: Any) -> str:
    return " or ".join(sorted(values))
