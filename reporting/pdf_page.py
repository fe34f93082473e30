"""The reading as one A4 page for a clinician: film, heat maps, findings, draft, who made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final

from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, KeepInFrame, Paragraph, Spacer, Table

from inference.reading import Decision, Finding, HeatMap, Reading
from reporting.heads import deciding_heads
from reporting.materials import Materials
from reporting.overlay import film_only, overlay_only
from reporting.pdf_comparison import comparison
from reporting.pdf_text import FACE, paragraph, register, styled
from reporting.wording import Words, capital, fill, sentence

_MARGIN: Final = 14 * mm
_LEFT: Final = 84 * mm  # width of the pictures' column
_MOST_PICTURES: Final = 3
_MOST_ROWS: Final = 16
_RED: Final = colors.Color(0.38, 0, 0)
_COLOUR_OF: Final = {
    Decision.POSITIVE: colors.Color(0.72, 0.05, 0.05),
    Decision.NEGATIVE: colors.Color(0.25, 0.25, 0.25),
    Decision.NOT_ASSESSABLE: colors.Color(0.55, 0.38, 0),
}


def pdf_page(made: Materials) -> bytes:
    """One page; what is too long for it is set smaller. The same reading gives the same bytes."""
    register()
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1, lang=made.words.language)
    canvas.setTitle(made.words.series_description(made.words.phrases.draft_series, made.reading))
    canvas.setAuthor(made.options.manufacturer)
    canvas.setSubject(made.words.phrases.burned_in)
    width, height = A4
    top = height - _banner(canvas, made)
    top = _frame(canvas, _identity(made), _MARGIN, top, width - 2 * _MARGIN, 30 * mm)
    bottom = 34 * mm
    _frame(canvas, _pictures(made), _MARGIN, top, _LEFT, top - bottom)
    _frame(canvas, _words(made), _MARGIN + _LEFT + 6 * mm, top, width - 2 * _MARGIN - _LEFT - 6 * mm, top - bottom)
    _frame(canvas, _provenance(made), _MARGIN, bottom, width - 2 * _MARGIN, bottom - 8 * mm)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _frame(canvas: Canvas, story: Sequence[Flowable], x: float, top: float, width: float, height: float) -> float:
    """Set ``story`` below ``top``, shrunk where it is too long; returns where it ends."""
    box = KeepInFrame(width, height, list(story), mode="shrink", vAlign="TOP")
    _, used = box.wrapOn(canvas, width, height)
    box.drawOn(canvas, x, top - used)
    return float(top - used)


def _banner(canvas: Canvas, made: Materials) -> float:
    """The standing of the page, white on dark red across its top; returns the height."""
    notes = [paragraph(made.words.phrases.burned_in.upper(), styled(13, bold=True, colour=colors.white))]
    notes += [paragraph(note, styled(8, colour=colors.white, after=1)) for note in made.words.draft_notices(made.reading)]
    width = A4[0] - 2 * _MARGIN
    box = KeepInFrame(width, 40 * mm, notes, mode="shrink")
    _, used = box.wrapOn(canvas, width, 40 * mm)
    canvas.setFillColor(_RED)
    canvas.rect(0, A4[1] - used - 8 * mm, A4[0], used + 8 * mm, stroke=0, fill=1)
    box.drawOn(canvas, _MARGIN, A4[1] - used - 4 * mm)
    return float(used + 11 * mm)


def _identity(made: Materials) -> list[Flowable]:
    source, words, said = made.source, made.words, made.words.phrases
    cells = (
        (said.label_patient, _name(source.text("PatientName"))),
        (said.label_patient_id, source.text("PatientID")),
        (said.label_born, words.date(source.text("PatientBirthDate"))),
        (said.label_sex, words.sex(source.text("PatientSex"))),
        (said.label_accession, source.text("AccessionNumber")),
        (said.label_study, f"{words.date(source.text('StudyDate'))} {source.text('StudyDescription')}"),
        (said.label_read, words.time(source.written_at)),
        (said.label_revision, str(source.context.revision)),
    )
    shown = [
        [paragraph(name, styled(6.5, colour=colors.grey, after=0)), paragraph(value or "–", styled(8.5, after=0))]
        for name, value in cells
    ]
    rows = [shown[i : i + 4] for i in range(0, len(shown), 4)]
    table = Table(rows, colWidths=[(A4[0] - 2 * _MARGIN) / 4] * 4)
    table.setStyle(
        [("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 1), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    )
    return [table, Spacer(1, 3 * mm)]


def _name(person: str) -> str:
    """The groups of the name (PS3.5 6.2.1) that our typeface holds; all of them where it holds none."""
    groups = [group.replace("^", " ").strip() for group in person.split("=") if group.strip("^ ")]
    held = pdfmetrics.getFont(FACE).face.charToGlyph
    return " · ".join([group for group in groups if all(ord(character) in held for character in group)] or groups)


def _pictures(made: Materials) -> list[Flowable]:
    """The deciding films with their heat maps; without maps the first film that was read."""
    said = made.words.phrases
    maps = [heat for heat in made.reading.heat_maps if made.frame(heat.source)]
    story: list[Flowable] = []
    for heat in maps[:_MOST_PICTURES]:
        story += _picture(_with_map(made, heat), _map_words(made, heat))
    if len(maps) > _MOST_PICTURES:
        story.append(paragraph(fill(said.more_maps, count=str(len(maps) - _MOST_PICTURES)), styled(7)))
    if not maps and made.frames:
        words = said.no_map if made.reading.assessed else said.unread_picture
        story += _picture(film_only(made.frames[0]), words)
    return story or [paragraph(said.no_picture, styled(8))]


def _with_map(made: Materials, heat: HeatMap) -> Any:
    frame = made.frame(heat.source)
    assert frame is not None  # only maps with a frame come here
    return overlay_only(frame, heat)


def _map_words(made: Materials, heat: HeatMap) -> str:
    words = made.words
    name = next((words.name(one.code) for one in made.reading.findings if one.key == heat.key), heat.key)
    return fill(words.phrases.map_caption, name=name, method=words.translate(heat.method))


def _picture(pixels: Any, words: str) -> list[Flowable]:
    """A picture of at most a third of the column's height, as JPEG."""
    buffer = BytesIO()
    Picture.fromarray(pixels).save(buffer, "JPEG", quality=88)
    rows, columns = pixels.shape[:2]
    width = min(_LEFT, 78 * mm * columns / rows)
    ImageReader(buffer)  # a damaged picture fails here and not in the reader's hands
    return [
        Image(buffer, width, width * rows / columns, hAlign="LEFT"),
        paragraph(words, styled(7, colour=colors.grey)),
        Spacer(1, 2 * mm),
    ]


