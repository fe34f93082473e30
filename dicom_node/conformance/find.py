"""Which files: those named, and all below the folders named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Found:
    """``named``: on the command line, not found in a folder. ``trouble``: why it cannot be read; empty where it can."""

    path: Path
    named: bool
    trouble: str = ""


def find(paths: Iterable[Path]) -> Iterator[Found]:
    """Files in the order named; those of a folder by name, links to folders not followed."""
    for path in paths:
        if path.is_dir():
            yield from _below(path)
        elif path.is_file() or not path.exists():
            yield Found(path, named=True)
        else:
            yield Found(path, named=True, trouble="is no regular file")


def _below(folder: Path) -> Iterator[Found]:
    troubles: list[OSError] = []
    for root, folders, files in os.walk(folder, onerror=troubles.append):
        folders.sort()
        yield from (Found(path, named=False) for path in (Path(root, name) for name in sorted(files)) if path.is_file())
        while troubles:
            error = troubles.pop()
            yield Found(Path(error.filename), named=False, trouble=f"cannot be read ({error.strerror})")
    for error in troubles:
        yield Found(Path(error.filename), named=False, trouble=f"cannot be read ({error.strerror})")
