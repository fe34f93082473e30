"""The typeface of pictures and pages: DejaVu Sans, which has Latin, Greek, Cyrillic and more, from matplotlib's own files."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from reporting.errors import DocumentError


def font_file(*, bold: bool = False) -> Path:
    """Where the typeface lies. Raises DocumentError where matplotlib is not installed whole."""
    spec = find_spec("matplotlib")  # finds the package without importing it
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name if spec and spec.origin else Path(name)
    if not path.is_file():
        raise DocumentError(f"{name} is missing: pictures and pages need matplotlib's fonts; install matplotlib again")
    return path


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface at ``size`` pixels, for Pillow."""
    return ImageFont.truetype(str(font_file()), size)
