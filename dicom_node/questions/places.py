"""What a person named at a terminal: pictures, a study of the node's store, or a text."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from dicom_node import app
from dicom_node.errors import SettingsError
from dicom_node.pictures import Picture, each_picture
from dicom_node.settings import Settings
from dicom_node.storage.instances import instances_of
from inference.reading import Skipped
from reporting.text import sr_prose

LARGEST_TEXT: Final = 1 << 20  # bytes; a report has a few thousand
_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")
_PREAMBLE: Final = 128  # bytes before DICM in a Part 10 file


def pictures_of(places: Sequence[str], store: Settings | None, modality: str = "") -> list[Picture]:
    """Every picture of the places. Raises SettingsError where there is none, with the reasons."""
    found = list(each_picture([path for place in places for path in _paths(place, store)], modality))
    pictures = [item for item in found if isinstance(item, Picture)]
    if not pictures:
        why = dict.fromkeys(item.reason for item in found if isinstance(item, Skipped))
        raise SettingsError(f"{', '.join(places)}: no picture to look at ({'; '.join(why) or 'the folder is empty'})")
    return pictures


def _paths(place: str, store: Settings | None) -> list[Path]:
    if Path(place).exists() or not _UID.fullmatch(place):
        return [Path(place)]
    if store is None:
        raise SettingsError(f"{place}: no such file; to look up a Study Instance UID, name the node's settings with --config")
    with closing(app.open_database(store)) as db, db.read() as conn:
        held = instances_of(conn, place)
    if not held:
        raise SettingsError(f"{place}: the node's store holds no such study")
    files = app.open_files(store)
    return [files.path(instance.path) for instance in held]


def by_study(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Pictures of one study together; each plain image is a study of its own."""
    studies: dict[str, list[Picture]] = {}
    for picture in pictures:
        studies.setdefault(picture.study_instance_uid or str(picture.name), []).append(picture)
    return list(studies.values())


def text_of(file: str) -> str:
    """The text of a file, of a structured report, or of standard input."""
    data = _bytes(file)
    if len(data) > LARGEST_TEXT:
        raise SettingsError(f"{file}: is larger than {LARGEST_TEXT >> 20} MiB; a report is not")
    if data[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return sr_prose(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: is neither UTF-8 text nor a DICOM structured report") from error


def _bytes(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(LARGEST_TEXT + 1)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(LARGEST_TEXT + 1)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be opened ({error.strerror})") from error
