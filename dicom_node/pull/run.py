"""The command: find, list, fetch, sum up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dicom_node import app
from dicom_node.archives import Archive, Moving, archive_named
from dicom_node.errors import SettingsError
from dicom_node.fetched import FolderKeeper, Keeper
from dicom_node.pull.criteria import Criteria, Wanted, search
from dicom_node.pull.fetch import Fetcher, Target
from dicom_node.pull.pace import Pace
from dicom_node.pull.progress import FINISHED, PullList
from dicom_node.routing import PRIORITY, PriorityName
from dicom_node.settings import Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.pulls import Pulled, PullReason, count_held, note_pulled
from dicom_node.supervisor import stop_on_signal


@dataclass(frozen=True, slots=True)
class Wish:
    """``source``: the archive's name. ``into``: a folder instead of the node. ``list_file``: None for one of its own."""

    source: str
    criteria: Criteria
    into: Path | None = None
    list_file: Path | None = None
    priority: PriorityName = PriorityName.RESEARCH
    hours: tuple[str, ...] = ()
    per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class _IntoNode:
    """Studies become studies of the node, at a priority of their own."""

    settings: Settings
    source: str
    db: Database
    keep: Keeper
    priority: int

    def archive(self, study_uid: str) -> Archive:
        if study_uid:
            with self.db.write() as connection:
                note_pulled(connection, study_uid, Pulled(PullReason.PULL, self.priority), self.db.now())
        return archive_named(self.settings, self.source, self.keep)

    def count(self, study_uid: str) -> int:
        with self.db.read() as connection:
            return count_held(connection, study_uid)


@dataclass(frozen=True, slots=True)
class _IntoFolder:
    settings: Settings
    source: str
    keep: FolderKeeper = field(default_factory=lambda: FolderKeeper(Path()))

    def archive(self, study_uid: str) -> Archive:
        return archive_named(self.settings, self.source, self.keep.of(study_uid))

    def count(self, study_uid: str) -> int:
        return self.keep.count(study_uid)


def pull(wish: Wish, config: Path, *, dry_run: bool) -> int:
    """Returns 0 when every study is here, 1 when some are not. Raises SettingsError, RemoteError, StorageError."""
    settings = load_settings(config)
    console = Console(stderr=True)
    with _target(settings, wish) as target:
        wanted = search(wish.criteria, lambda query: target.archive("").find(query))
        if dry_run:
            _show(wanted, target)
            return 0
        studies = PullList(_list_file(settings, wish))
        studies.take_up(wanted)
        console.print(f"{len(wanted)} studies found; the list is {studies.file}", highlight=False)
        tell = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
        Fetcher(target, Pace(wish.hours, wish.per_hour), tell).run(studies, stop_on_signal())
    counts = studies.counts()
    console.print(", ".join(f"{state} {count}" for state, count in sorted(counts.items())) or "nothing to do", highlight=False)
    return 0 if all(state in FINISHED for state in counts) else 1


@contextmanager
def _target(settings: Settings, wish: Wish) -> Iterator[Target]:
    if wish.into is not None:
        target = _IntoFolder(settings, wish.source, FolderKeeper(wish.into))
        if isinstance(target.archive(""), Moving):
            raise SettingsError(f"--into: {wish.source!r} sends to the node's listener; set `retrieve: get` for it")
        wish.into.mkdir(parents=True, exist_ok=True)
        yield target
        return
    db = app.open_database(settings)
    keeper = Keeper(db, app.open_files(settings), settings.listener.watermark_mb * 2**20, settings.listener.ae_title)
    try:
        yield _IntoNode(settings, wish.source, db, keeper, int(PRIORITY[wish.priority]))
    finally:
        keeper.close()
        db.close()


def _list_file(settings: Settings, wish: Wish) -> Path:
    if wish.list_file is not None:
        return wish.list_file
    name = f"{wish.source}-{wish.criteria.digest}.csv"
    return (wish.into or settings.data_folder) / "pulls" / name


def _show(wanted: Sequence[Wanted], target: Target) -> None:
    """No name, number or accession: the list may be seen by who only runs it."""
    table = Table("study", "date", "modalities", "instances", "here", box=None)
    for one in wanted:
        held = target.count(one.study_uid)
        table.add_row(one.study_uid, one.study_date, " ".join(one.modalities), str(one.expected or "?"), str(held))
    console = Console()
    console.print(table)
    total = sum(one.expected for one in wanted)
    missing = sum(1 for one in wanted if target.count(one.study_uid) < (one.expected or 1))
    console.print(f"{len(wanted)} studies with {total} instances; {missing} of the studies are not all here", highlight=False)
