"""Text on our pages: typefaces that hold every script, and paragraphs in them."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any, Final

from reportlab.lib import colors
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph

from reporting.fonts import font_file

FACE: Final = "DejaVu"
_BOLD: Final = "DejaVu-Bold"
_JAPANESE: Final = "HeiseiKakuGo-W5"  # Adobe's character collections: not embedded, every reader has them
_KOREAN: Final = "HYGothic-Medium"


@cache
def register() -> None:
    pdfmetrics.registerFont(TTFont(FACE, str(font_file())))
    pdfmetrics.registerFont(TTFont(_BOLD, str(font_file(bold=True))))
    pdfmetrics.registerFontFamily(FACE, normal=FACE, bold=_BOLD, italic=FACE, boldItalic=_BOLD)
    for name in (_JAPANESE, _KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))


def styled(size: float, *, bold: bool = False, colour: Any = colors.black, after: float = 2) -> ParagraphStyle:
    face = _BOLD if bold else FACE
    return ParagraphStyle("", fontName=face, fontSize=size, leading=1.3 * size, textColor=colour, spaceAfter=after)


def paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(in_fonts(text), style)


def in_fonts(text: str) -> str:
    """Markup in which every character has a typeface that holds it."""
    held = pdfmetrics.getFont(FACE).face.charToGlyph
    runs: list[tuple[str, str]] = []
    for character in text:
        name = "" if ord(character) in held else _KOREAN if _is_hangul(character) else _JAPANESE
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + character)
        else:
            runs.append((name, character))
    return "".join(f'<font name="{name}">{escape(run)}</font>' if name else escape(run) for name, run in runs)


def _is_hangul(character: str) -> bool:
    return "\u1100" <= character <= "\u11ff" or "\u3130" <= character <= "\u318f" or "\uac00" <= character <= "\ud7af"
