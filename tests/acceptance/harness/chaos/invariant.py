"""The invariant: every acknowledged study has exactly one current result at every destination, and nothing waits for a hand.

Pure functions over what was found; each fault is a sentence. Nothing of the node decides here what is right, except which
documents it says it has made: those must all be where they belong, once, linked, and the last of them must cover every image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from dicom_node.storage.jobs import Job, JobKind, JobState

from .. import sr
from .found import Entry, Found, Report, entry_of

SR_KINDS = {"findings-sr": sr.FINDINGS, "draft-sr": sr.DRAFT}
FOLDER_KINDS = ("findings-sr", "draft-sr", "fhir-bundle")


def check(study: Found, excused: Collection[str] = ()) -> list[str]:
    """What is wrong with one study; empty where nothing is. ``excused``: destinations that have said "never" to an object."""
    if study.row is None:
        return ["its images were acknowledged, and the node does not know the study"]
    faults = [*_received(study), *_worked(study, excused), *_documents(study)]
    for name, judge in (("pacs", _archive), ("record", _record), ("ris", _messages), ("archive", _files)):
        if name not in excused or not _dead(study, name):
            faults += [f"{name}: {fault}" for fault in judge(study)]
    return faults


def _received(study: Found) -> Iterator[str]:
    copies = Counter(row.sop_uid for row in study.instances)
    for uid in sorted(study.acknowledged - copies.keys()):
        yield f"image …{uid[-8:]} was acknowledged and is not there"
    for uid, count in sorted(copies.items()):
        if count > 1:
            yield f"image …{uid[-8:]} is there {count} times"


def _worked(study: Found, excused: Collection[str]) -> Iterator[str]:
    assert study.row is not None
    if study.row.dirty:
        yield "its last images wait for a reading that nobody has queued"
    for job in study.jobs:
        if job.state is JobState.DEAD and job.queue in excused:
            continue
        if job.state is not JobState.DONE:
            yield f"job {job.id} ({_named(job)}) is {job.state}: {job.last_error}"
    again = Counter(study.revisions)
    if any(count > 1 for count in again.values()):
        yield f"results of revisions {study.revisions}: one each is right"
    if study.row.revision not in again:
        yield f"revision {study.row.revision} has no result"


def _documents(study: Found) -> Iterator[str]:
    assert study.row is not None
    for kind in (*SR_KINDS, "fhir-bundle", "hl7-oru"):
        made = study.of_kind(kind)
        if not made or made[-1].revision != study.row.revision:
            yield f"no {kind} of revision {study.row.revision} was made"
    for document in study.documents:
        if document.held:
            yield f"{document.kind} {document.uid} is held: {document.held}"


def _archive(study: Found) -> Iterator[str]:
    assert study.row is not None
    for kind, sop_class in SR_KINDS.items():
        there = [report for report in study.reports if report.sop_class == sop_class]
        yield from _same(f"{kind} objects", {d.uid for d in study.of_kind(kind)}, [report.uid for report in there])
        current = [report for report in there if report.uid not in _replaced(there)]
        if len(current) != 1:
            yield f"{len(current)} current {kind} objects; one is right"
        yield from _chain(kind, there)
        for report in current:
            if study.acknowledged - report.evidence:
                left = sorted(study.acknowledged - report.evidence)
                yield f"the current {kind} does not cover {len(left)} of {len(study.acknowledged)} acknowledged images"


def _chain(kind: str, reports: Collection[Report]) -> Iterator[str]:
    """Each names its one predecessor, none is named twice."""
    named = Counter(uid for report in reports for uid in _same_kind(report, reports))
    for uid, count in sorted(named.items()):
        if count > 1:
            yield f"{kind} {uid} is replaced by {count} others"


def _replaced(reports: Collection[Report]) -> set[str]:
    return {uid for report in reports for uid in report.replaces}


def _same_kind(report: Report, reports: Collection[Report]) -> frozenset[str]:
    return report.replaces & {one.uid for one in reports}


def _record(study: Found) -> Iterator[str]:
    expected: dict[str, Entry] = {}
    last = ""
    for document in study.of_kind("fhir-bundle"):
        entry = _entry_in(study.bodies[document.uid])
        expected[entry.identifier] = entry
        last = entry.identifier
    yield from _same("DiagnosticReports", expected.keys(), [entry.identifier for entry in study.entries])
    replaced = {entry.replaces for entry in study.entries}
    current = [entry for entry in study.entries if entry.identifier not in replaced]
    if [entry.identifier for entry in current] != [last]:
        yield f"{len(current)} current DiagnosticReports; one, the last made, is right"
    for entry in study.entries:
        if entry.identifier in expected and entry != expected[entry.identifier]:
            yield f"DiagnosticReport {entry.identifier} does not say what the last Bundle said"


def _entry_in(bundle: dict[str, object]) -> Entry:
    resources = [one["resource"] for one in bundle["entry"]]  # type: ignore[attr-defined]
    (report,) = [one for one in resources if one["resourceType"] == "DiagnosticReport"]
    return entry_of(report)


def _messages(study: Found) -> Iterator[str]:
    wanted = {study.bodies[document.uid] for document in study.of_kind("hl7-oru")}
    for control in sorted(wanted - study.messages.keys()):
        yield f"message {control} never came"
    for control, bodies in sorted(study.messages.items()):
        if len(bodies) > 1:
            yield f"message {control} came with {len(bodies)} different contents"


def _files(study: Found) -> Iterator[str]:
    wanted = {document.uid: document for kind in FOLDER_KINDS for document in study.of_kind(kind)}
    there = {uid: name for uid in wanted for name in study.files if uid in name and not name.startswith(".")}
    for uid in sorted(wanted.keys() - there.keys()):
        yield f"no file of {wanted[uid].kind} {uid}"
    for uid, name in sorted(there.items()):
        if study.files[name] != wanted[uid].sha256:
            yield f"{name} has other bytes than the document"
    for name in sorted(set(study.files) - set(there.values())):
        yield f"{name} does not belong there"


def _same(what: str, wanted: Collection[str], there: list[str]) -> Iterator[str]:
    count = Counter(there)
    missing, extra = set(wanted) - count.keys(), count.keys() - set(wanted)
    if missing:
        yield f"{len(missing)} of {len(set(wanted))} {what} are missing"
    if extra:
        yield f"{len(extra)} {what} that the node does not know of"
    if any(number > 1 for number in count.values()):
        yield f"{what} stand there more than once"


def _dead(study: Found, queue: str) -> bool:
    return any(job.queue == queue and job.state is JobState.DEAD for job in study.jobs)


def _named(job: Job) -> str:
    return f"to {job.queue}" if job.kind is JobKind.DELIVER else f"read revision {job.payload.get('revision')}"
