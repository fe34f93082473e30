"""`wetread backup`: a consistent copy of a node that goes on working."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dicom_node import app
from dicom_node.backup.copying import copy_file
from dicom_node.backup.layout import (
    BACKUPS,
    FILES,
    FORM,
    TABLES,
    Entry,
    Facts,
    backups_in,
    read_entries,
    unfinished,
    write_entries,
    write_facts,
)
from dicom_node.errors import SettingsError, StorageError
from dicom_node.settings import load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.paths import sync_folder, translated
from dicom_node.storage.table_copies import revision_of, save_tables, still_named
from dicom_node.terminal import console
from dicom_node.version import software_version

DEVICE_UID: Final = "device.uid"


def run(config: Path, out: Path, keep: int | None) -> int:
    """Make one more backup in ``out``; with ``keep``, delete all but so many. Returns the exit status.

    Raises SettingsError, StorageError.
    """
    settings = load_settings(config)
    if out.resolve().is_relative_to(settings.data_folder):
        raise SettingsError(f"--out {out} lies inside the data folder; choose another disk")
    with closing(app.open_database(settings)) as db, _alone(out):
        name, facts = back_up(db, app.open_files(settings), out)
        removed = prune(out, keep) if keep else 0
    megabytes = facts.bytes / 1e6
    said = f"{name}: {facts.rows.get('studies', 0)} studies, {facts.files} files, {megabytes:.0f} MB"
    console().print(said + (f"; {removed} older backups deleted" if removed else ""), soft_wrap=True, markup=False)
    return 0


def back_up(db: Database, files: FileStore, out: Path) -> tuple[str, Facts]:
    """One backup; its name, and what it is of. An earlier one's files are not copied again.

    Raises StorageError where a file that the rows name is missing, and where there is no room.
    """
    earlier = backups_in(out)
    made_at = db.now()
    name = datetime.fromtimestamp(made_at, UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    part = unfinished(out, name)
    with translated(part):
        _clear(out)
        (part / TABLES).mkdir(parents=True)
        rows = save_tables(db, part / TABLES, part / "paths")
        entries = _copied(db, files, out, part / "paths", earlier[-1] if earlier else None)
        count = size = 0
        for entry in write_entries(part, entries):
            count, size = count + 1, size + entry.size
        (part / "paths").unlink()
        facts = Facts(FORM, made_at, software_version(), revision_of(db), rows, count, size)
        write_facts(part, facts)
        os.sync()  # files and lists first: a backup that can be seen is whole, also after a power cut
        part.rename(out / BACKUPS / name)
        sync_folder(out / BACKUPS)
    return name, facts


def prune(out: Path, keep: int) -> int:
    """Delete all but the newest ``keep`` backups, and the files that none of those names; how many backups."""
    there = backups_in(out)
    gone, kept = there[:-keep], there[-keep:]
    if gone:
        named = {entry.path for backup in kept for entry in read_entries(backup)}  # one that is damaged costs no other
        for backup in gone:
            backup.rename(unfinished(out, backup.name))
        _clear(out)
        for path in (path for path in (out / FILES).rglob("*") if path.is_file()):
            if str(path.relative_to(out / FILES)) not in named:
                path.unlink()
    return len(gone)


def _clear(out: Path) -> None:
    """Of backups that were stopped while they were made or deleted."""
    for left in (out / BACKUPS).glob(unfinished(out, "*").name):
        shutil.rmtree(left)


def _copied(db: Database, files: FileStore, out: Path, paths: Path, earlier: Path | None) -> Iterator[Entry]:
    for path, known in _with_known(_lines(paths), read_entries(earlier) if earlier else iter(())):
        target = out / FILES / path
        if known is not None and target.exists() and target.stat().st_size == known.size:
            yield known
            continue
        try:
            yield Entry(path, *copy_file(files.path(path), target))
        except FileNotFoundError as error:
            if still_named(db, path):
                raise StorageError(f"{files.path(path)} is missing, and a row names it; see `wetread check`") from error


def _lines(paths: Path) -> Iterator[str]:
    """Without line ends, and with the installation's own file in its place in the order."""
    with paths.open(encoding="utf-8") as lines:
        own = True
        for line in lines:
            path = line.rstrip("\n")
            if own and path > DEVICE_UID:
                own = False
                yield DEVICE_UID
            yield path
        if own:
            yield DEVICE_UID


def _with_known(paths: Iterator[str], entries: Iterator[Entry]) -> Iterator[tuple[str, Entry | None]]:
    """Each path with its entry in an earlier list, both in the order of their bytes: neither need fit into memory."""
    entry = next(entries, None)
    for path in paths:
        while entry is not None and entry.path < path:
            entry = next(entries, None)
        yield path, entry if entry is not None and entry.path == path else None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One backup at a time into one folder. It holds patients' images: closed to other users."""
    with translated(out):
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (out / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StorageError(f"another backup is being made in {out}; wait for its end") from error
            yield
