"""The contact sheet: a row per study with its film, findings, draft and latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.demo.canvas import Canvas, Colour
from dicom_node.demo.collect import CameBack
from dicom_node.demo.studies import DemoStudy
from dicom_node.demo.summary import decision_words, ranked
from dicom_node.pixels import read_instance, render_frame
from inference.reading import Decision, Finding, Reading, Urgency
from reporting.wording import DISCLAIMER, PHANTOM_MARK

_WIDTH: Final = 1600
_MARGIN: Final = 40
_HEADER: Final = 132
_FOOTER: Final = 56
_ROW: Final = 460
_GAP: Final = 24
_FILM: Final = 420
_FINDINGS_X: Final = _MARGIN + _FILM + 60
_FINDINGS_WIDTH: Final = 520
_DRAFT_X: Final = _FINDINGS_X + _FINDINGS_WIDTH + 48
_LINE: Final = 28
_SHOWN: Final = 13

_PAGE, _CARD, _EDGE = "#0d1117", "#161b22", "#2b3340"
_WHITE, _GREY, _FAINT = "#f0f3f6", "#aab4c0", "#6b7684"
_AMBER, _RED, _ORANGE, _YELLOW, _BLUE = "#f2b544", "#ff5d5d", "#ff9c45", "#f2d14b", "#4c8dd6"
_URGENCY: Final = {Urgency.STAT: _RED, Urgency.URGENT: _ORANGE, Urgency.ROUTINE: _YELLOW}


def draw_sheet(path: Path, came: Sequence[CameBack]) -> None:
    """Write the sheet as a PNG. Raises PixelError where a film cannot be shown."""
    height = _HEADER + len(came) * (_ROW + _GAP) + _FOOTER
    canvas = Canvas(_WIDTH, height, _PAGE)
    phantom = any(one.reading.phantom for one in came)
    _header(canvas, phantom)
    for number, one in enumerate(came):
        _row(canvas, _HEADER + number * (_ROW + _GAP), one)
    _footer(canvas, came)
    canvas.save(path)


def _header(canvas: Canvas, phantom: bool) -> None:
    canvas.text(_MARGIN, 30, "WetRead", 40, _WHITE, bold=True)
    canvas.text(_MARGIN + canvas.text_width("WetRead", 40) + 20, 45, "what came back of three drawn studies", 22, _GREY)
    canvas.text(_MARGIN, 86, DISCLAIMER, 20, _AMBER)
    if phantom:
        words = PHANTOM_MARK.upper()
        width = canvas.text_width(words, 20) + 44
        canvas.panel((_WIDTH - _MARGIN - width, 34, _WIDTH - _MARGIN, 78), _AMBER, 8)
        canvas.text(_WIDTH - _MARGIN - width / 2, 56, words, 20, _PAGE, bold=True, anchor="mm")


def _row(canvas: Canvas, top: float, one: CameBack) -> None:
    canvas.panel((_MARGIN - 16, top, _WIDTH - _MARGIN + 16, top + _ROW), _CARD, 14, _EDGE)
    film = (_MARGIN + 4, top + 20, _MARGIN + 4 + _FILM, top + _ROW - 20)
    canvas.panel(film, "#000000", 6)
    canvas.picture(film, _film(one.study))
    canvas.panel((film[0], film[3] - 32, film[0] + 172, film[3]), "#000000")
    canvas.text(film[0] + 10, film[3] - 16, "PHANTOM - no patient", 15, _AMBER, anchor="lm")
    _findings(canvas, top + 24, one.reading)
    _said(canvas, top + 24, one)


def _findings(canvas: Canvas, top: float, reading: Reading) -> None:
    canvas.text(_FINDINGS_X, top, "FINDINGS", 15, _FAINT, bold=True)
    y = top + 32
    findings = ranked(reading.findings)
    for finding in findings[:_SHOWN]:
        _finding(canvas, y, finding)
        y += _LINE
    if len(findings) > _SHOWN:
        canvas.text(_FINDINGS_X, y, f"and {len(findings) - _SHOWN} more in the documents", 16, _FAINT)


def _finding(canvas: Canvas, y: float, finding: Finding) -> None:
    colour = _colour(finding)
    positive = finding.decision is Decision.POSITIVE
    words = _fitted(canvas, finding.code.meaning, 215)
    canvas.text(_FINDINGS_X, y, words, 17, _WHITE if positive else _GREY, bold=positive)
    left, right = _FINDINGS_X + 232, _FINDINGS_X + _FINDINGS_WIDTH - 68
    if finding.probability is None:
        canvas.text(left, y, "not assessable", 17, _FAINT)
        return
    canvas.panel((left, y + 5, right, y + 17), _EDGE, 6)
    canvas.panel((left, y + 5, left + max(12, (right - left) * finding.probability), y + 17), colour, 6)
    mark = left + (right - left) * finding.threshold
    canvas.line(mark, y + 1, mark, y + 21, _WHITE, 1.5)
    share = f"{100 * finding.probability:.0f} %"
    canvas.text(_FINDINGS_X + _FINDINGS_WIDTH, y, share, 17, colour if positive else _GREY, bold=positive, anchor="ra")


def _said(canvas: Canvas, top: float, one: CameBack) -> None:
    """The right column: which study, the decision, the draft, the latency."""
    width = _WIDTH - _MARGIN - _DRAFT_X
    canvas.text(_DRAFT_X, top, one.study.title, 24, _WHITE, bold=True)
    _pill(canvas, top + 46, one.reading)
    canvas.text(_DRAFT_X, top + 108, "AI DRAFT, NOT A DIAGNOSIS", 15, _AMBER, bold=True)
    drafted = one.reading.draft.text
    words = drafted or f"No draft: {one.reading.draft.reason or one.reading.reason}"
    canvas.paragraph(_DRAFT_X, top + 136, width, words, 20, _WHITE if drafted else _GREY, lines=7)
    canvas.line(_DRAFT_X, top + _ROW - 112, _WIDTH - _MARGIN, top + _ROW - 112, _EDGE)
    canvas.text(_DRAFT_X, top + _ROW - 94, f"{one.latency_s:.1f} s", 24, _WHITE, bold=True)
    canvas.text(_DRAFT_X, top + _ROW - 62, "from last image to last document delivered", 15, _FAINT)


def _pill(canvas: Canvas, y: float, reading: Reading) -> None:
    words = decision_words(reading).upper()
    width = canvas.text_width(words, 18) + 36
    canvas.panel((_DRAFT_X, y, _DRAFT_X + width, y + 38), _pill_colour(reading), 19)
    canvas.text(_DRAFT_X + width / 2, y + 19, words, 18, _PAGE, bold=True, anchor="mm")


def _footer(canvas: Canvas, came: Sequence[CameBack]) -> None:
    y = canvas.height - 44
    models = {f"{model.name} {model.version}": None for one in came for model in one.reading.models}
    canvas.text(_MARGIN, y, "Models: " + ", ".join(models), 16, _FAINT)
    legend = "bar: probability - white line: threshold - colour: urgency where marked"
    canvas.text(_WIDTH - _MARGIN, y, legend, 16, _FAINT, anchor="ra")


def _film(study: DemoStudy) -> NDArray[np.uint8]:
    """The study's middle image as the models are shown it."""
    return render_frame(read_instance(study.files[len(study.files) // 2]), 1).pixels


def _colour(finding: Finding) -> Colour:
    return _URGENCY[finding.urgency] if finding.decision is Decision.POSITIVE else _BLUE


def _pill_colour(reading: Reading) -> Colour:
    if not reading.assessed:
        return _GREY
    most = sorted(reading.positives, key=lambda finding: list(Urgency).index(finding.urgency))
    return _colour(most[0]) if most else _BLUE  # not green: nothing marked does not exclude disease


def _fitted(canvas: Canvas, words: str, width: float) -> str:
    if canvas.text_width(words, 17) <= width:
        return words
    while words and canvas.text_width(words + "...", 17) > width:
        words = words[:-1].rstrip()
    return words + "..."