def _words(made: Materials) -> list[Flowable]:
    reading, words, said = made.reading, made.words, made.words.phrases
    head = styled(10, bold=True, after=3)
    story: list[Flowable] = [
        paragraph(said.outcome, head),
        paragraph(words.outcome(reading), styled(8.5, after=5)),
        paragraph(said.findings, head),
    ]
    story += _findings(reading, words) if reading.findings else [paragraph(said.none_held, styled(8))]
    story += comparison(made, head)
    story += [Spacer(1, 3 * mm), paragraph(said.draft_report, head), *_draft(reading, words)]
    story += [paragraph(capital(line), styled(7, colour=colors.grey)) for line in words.checking_lines(reading)]
    skipped = words.skipped_lines(reading)
    if skipped:
        story += [Spacer(1, 2 * mm), paragraph(said.not_read, head), *(paragraph(line, styled(7.5)) for line in skipped[:6])]
    return story


def _findings(reading: Reading, words: Words) -> Iterator[Flowable]:
    """What was found, then what was not, then what could not be assessed, by reason.

    A table longer than ``_MOST_ROWS`` would shrink out of sight: then what is absent stands in one paragraph.
    """
    judged = sorted(
        (one for one in reading.findings if one.probability is not None), key=lambda one: one.decision is not Decision.POSITIVE
    )
    rows = judged if len(judged) <= _MOST_ROWS else [one for one in judged if one.decision is Decision.POSITIVE]
    if rows:
        yield _table(rows, words)
        yield Spacer(1, 2 * mm)
    if rest := [f"{words.name(one.code)} {words.percent(one.probability or 0.0)}" for one in judged if one not in rows]:
        yield paragraph(f"{capital(words.phrases.absent)}: {', '.join(rest)}.", styled(8, colour=_COLOUR_OF[Decision.NEGATIVE]))
    reasons: dict[str, list[str]] = {}
    for one in reading.findings:
        if one.probability is None:
            reasons.setdefault(words.reason_of(one), []).append(words.name(one.code))
    style = styled(8, colour=_COLOUR_OF[Decision.NOT_ASSESSABLE])
    for reason, names in reasons.items():
        yield paragraph(fill(words.phrases.open_line, names=", ".join(names), reason=sentence(reason)), style)


def _table(findings: Sequence[Finding], words: Words) -> Table:
    said = words.phrases
    rows = [_finding(one, words) for one in findings]
    names = (said.column_finding, said.column_answer, said.column_probability, said.column_threshold)
    header = [paragraph(name, styled(6.5, colour=colors.grey, after=0)) for name in names]
    table = Table([header, *rows], colWidths=[34 * mm, 27 * mm, 17 * mm, 14 * mm], hAlign="LEFT")
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


def _finding(finding: Finding, words: Words) -> list[Paragraph]:
    positive = finding.decision is Decision.POSITIVE
    style = styled(8, bold=positive, colour=_COLOUR_OF[finding.decision], after=0)
    phrases = words.phrases
    said = fill(phrases.answer_positive, urgency=words.urgency(finding.urgency)) if positive else phrases.absent
    shown = (words.name(finding.code), said, words.percent(finding.probability or 0.0), words.percent(finding.threshold))
    return [paragraph(one, style) for one in shown]


def _draft(reading: Reading, words: Words) -> Iterator[Paragraph]:
    style = styled(8.5, after=3)
    drafted = [one for one in reading.draft.sentences if one.text.strip()]
    yield from (paragraph(words.sentence_line(one, reading), style) for one in drafted)
    if not drafted:
        yield paragraph(words.no_draft(reading), style)
    for one in reading.draft.impression:
        yield paragraph(fill(words.phrases.impression, text=words.sentence_line(one, reading)), style)
    yield from (paragraph(line, style) for line in words.agreement_lines(reading))


def _provenance(made: Materials) -> list[Flowable]:
    small = styled(6, colour=colors.Color(0.3, 0.3, 0.3), after=1)
    reading, words = made.reading, made.words
    fitted = [*map(words.head_line, deciding_heads(reading)), *words.method_lines(reading)]
    node = f"WetRead {made.options.software_version}, {reading.device}, {reading.precision}"
    asked = fill(words.phrases.label_catalogue, catalogue=words.catalogue_line(reading))
    lines = [*map(words.model_line, reading.models), *fitted, asked, node, words.phrases.disclaimer]
    return [paragraph(words.phrases.made_by, styled(7, bold=True, after=1)), *(paragraph(line, small) for line in lines)]
