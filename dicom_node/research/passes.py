"""One pass over an archive: search, read what is not finished yet, write the tables.

A study is finished when its part is committed; a pass that was stopped, however abruptly, goes on after the last one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dicom_node.errors import StorageError, StorageFull, describe
from dicom_node.flow import Reader
from dicom_node.pixels import PixelOptions, PixelReader
from dicom_node.research import manifest, summary, tables
from dicom_node.research.files import RunFolder
from dicom_node.research.identity import RunIdentity, Started, begin
from dicom_node.research.parts import Part, commit_part, load_part, unchanged
from dicom_node.research.search import Archive, SourceFile, search
from dicom_node.research.study import StudyReader
from reporting.options import DocumentOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. ``load_reader`` loads the models; it is called only where a study is left to read."""

    source: Path
    out: Path
    identity: RunIdentity
    options: DocumentOptions
    load_reader: Callable[[], Reader]
    pixels: PixelOptions = field(default_factory=PixelOptions)


def read_archive(plan: Plan, console: Console) -> int:
    """Search, read what is not finished yet, and write the tables; tells ``console``.

    Returns 0, or 1 where a study failed outright. Raises SettingsError where the folder cannot be this run's, what loading
    the models raises, and StorageError where the folder cannot be written.
    """
    folder = RunFolder(plan.out)
    with folder.held(), _progress(console) as progress:
        started = begin(folder, plan.identity, _now())
        archive = _search(plan, progress)
        failures = _read_all(plan, folder, started, archive, progress)
        failed = {failure.study_instance_uid for failure in failures}
        finished = [uid for uid in archive.studies if uid not in failed]

        def parts() -> Iterator[Part]:
            return (part for uid in finished if (part := load_part(folder, uid)) is not None)

        tables.write_results(folder.results, parts())
        tables.write_drafts(folder.drafts, parts())
        tables.write_errors(folder.errors, archive.rejected, parts(), failures)
        counts = manifest.count(folder, archive, parts(), failures)
        manifest.write(folder, started, _now(), parts(), counts)
    summary.show(console, folder, counts)
    return 1 if failures else 0


def _search(plan: Plan, progress: Progress) -> Archive:
    task = progress.add_task("searching", total=None)
    archive = search(plan.source, plan.out, lambda count: progress.update(task, completed=count))
    progress.update(task, total=archive.file_count, completed=archive.file_count)
    return archive


def _read_all(plan: Plan, folder: RunFolder, started: Started, archive: Archive, progress: Progress) -> list[tables.Failure]:
    """Read and commit each study that is not finished; what failed is told and left for the next run."""
    failures: list[tables.Failure] = []
    pending = list(_pending(folder, archive, failures))
    done = len(archive.studies) - len(pending)
    task = progress.add_task("reading", total=len(archive.studies), completed=done)
    with PixelReader(plan.pixels) as pixels:
        studies = _study_reader(plan, started, pixels) if pending else None
        for uid, files, revision in pending:
            assert studies is not None
            try:
                commit_part(folder, studies.read(uid, files, revision))
            except StorageFull:
                raise
            except Exception as error:  # noqa: BLE001  whatever a study does to the code, the next study must be read
                failures.append(tables.Failure(uid, describe(error)))
            progress.advance(task)
    return failures


def _pending(
    folder: RunFolder, archive: Archive, failures: list[tables.Failure]
) -> Iterator[tuple[str, tuple[SourceFile, ...], int]]:
    """The studies to read, each with its files and revision: those with no part, or with other files than their part's."""
    for uid, files in archive.studies.items():
        try:
            part = load_part(folder, uid)
            if part is None or not unchanged(part, files):
                yield uid, files, part.revision + 1 if part else 1
        except (StorageError, OSError) as error:
            failures.append(tables.Failure(uid, describe(error)))


def _study_reader(plan: Plan, started: Started, pixels: PixelReader) -> StudyReader:
    device_uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'wetread:research:{plan.out}').int}"
    return StudyReader(plan.load_reader(), datetime.fromisoformat(started.started), device_uid, plan.options, pixels)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
