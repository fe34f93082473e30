"""What a study has become, everywhere: gathered from the node's database and from each destination, for the checker."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset

from dicom_node.storage.instances import InstanceRow, instances_of
from dicom_node.storage.jobs import Job, list_jobs
from dicom_node.storage.results import DocumentRow, documents_of, results_of
from dicom_node.storage.studies import StudyRow, get_study

from .. import sr
from .site import Site


@dataclass(frozen=True, slots=True)
class Report:
    """An SR of ours as the archive gives it back. ``replaces``: SOP Instance UIDs of its predecessors; ``evidence``: images."""

    uid: str
    sop_class: str
    replaces: frozenset[str]
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A DiagnosticReport. ``replaces``: the identifier of the report it stands in place of."""

    identifier: str
    status: str
    conclusion: str
    replaces: str


@dataclass(frozen=True, slots=True)
class Found:
    """One study. ``messages``: control ID to the bytes that came under it; ``files``: name to sha256 of its content."""

    study_uid: str
    acknowledged: frozenset[str]
    row: StudyRow | None
    instances: tuple[InstanceRow, ...]
    jobs: tuple[Job, ...]
    revisions: tuple[int, ...]  # with a result
    documents: tuple[DocumentRow, ...]
    bodies: dict[str, Any]  # of FHIR and HL7 documents, by their UID: the Bundle; the control ID
    reports: tuple[Report, ...]
    entries: tuple[Entry, ...]
    messages: dict[str, Counter[str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[DocumentRow]:
        """Documents that may leave, the oldest revision first."""
        return sorted((d for d in self.documents if d.kind == kind and not d.held), key=lambda d: (d.revision, d.created_at))


def gather(site: Site, acknowledged: dict[str, set[str]]) -> list[Found]:
    """Every study of which the sender was told that something is stored."""
    entries = list(_entries(site.record.fhir.all("DiagnosticReport"), site.record.fhir.all("ImagingStudy")))
    messages = site.ris.messages()
    files = {path.name: _digest(path) for path in site.archive.glob("*") if path.is_file()} if site.archive.exists() else {}
    return [_found(site, uid, sops, entries, messages, files) for uid, sops in sorted(acknowledged.items())]


def _found(
    site: Site,
    uid: str,
    acknowledged: Iterable[str],
    entries: Sequence[tuple[str, Entry]],
    messages: dict[str, Counter[str]],
    files: dict[str, str],
) -> Found:
    with site.database.read() as conn:
        row, instances = get_study(conn, uid), instances_of(conn, uid, include_set_aside=True)
        documents, results = documents_of(conn, uid), results_of(conn, uid)
    bodies = {one.uid: _body(site.data, one) for one in documents if one.kind in ("fhir-bundle", "hl7-oru") and not one.held}
    controls = {body for body in bodies.values() if isinstance(body, str)}
    return Found(
        study_uid=uid,
        acknowledged=frozenset(acknowledged),
        row=row,
        instances=instances,
        jobs=list_jobs(site.database, study_uid=uid, limit=1000),
        revisions=tuple(sorted(one.revision for one in results)),
        documents=documents,
        bodies=bodies,
        reports=tuple(_report(one.dataset) for one in site.pacs.orthanc.instances(uid, "SR") if sr.is_ours(one.dataset)),
        entries=tuple(entry for study, entry in entries if study == uid),
        messages={control: came for control, came in messages.items() if control in controls},
        files={name: digest for name, digest in files.items() if any(one.uid in name for one in documents)},
    )


def _body(data: Path, document: DocumentRow) -> Any:
    content = (data / document.path).read_bytes()
    if document.kind == "fhir-bundle":
        return json.loads(content)
    return content.split(b"\r", 1)[0].decode().split("|")[9]


def _report(dataset: Dataset) -> Report:
    replaces = frozenset(
        str(one.ReferencedSOPInstanceUID)
        for study in dataset.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    )
    return Report(str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), replaces, frozenset(sr.evidence(dataset)))


def _entries(reports: Iterable[dict[str, Any]], studies: Iterable[dict[str, Any]]) -> Iterable[tuple[str, Entry]]:
    """(Study Instance UID, report) of each DiagnosticReport."""
    uids = {f"ImagingStudy/{study['id']}": study["identifier"][0]["value"].removeprefix("urn:oid:") for study in studies}
    for report in reports:
        references = [one.get("reference") for one in report.get("imagingStudy", [])]
        yield next((uids[one] for one in references if one in uids), ""), entry_of(report)


def entry_of(report: dict[str, Any]) -> Entry:
    identifier = report["identifier"][0]["value"]
    replaced = [e["valueReference"]["identifier"]["value"] for e in report.get("extension", []) if "valueReference" in e]
    return Entry(identifier, report["status"], report.get("conclusion", ""), replaced[0] if replaced else "")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
