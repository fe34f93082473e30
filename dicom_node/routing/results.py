"""Rules on results: where else documents go because of what was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from dicom_node.frozen import Frozen
from dicom_node.routing.conditions import Judgement, Words, listed
from inference.reading import Decision, Finding, Reading, Urgency
from reporting.context import DocumentKind


def _some(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("a probability lies between 0 and 1")
    return value


class ResultConditions(Frozen):
    """All that is named must hold; ``finding``, ``decision``, ``urgency`` and ``min_probability`` of one and the same finding.

    ``finding``: keys of the catalogue. ``assessed``: whether the study could be read at all. ``route``: names of the routes by
    which the study came to its reading.
    """

    finding: Words = frozenset()
    decision: Annotated[frozenset[Decision], listed(lambda v: v.strip().lower())] = frozenset()
    urgency: Annotated[frozenset[Urgency], listed(str.strip)] = frozenset()
    min_probability: Annotated[float, AfterValidator(_some)] | None = None
    assessed: bool | None = None
    route: Words = frozenset()

    def hold(self, reading: Reading, route: str) -> bool:
        return all(one.holds for one in self.judge(reading, route))

    def judge(self, reading: Reading, route: str) -> Iterator[Judgement]:
        """Each condition by itself."""
        if self.route:
            yield Judgement(f"route: {' or '.join(sorted(self.route))}", route in self.route)
        if self.assessed is not None:
            yield Judgement(f"assessed: {str(self.assessed).lower()}", reading.assessed == self.assessed)
        if self._of_a_finding:
            yield Judgement(f"a finding with {self._of_a_finding}", any(map(self._is_meant, reading.findings)))

    @property
    def words(self) -> tuple[str, ...]:
        """The conditions as ``judge`` names them, of no reading."""
        finding = f"a finding with {self._of_a_finding}" if self._of_a_finding else ""
        assessed = "" if self.assessed is None else f"assessed: {str(self.assessed).lower()}"
        route = f"route: {' or '.join(sorted(self.route))}" if self.route else ""
        return tuple(word for word in (route, assessed, finding) if word)

    @property
    def _of_a_finding(self) -> str:
        parts = (
            f"finding: {' or '.join(sorted(self.finding))}" if self.finding else "",
            f"decision: {' or '.join(sorted(self.decision))}" if self.decision else "",
            f"urgency: {' or '.join(sorted(self.urgency))}" if self.urgency else "",
            f"min_probability: {self.min_probability:g}" if self.min_probability is not None else "",
        )
        return ", ".join(part for part in parts if part)

    def _is_meant(self, finding: Finding) -> bool:
        return (
            (not self.finding or finding.key in self.finding)
            and (not self.decision or finding.decision in self.decision)
            and (not self.urgency or finding.urgency in self.urgency)
            and (self.min_probability is None or (finding.probability or 0.0) >= self.min_probability)
        )


class ResultRule(Frozen):
    """Where a result that meets the conditions goes beside the destinations of its route.

    ``documents``: which kinds; none: those the destination takes. Every rule that holds counts.
    """

    name: str = Field(min_length=1, max_length=64)
    when: ResultConditions
    destinations: tuple[str, ...] = Field(min_length=1)
    documents: Annotated[tuple[DocumentKind, ...], listed(str.strip)] = ()
