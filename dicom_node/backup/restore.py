"""`wetread restore`: an empty machine goes on where a backup was made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from dicom_node import app
from dicom_node.backup.copying import copy_file, digest_of
from dicom_node.backup.layout import FILES, TABLES, Entry, Facts, chosen, read_entries, read_facts
from dicom_node.errors import SettingsError, StorageError
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.table_copies import is_empty, load_tables
from dicom_node.terminal import console

_FAULTS_SHOWN: Final = 20


def run(config: Path, source: Path, name: str | None, check: bool) -> int:
    """Restore a backup, or only look whether it could be. Returns the exit status. Raises SettingsError, StorageError."""
    backup = chosen(source, name)
    facts = read_facts(backup)
    if check:
        return _tell(backup, faults(source, backup))
    settings = load_settings(config)
    restore(settings, source, backup, facts)
    with closing(app.open_database(settings)):  # brings the tables to this version's revision
        pass
    studies = facts.rows.get("studies", 0)
    said = f"restored {backup.name}: {studies} studies, {facts.files} files; start the node, and it goes on from there"
    console().print(said, soft_wrap=True, markup=False)
    return 0


def restore(settings: Settings, source: Path, backup: Path, facts: Facts) -> None:
    """Files first, each compared with its digest; then all rows in one transaction. Stopped before its end, it may be repeated.

    Raises SettingsError where the database or the folder hold studies already, StorageError where the backup is damaged.
    """
    files = app.open_files(settings)
    with closing(_empty_database(settings, facts)) as db:
        for entry in read_entries(backup):
            _put_back(source / FILES / entry.path, files, entry)
        os.sync()
        load_tables(db, backup / TABLES, db.now())


def faults(source: Path, backup: Path) -> Iterator[str]:
    """What of a backup is missing or damaged."""
    for entry in read_entries(backup):
        try:
            found = digest_of(source / FILES / entry.path)
        except OSError as error:
            yield f"{entry.path}: cannot be read ({error.strerror})"
        else:
            if found != (entry.size, entry.sha256):
                yield f"{entry.path}: is not what was copied"


def _empty_database(settings: Settings, facts: Facts) -> Database:
    password = settings.database_password()
    db = Database.open(settings.database_url, password=password, revision=facts.revision)
    if not is_empty(db):
        db.close()
        raise SettingsError(f"the database {db.name} holds studies already; restore into an empty one")
    return db


def _put_back(source: Path, files: FileStore, entry: Entry) -> None:
    target = files.path(entry.path)
    if target.exists() and digest_of(target) == (entry.size, entry.sha256):
        return
    try:
        copied = copy_file(source, target)
    except FileNotFoundError as error:
        raise StorageError(f"the backup lacks {source}; use another backup, or see `wetread restore --check`") from error
    if copied != (entry.size, entry.sha256):
        target.unlink(missing_ok=True)
        raise StorageError(f"{source} is not what was backed up; use another backup, or see `wetread restore --check`")


def _tell(backup: Path, found: Iterator[str]) -> int:
    count = 0
    out = console()
    for count, fault in enumerate(found, 1):
        if count <= _FAULTS_SHOWN:
            out.print(fault, soft_wrap=True, markup=False)
    out.print(f"{backup.name}: {count} files missing or damaged" if count else f"{backup.name}: all files are there, unchanged")
    return 1 if count else 0
