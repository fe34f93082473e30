"""The reading as one small HTML page: the form that a record shows (DiagnosticReport.presentedForm)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from inference.reading import Reading
from reporting import wording
from reporting.fhir_parts import Json
from reporting.options import DocumentOptions


def presented_form(reading: Reading, options: DocumentOptions, created: str) -> Json:
    """An Attachment with its size in bytes and the base64 of its SHA-1 (R4 2.24.0.1)."""
    page = render(reading, options.language).encode()
    return {
        "contentType": "text/html",
        "language": options.language,
        "data": base64.b64encode(page).decode(),
        "size": len(page),
        "hash": base64.b64encode(hashlib.sha1(page, usedforsecurity=False).digest()).decode(),
        "title": wording.DRAFT_SERIES,
        "creation": created,
    }


def render(reading: Reading, language: str) -> str:
    """A page without scripts, styles or links to anything outside; every text from a model or a file is escaped."""
    sections = (
        *(f"<p><strong>{escape(note)}</strong></p>" for note in wording.notices(reading)),
        "<h2>Outcome</h2>",
        f"<p>{escape(wording.outcome(reading))}</p>",
        "<h2>Draft</h2>",
        _list(_draft_lines(reading)),
        *_impression(reading),
        "<h2>Findings</h2>",
        _list(wording.finding_line(finding) for finding in reading.findings),
        "<h2>Made by</h2>",
        _list(_made_by(reading)),
    )
    title = escape(wording.DRAFT_SERIES)
    head = f'<head><meta charset="utf-8"><title>{title}</title></head>'
    return f'<!DOCTYPE html>\n<html lang="{escape(language)}">{head}<body><h1>{title}</h1>{"".join(sections)}</body></html>\n'


def _draft_lines(reading: Reading) -> list[str]:
    drafted = [wording.sentence_line(one, reading) for one in reading.draft.sentences if one.text.strip()]
    return [*drafted, *wording.agreement_lines(reading)] if drafted else [wording.no_draft(reading)]


def _impression(reading: Reading) -> list[str]:
    lines = [wording.sentence_line(one, reading) for one in reading.draft.impression if one.text.strip()]
    return ["<h2>Impression of the draft</h2>", _list(lines)] if lines else []


def _made_by(reading: Reading) -> list[str]:
    notes = (*wording.checking_lines(reading), *wording.skipped_lines(reading), wording.catalogue_line(reading))
    return [*map(wording.model_line, reading.models), *notes]


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else "<p>None.</p>"
