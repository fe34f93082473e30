"""`wetread jobs`: the node's work, for an operator. No patient data: studies are named by their UID."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from rich.table import Table
from rich.text import Text

from dicom_node import app
from dicom_node.errors import SettingsError, StorageError
from dicom_node.reading_json import from_json
from dicom_node.settings import load_settings
from dicom_node.storage.commitments import Awaited, awaited_by
from dicom_node.storage.database import Database
from dicom_node.storage.events import EventKind, EventRow, list_events
from dicom_node.storage.job_counts import JobCount, count_jobs
from dicom_node.storage.jobs import Job, JobKind, JobState, get_job, list_jobs, rerun
from dicom_node.storage.outbox import DestinationState, destination_states_of, rerun_dead
from dicom_node.storage.results import DocumentRow, ResultRow, documents_of, results_of
from dicom_node.terminal import console
from dicom_node.views.words import age as age
from dicom_node.views.words import moment as moment
from dicom_node.views.words import priority_name as priority_name

_COLOURS: Final = {
    JobState.QUEUED: "cyan",
    JobState.LEASED: "yellow",
    JobState.AWAITING: "magenta",
    JobState.DONE: "green",
    JobState.DEAD: "bold red",
}
FULL_WIDTH: Final = 120  # characters of a terminal on which a UID of 44 leaves room for an error
_EVENTS_SEARCHED: Final = 1000
_Name = TypeVar("_Name", bound=StrEnum)


def show_list(config: Path, state: str | None, kind: str | None, limit: int) -> int:
    """Print a count per state and the newest jobs. Raises SettingsError for an unknown state or kind, StorageError."""
    wanted_state, wanted_kind = _choose(JobState, "--state", state), _choose(JobKind, "--kind", kind)
    with _database(config) as db:
        counts = count_jobs(db)
        jobs = list_jobs(db, kind=wanted_kind, state=wanted_state, limit=limit)
    out = console()
    out.print(_counts(counts), soft_wrap=True)
    if jobs:
        out.print(_table(jobs, full=out.width >= FULL_WIDTH))
    return 0


def show_one(config: Path, job: int) -> int:
    """Print a job, what it made, and the events of its study. Returns 1 where there is no such job. Raises StorageError."""
    out = console()
    with _database(config) as db:
        found = get_job(db, job)
        if found is None:
            out.print(_no_such(job), soft_wrap=True)
            return 1
        with db.read() as connection:
            results, documents = results_of(connection, found.study_uid), documents_of(connection, found.study_uid)
            awaited = awaited_by(connection, job)
            events = [e for e in list_events(connection, _EVENTS_SEARCHED) if e.study_uid == found.study_uid]
    out.print(_facts(found))
    for line in (*_made(found, results, documents), *_awaited(awaited), *map(_event, events)):
        out.print(line, soft_wrap=True, markup=False)
    return 0


def retry(config: Path, jobs: Sequence[int], destination: str | None = None) -> int:
    """Queue jobs again, at once, or all dead ones of a destination. Returns 1 where one was not queued.

    Raises SettingsError where neither is named, StorageError.
    """
    if not jobs and destination is None:
        raise SettingsError("name jobs, or a --destination whose dead deliveries are to be sent again")
    out = console()
    with _database(config) as db:
        answers = [_retry(db, job) for job in jobs]
        if destination is not None:
            count = rerun_dead(db, destination, db.now())
            answers.append((True, f"{count} dead deliveries to {destination} are queued again"))
    for _, words in answers:
        out.print(words, soft_wrap=True)
    return 0 if all(queued for queued, _ in answers) else 1


def show_destinations(config: Path) -> int:
    """Print how each destination stands and what waits for it. Raises SettingsError, StorageError."""
    settings = load_settings(config)
    with closing(app.open_database(settings)) as db:
        counts = [count for count in count_jobs(db) if count.kind is JobKind.DELIVER]
        with db.read() as connection:
            states = destination_states_of(connection)
    names = sorted({*settings.destinations, *(count.queue for count in counts)})
    if not names:
        console().print("no destinations")
    for name in names:
        for line in _destination(name, name in settings.destinations, counts, states):
            console().print(line, soft_wrap=True, markup=False)
    return 0


def _destination(name: str, known: bool, counts: Sequence[JobCount], states: Sequence[DestinationState]) -> Iterator[str]:
    mine = {count.state: count.count for count in counts if count.queue == name}
    held = ", ".join(f"{mine[state]} {state}" for state in JobState if mine.get(state)) or "nothing yet"
    yield f"{name}: {held}" + ("" if known else "; NOT IN THE SETTINGS: nobody delivers this")
    for one in states:
        if one.destination == name:
            down = f" after {one.failures} failures, next try {moment(one.next_try_at)}: {one.last_error}"
            yield f"  {one.host}: {one.state} since {moment(one.since)}{'' if one.state == 'closed' else down}"


def show_events(config: Path, kind: str | None, limit: int) -> int:
    """Print the newest events: rejections, refusals, conflicts, failures. Raises SettingsError, StorageError."""
    wanted = _choose(EventKind, "--kind", kind)
    with _database(config) as db, db.read() as connection:
        events = list_events(connection, limit, wanted)
    out = console()
    for event in events:
        where = ", ".join(filter(None, (event.calling_ae, event.host, event.study_uid and f"study {event.study_uid}")))
        out.print(f"{_event(event)}{f' ({where})' if where else ''}", soft_wrap=True, markup=False)
    if not events:
        out.print("no events")
    return 0


def _retry(db: Database, job: int) -> tuple[bool, str]:
    if rerun(db, job, db.now()):
        return True, f"job {job} is queued again"
    found = get_job(db, job)
    if found is None:
        return False, _no_such(job)
    return False, f"job {job} is {found.state} and was left as it is; only dead or done jobs can be run again"


@contextmanager
def _database(config: Path) -> Iterator[Database]:
    with closing(app.open_database(load_settings(config))) as db:
        yield db


def _choose(names: type[_Name], option: str, text: str | None) -> _Name | None:
    if text is None:
        return None
    try:
        return names(text.lower())
    except ValueError as error:
        raise SettingsError(f"{option} {text!r}: allowed: {', '.join(names)}") from error


def _no_such(job: int) -> str:
    return f"there is no job {job}; `wetread jobs list` shows them"


def _counts(counts: Sequence[JobCount]) -> Text:
    if not counts:
        return Text("no jobs yet")
    totals = [(state, sum(count.count for count in counts if count.state is state)) for state in JobState]
    return Text("  ").join(Text(f"{total} {state}", _COLOURS[state] if total else "dim") for state, total in totals)


def _table(jobs: Sequence[Job], *, full: bool) -> Table:
    """``full``: with whole Study Instance UIDs, else with their ends."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("job", "kind", "queue", "state", "priority", "tries", "age"):
        table.add_column(name, no_wrap=True)
    table.add_column("study", no_wrap=True)
    table.add_column("last error", overflow="fold")
    for job in jobs:
        table.add_row(
            str(job.id), job.kind, Text(job.queue), Text(job.state, _COLOURS[job.state]), priority_name(job.priority),
            str(job.attempts), age(time.time() - job.created_at), job.study_uid if full else _short(job.study_uid),
            Text(job.last_error),
        )  # fmt: skip
    return table


