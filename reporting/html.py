"""The reading as one small HTML page: the form that a record shows (DiagnosticReport.presentedForm)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from inference.reading import Reading
from reporting.comparison import Comparison
from reporting.fhir_parts import Json
from reporting.heads import deciding_heads
from reporting.options import DocumentOptions
from reporting.wording import Words, capital
from reporting.wording.compared import prior_line, told

_NO_XML: Final = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def presented_form(sections: str, options: DocumentOptions, created: str) -> Json:
    """An Attachment with its size in bytes and the base64 of its SHA-1 (R4 2.24.0.1)."""
    page = render(sections, options.words).encode()
    return {
        "contentType": "text/html",
        "language": options.language,
        "data": base64.b64encode(page).decode(),
        "size": len(page),
        "hash": base64.b64encode(hashlib.sha1(page, usedforsecurity=False).digest()).decode(),
        "title": options.words.phrases.draft_series,
        "creation": created,
    }


def narrative(sections: str, words: Words) -> Json:
    """The same text as DiagnosticReport.text, which IHE RAD IMR requires; *additional*, for the draft is no data elsewhere."""
    language = escape(words.language)
    opening = f'<div xmlns="http://www.w3.org/1999/xhtml" lang="{language}" xml:lang="{language}">'
    return {"status": "additional", "div": f"{opening}{sections}</div>"}


def render(sections: str, words: Words) -> str:
    """A page without scripts, styles or links to anything outside."""
    title = _text(words.phrases.draft_series)
    head = f'<head><meta charset="utf-8"><title>{title}</title></head>'
    body = f"<body><h1>{title}</h1>{sections}</body>"
    return f'<!DOCTYPE html>\n<html lang="{escape(words.language)}">{head}{body}</html>\n'


def sections_of(reading: Reading, words: Words, priors: Sequence[Comparison] = ()) -> str:
    """What there is to read, well-formed as HTML and as XHTML (R4 2.4.1); every text from a model or a file is escaped."""
    said = words.phrases
    sections = (
        *(f"<p><strong>{_text(note)}</strong></p>" for note in words.draft_notices(reading)),
        f"<h2>{_text(said.outcome)}</h2>",
        f"<p>{_text(words.outcome(reading))}</p>",
        f"<h2>{_text(said.draft)}</h2>",
        _list(_draft_lines(reading, words), said.none),
        *_impression(reading, words),
        f"<h2>{_text(said.findings)}</h2>",
        _list((words.finding_line(finding) for finding in reading.findings), said.none),
        *_comparison(reading, words, priors),
        f"<h2>{_text(said.made_by)}</h2>",
        _list(_made_by(reading, words), said.none),
    )
    return "".join(sections)


def _draft_lines(reading: Reading, words: Words) -> list[str]:
    drafted = [words.sentence_line(one, reading) for one in reading.draft.sentences if one.text.strip()]
    return [*drafted, *words.agreement_lines(reading)] if drafted else [words.no_draft(reading)]


def _impression(reading: Reading, words: Words) -> list[str]:
    lines = [words.sentence_line(one, reading) for one in reading.draft.impression if one.text.strip()]
    return [f"<h2>{_text(words.phrases.draft_impression)}</h2>", _list(lines, words.phrases.none)] if lines else []


def _comparison(reading: Reading, words: Words, priors: Sequence[Comparison]) -> list[str]:
    """A table for each prior."""
    if not priors:
        return []
    said = words.phrases
    opening = f"<h2>{_text(said.comparison)}</h2><p>{_text(said.comparison_standing)}</p>"
    return [opening, *(_prior(reading, words, one) for one in priors)]


def _prior(reading: Reading, words: Words, prior: Comparison) -> str:
    said = words.phrases
    head = _row("th", map(capital, (said.column_finding, said.column_change, said.column_then)))
    rows = "".join(_row("td", (one.name, one.change, one.then)) for one in told(words, prior, reading))
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""
    return f"<h3>{_text(prior_line(words, prior))}</h3>{table}"


def _row(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{_text(text)}</{cell}>' for text in texts)}</tr>"


def _made_by(reading: Reading, words: Words) -> list[str]:
    notes = (*words.checking_lines(reading), *words.skipped_lines(reading), words.catalogue_line(reading))
    fitted = (*map(words.head_line, deciding_heads(reading)), *words.method_lines(reading))
    return [*map(words.model_line, reading.models), *fitted, *notes]


def _list(lines: Iterable[str], none: str) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else f"<p>{_text(none)}</p>"


def _text(words: str) -> str:
    """Escaped, and without the characters that XML has no form for (XML 1.0, 2.2)."""
    return escape(_NO_XML.sub(" ", words))
