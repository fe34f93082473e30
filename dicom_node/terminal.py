"""Where tables are printed: as wide as the terminal, or wide enough for a log or a pipe."""

from __future__ import annotations

import os
import sys
from typing import Final

from rich.console import Console

PIPE_WIDTH: Final = 160  # characters


def console(pipe_width: int = PIPE_WIDTH) -> Console:
    """A console on standard output; ``COLUMNS`` overrides the width."""
    free = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(highlight=False, width=pipe_width if free else None)
