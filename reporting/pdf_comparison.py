"""The comparison with earlier studies on the page: a small table for each, and what cannot be compared by its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from reportlab.lib import colors
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table

from reporting.comparison import Change, Comparison
from reporting.materials import Materials
from reporting.pdf_text import paragraph, styled
from reporting.wording import Words, fill, sentence
from reporting.wording.compared import Told, prior_name, told

_MOST_PRIORS: Final = 3  # the newest; a page has room for no more
_SEEN: Final = {Change.NEW: colors.Color(0.72, 0.05, 0.05), Change.KNOWN: colors.black, Change.GONE: colors.black}
_GREY: Final = colors.Color(0.25, 0.25, 0.25)
_OCHRE: Final = colors.Color(0.55, 0.38, 0)


def comparison(made: Materials, head: ParagraphStyle) -> Iterator[Flowable]:
    """Nothing where there is no earlier study. ``head``: of its heading."""
    priors = made.source.comparisons(made.reading)
    if not priors:
        return
    said = made.words.phrases
    yield Spacer(1, 3 * mm)
    yield paragraph(said.comparison, head)
    yield paragraph(said.comparison_standing, styled(7, colour=_GREY, after=3))
    for prior in priors[:_MOST_PRIORS]:
        yield from _prior(made, prior)
    if len(priors) > _MOST_PRIORS:
        yield paragraph(fill(said.more_priors, count=str(len(priors) - _MOST_PRIORS)), styled(7))


def _prior(made: Materials, prior: Comparison) -> Iterator[Flowable]:
    """What was seen then or now as a table, the rest in a line each."""
    words = made.words
    lines = told(words, prior, made.reading)
    yield paragraph(prior_name(words, prior), styled(8, bold=True, after=0))
    yield paragraph(fill(words.phrases.prior_uid, uid=prior.study_uid), styled(6, colour=colors.grey, after=1))
    if rows := [one for one in lines if one.what in _SEEN]:
        yield _table(rows, words)
    if absent := [_named(one) for one in lines if one.what is Change.ABSENT]:
        yield paragraph(fill(words.phrases.absent_both, names=", ".join(absent)), styled(7.5, colour=_GREY))
    reasons: dict[str, list[str]] = {}
    for one in lines:
        if one.what is Change.NOT_COMPARABLE:
            reasons.setdefault(one.change, []).append(_named(one))
    for reason, names in reasons.items():
        yield paragraph(sentence(f"{', '.join(names)}: {reason}"), styled(7.5, colour=_OCHRE))
    yield Spacer(1, 1.5 * mm)


def _table(rows: Sequence[Told], words: Words) -> Table:
    said = words.phrases
    small = styled(6.5, colour=colors.grey, after=0)
    header = [paragraph(name, small) for name in (said.column_finding, said.column_change, said.column_then)]
    table = Table([header, *map(_row, rows)], colWidths=[34 * mm, 27 * mm, 31 * mm], hAlign="LEFT")
    table.setStyle(
        [
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
        ]
    )
    return table


def _named(one: Told) -> str:
    return f"{one.name} ({one.then})" if one.then else one.name


def _row(one: Told) -> list[Flowable]:
    style = styled(8, bold=one.what is Change.NEW, colour=_SEEN[one.what], after=0)
    return [paragraph(text, style) for text in (one.name, one.change, one.then)]