def _short(uid: str) -> str:
    return uid if len(uid) < 10 else f"…{uid[-8:]}"


def _facts(job: Job) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts = {
        "job": str(job.id),
        "kind": f"{job.kind}, queue {job.queue}",
        "state": job.state,
        "priority": priority_name(job.priority),
        "study": job.study_uid,
        "tries": str(job.attempts),
        "made": moment(job.created_at),
        "not before": moment(job.not_before) if job.state is JobState.QUEUED and job.not_before else "",
        "leased to": f"{job.lease_owner} until {moment(job.lease_until)}" if job.state is JobState.LEASED else "",
        "first error": moment(job.first_error_at),
        "last error": job.last_error,
        "ended": moment(job.done_at),
        "payload": ", ".join(f"{key}: {value}" for key, value in sorted(job.payload.items())),
    }
    for name, value in facts.items():
        if value:
            table.add_row(Text(name, "dim"), Text(value, _COLOURS[job.state] if name == "state" else ""))
    return table


def _made(job: Job, results: Sequence[ResultRow], documents: Sequence[DocumentRow]) -> Iterator[str]:
    """The result and documents of a reading, or the one document of a delivery."""
    if job.kind is JobKind.DELIVER:
        documents = [document for document in documents if document.uid == job.payload.get("document")]
    else:
        for result in results:
            yield f"result of revision {result.revision} ({result.reading_name}), made {moment(result.created_at)}"
            yield from _heads(result)
    for document in documents:
        yield f"{document.kind} of revision {document.revision}: {document.path} ({document.size} bytes, UID {document.uid})"


def _awaited(one: Awaited | None) -> Iterator[str]:
    if one is not None:
        yield (
            f"stored {one.sends} times, last {moment(one.stored_at)}; commitment asked for {one.asks} times since, "
            f"transaction {one.transaction_uid or 'to be made'}"
        )


def _heads(result: ResultRow) -> Iterator[str]:
    """What the findings of a result rest on beside the models; nothing where no head took part."""
    try:
        reading = from_json(result.reading_json)
    except StorageError as error:
        yield f"  {error}"
        return
    for head in reading.heads:
        yield f"  {head.kind} {head.name} {head.version}, sha256 {head.digest}"
    for finding in (*reading.findings, *reading.shadow) if reading.heads else ():
        said = finding.decision.value if finding.probability is None else f"{finding.decision} {finding.probability:.3f}"
        yield f"  {finding.key}: {said}, by {finding.method}" + (" in shadow" if finding in reading.shadow else "")


def _event(event: EventRow) -> str:
    return f"{moment(event.at)} {event.severity}: {event.kind}: {event.text}"
