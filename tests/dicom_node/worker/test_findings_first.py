"""Findings before the draft: what goes out when, that nothing is doubled, and that a stop between the two loses nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import delete

from dicom_node.storage import tables
from dicom_node.storage.jobs import JobState, rerun
from dicom_node.storage.results import documents_of
from inference.errors import DeviceLost
from inference.reading import Decision, Reading
from inference.stages import Triaged
from tests.dicom_node.worker.site import DraftingReader, Site

FIRST = {"findings-sr", "first fhir-bundle", "first hl7-oru"}
WHOLE = {"findings-sr", "draft-sr", "fhir-bundle", "hl7-oru"}
LATER = "still being written and follows"


class Stopping(DraftingReader):
    """The power fails before the draft."""

    def finish(self, _: Sequence[Triaged]) -> list[Reading]:
        raise DeviceLost("cuda: drafting failed")


def stopped_between(site: Site) -> str:
    study = site.add(1, priority=0)
    with pytest.raises(DeviceLost):
        site.worker(Stopping()).step()
    assert site.reading(study).draft.pending
    assert set(site.documents(study)) == FIRST
    return study


def test_a_stat_finding_is_saved_and_sent_in_two_steps(site: Site) -> None:
    study = site.add(1)
    site.read_all(DraftingReader())
    documents = site.documents(study)
    assert set(documents) == FIRST | WHOLE
    sent = {(queue, uid) for queue, uid in site.delivered(study)}
    assert sent == {
        ("pacs", documents["findings-sr"].uid),
        ("pacs", documents["draft-sr"].uid),
        ("record", documents["first fhir-bundle"].uid),
        ("record", documents["fhir-bundle"].uid),
        ("interface", documents["first hl7-oru"].uid),
        ("interface", documents["hl7-oru"].uid),
    }
    reading = site.reading(study)
    assert reading.draft.sentences
    assert not reading.draft.pending
    assert site.job(study).state is JobState.DONE


WISHES = {
    "never": ("never", False),
    "always": ("always", True),
    "stat, and there is one": ("stat", True),
}


@pytest.mark.parametrize(("wish", "first"), WISHES.values(), ids=WISHES)
def test_whether_findings_go_first_is_configured(site: Site, wish: str, first: bool) -> None:
    study = site.add(1)
    site.read_all(DraftingReader(), findings_first=wish)
    assert set(site.documents(study)) == (FIRST | WHOLE if first else WHOLE)


def test_without_a_stat_finding_nothing_goes_first(site: Site) -> None:
    class Calm(DraftingReader):
        def triage(self, studies: Any) -> list[Triaged]:
            found = super().triage(studies)
            return [replace(one, reading=_without_positives(one.reading)) for one in found]

    study = site.add(1)
    site.read_all(Calm())
    assert set(site.documents(study)) == WHOLE


def _without_positives(reading: Reading) -> Reading:
    return replace(reading, findings=tuple(replace(one, decision=Decision.NEGATIVE) for one in reading.findings))


def test_the_whole_documents_are_the_same_bytes_with_and_without(site: Site) -> None:
    study = site.add(1)
    site.read_all(DraftingReader())
    two_steps = {kind: row.sha256 for kind, row in site.documents(study).items()}
    with site.db.write() as connection:
        connection.execute(delete(tables.documents))
        connection.execute(delete(tables.results))
    assert rerun(site.db, site.job(study).id, 0.0)
    site.read_all(DraftingReader(), findings_first="never")
    together = {kind: row.sha256 for kind, row in site.documents(study).items()}
    assert together == {kind: two_steps[kind] for kind in WHOLE}


def test_the_messages_belong_together(site: Site) -> None:
    """One report in the record, updated; one order in the interface engine, by a later message of its own."""
    study = site.add(1)
    site.read_all(DraftingReader())
    documents = site.documents(study)
    first, whole = (json.loads(site.content(documents[name])) for name in ("first fhir-bundle", "fhir-bundle"))
    assert {entry["request"]["url"] for entry in first["entry"]} == {entry["request"]["url"] for entry in whole["entry"]}
    assert {entry["request"]["method"] for entry in first["entry"]} == {"PUT"}
    assert first["identifier"] != whole["identifier"]
    said = [_report(bundle)["conclusion"] for bundle in (first, whole)]
    assert LATER in said[0]
    assert LATER not in said[1]
    early, late = (site.content(documents[name]).decode() for name in ("first hl7-oru", "hl7-oru"))
    assert _field(early, "MSH", 9) != _field(late, "MSH", 9), "MSH-10: another message"
    assert [_field(early, "OBR", n) for n in (2, 3, 18)] == [_field(late, "OBR", n) for n in (2, 3, 18)]
    assert LATER in early
    assert LATER not in late


def _report(bundle: dict[str, Any]) -> dict[str, Any]:
    return next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")


def _field(message: str, segment: str, number: int) -> str:
    return next(line for line in message.split("\r") if line.startswith(segment)).split("|")[number]


def test_the_draft_names_the_findings(site: Site) -> None:
    study = site.add(1)
    site.read_all(DraftingReader())
    documents = site.documents(study)
    draft = dcmread(BytesIO(site.content(documents["draft-sr"])))
    section = next(item for item in draft.ContentSequence if item.ValueType == "CONTAINER")
    (named,) = [item for item in section.ContentSequence if item.ValueType == "COMPOSITE"]
    (reference,) = named.ReferencedSOPSequence
    findings = documents["findings-sr"]
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (findings.sop_class_uid, findings.uid)


def test_a_stop_between_the_steps_loses_and_doubles_nothing(site: Site) -> None:
    study = stopped_between(site)
    before = {kind: row.sha256 for kind, row in site.documents(study).items()}
    sent = site.delivered(study)
    other = DraftingReader()
    assert site.worker(other, owner="host:2:2").step()
    assert [what for what, _ in other.batches] == ["finish"], "the findings are not made anew"
    after = {kind: row.sha256 for kind, row in site.documents(study).items()}
    assert set(after) == FIRST | WHOLE
    assert before.items() <= after.items()
    assert set(sent) < set(site.delivered(study))
    assert site.reading(study).draft.sentences
    assert site.job(study).state is JobState.DONE


def test_findings_that_were_sent_stand_where_the_draft_fails_for_good(site: Site) -> None:
    class NoDraft(DraftingReader):
        def finish(self, _: Sequence[Triaged]) -> list[Reading]:
            raise ValueError("x")

    study = site.add(1)
    site.read_all(NoDraft(), max_attempts=2)
    reading = site.reading(study)
    assert reading.assessed
    assert reading.positives
    assert reading.draft.reason == "the draft failed 2 times and was given up"
    assert set(site.documents(study)) == FIRST | WHOLE
    assert site.job(study).state is JobState.DONE


def test_a_later_revision_replaces_findings_whose_draft_never_came(site: Site) -> None:
    study = stopped_between(site)
    site.add(1, study=study, revision=2)
    site.read_all(DraftingReader())
    assert site.job(study).state is JobState.DONE
    assert site.job(study, revision=2).state is JobState.DONE
    first, second = (_bundle_of(site, study, revision) for revision in (1, 2))
    (replaces,) = _report(second)["extension"]
    assert replaces["valueReference"]["identifier"] == _report(first)["identifier"][0]


def _bundle_of(site: Site, study: str, revision: int) -> dict[str, Any]:
    """The last of a revision: the whole one, where it came so far."""
    with site.db.read() as connection:
        rows = documents_of(connection, study, revision)
    found = [row for row in rows if row.kind == "fhir-bundle"]
    bundle: dict[str, Any] = json.loads(site.content(min(found, key=lambda row: len(row.uid))))
    return bundle
