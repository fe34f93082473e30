"""A Bundle of a real reading, delivered to servers of every ability: never twice, never silently less."""

from __future__ import annotations

import json
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.fhir import FhirPeer
from dicom_node.remote.fhir_delivery import ASKED_AGAIN_S, FhirServer
from dicom_node.remote.tls import TlsFiles
from reporting.context import DocumentKind
from reporting.options import DocumentOptions, FhirWrite
from tests.dicom_node import test_mllp
from tests.dicom_node.remote.record import ALL, WRITES, Record, serving
from tests.reporting.samples import OPTIONS, by_kind, context, reading

FHIR_ONLY = replace(OPTIONS, kinds=frozenset({DocumentKind.FHIR_BUNDLE}), dicomweb_url="https://pacs.example.org/dicom-web")
WHOLE = Counter(
    {
        "Patient": 1,
        "Endpoint": 1,
        "ImagingStudy": 1,
        "Organization": 1,
        "Device": 3,
        "Observation": 3,
        "DiagnosticReport": 1,
        "Provenance": 1,
    }
)


authority = test_mllp.authority  # the fixture


def bundle(options: DocumentOptions = FHIR_ONLY, **changes: Any) -> bytes:
    return by_kind(reading(), context(), replace(options, **changes))[DocumentKind.FHIR_BUNDLE].content


BUNDLES: dict[FhirWrite, bytes] = {"by-id": bundle(), "by-search": bundle(fhir_write="by-search")}


def without(*kinds: str) -> dict[str, tuple[str, ...]]:
    return {kind: WRITES for kind in ALL if kind not in kinds}


ABLE: dict[str, Callable[[], Record]] = {
    "of every ability": Record,
    "without a statement": lambda: Record(statement=False),
    "which lets nobody name ids": lambda: Record(update_create=False),
    "which ignores conditions": lambda: Record(conditional_create=False),
    "which says nothing of conditions and ignores them": lambda: Record(conditional_create=None),
    "of ids of ours only": lambda: Record(types=dict.fromkeys(ALL, ("read", "update", "search-type"))),
    "of ids of its own only": lambda: Record(types=dict.fromkeys(ALL, ("read", "create", "search-type"))),
    "of resources only": lambda: Record(transaction=False),
    "of resources only, without promises": lambda: Record(transaction=False, conditional_create=False, update_create=False),
    "of resources only, without addresses": lambda: Record(transaction=False, update_create=False, location=False),
}


@pytest.mark.parametrize("write", BUNDLES)
@pytest.mark.parametrize("record", ABLE.values(), ids=ABLE)
def test_delivered_three_times_it_is_there_once(record: Callable[[], Record], write: FhirWrite) -> None:
    with serving(held := record()) as url:
        for _ in range(3):
            FhirServer(FhirPeer(url)).deliver(BUNDLES[write])
    assert held.counts == WHOLE
    assert_whole(held)


class Forgetful(Record):
    """It answers as if it had written, and keeps nothing."""

    def answer(self, method: str, path: str, query: str, content: bytes, condition: str) -> tuple[int, dict[str, Any], str]:
        before = dict(self.held)
        said = super().answer(method, path, query, content, condition)
        self.held = before
        return said


@pytest.mark.parametrize("write", BUNDLES)
def test_what_a_server_says_it_stored_and_lost_is_found_where_it_is_read_back(write: FhirWrite) -> None:
    with serving(Forgetful()) as url:
        assert FhirServer(FhirPeer(url)).deliver(BUNDLES[write]) == ""
        with pytest.raises(PeerUnavailable, match="said that it stored the DiagnosticReport, but does not find it so"):
            FhirServer(FhirPeer(url), confirm=True).deliver(BUNDLES[write])


@pytest.mark.parametrize("write", BUNDLES)
@pytest.mark.parametrize("record", ABLE.values(), ids=ABLE)
def test_what_is_there_is_confirmed(record: Callable[[], Record], write: FhirWrite) -> None:
    with serving(held := record()) as url:
        FhirServer(FhirPeer(url), confirm=True).deliver(BUNDLES[write])
    assert held.counts == WHOLE


def test_an_older_text_under_the_same_identifier_is_not_what_was_delivered() -> None:
    with serving(held := Record()) as url:
        FhirServer(FhirPeer(url), confirm=True).deliver(BUNDLES["by-id"])
        (report,) = held.of("DiagnosticReport")
        report["conclusion"] = "what stood there before"
        held.answer = lambda *_: (200, {"resourceType": "Bundle", "entry": [{"resource": report}]}, "")  # type: ignore[method-assign]
        with pytest.raises(PeerUnavailable, match="does not find it so"):
            FhirServer(FhirPeer(url), confirm=True).deliver(BUNDLES["by-id"])


def assert_whole(record: Record) -> None:
    """Every literal reference leads to what it names; the report to the study and its findings."""
    (report,) = record.of("DiagnosticReport")
    references = json.dumps(list(record.held.values())).split('"reference": "')[1:]
    assert all(text.split('"')[0] in record.held for text in references)
    assert [record.held[one["reference"]]["resourceType"] for one in report["result"]] == ["Observation"] * 3
    assert record.held[report["subject"]["reference"]]["identifier"][0]["value"] == "P-1"


@pytest.mark.parametrize("write", BUNDLES)
def test_broken_off_in_the_middle_it_is_taken_up_again(write: FhirWrite) -> None:
    record = Record(transaction=False, broken="DiagnosticReport")
    with serving(record) as url:
        server = FhirServer(FhirPeer(url))
        with pytest.raises(PeerUnavailable):
            server.deliver(BUNDLES[write])
        assert record.counts == WHOLE - Counter({"DiagnosticReport": 1, "Provenance": 1})
        server.deliver(BUNDLES[write])
    assert record.counts == WHOLE
    assert_whole(record)


@pytest.mark.parametrize("write", BUNDLES)
@pytest.mark.parametrize("transaction", [True, False])
def test_what_a_server_does_not_take_is_named_by_its_identifier(write: FhirWrite, transaction: bool) -> None:
    record = Record(transaction=transaction, types=without("Device", "ImagingStudy", "Endpoint", "Organization"))
    with serving(record) as url:
        note = FhirServer(FhirPeer(url)).deliver(BUNDLES[write])
    assert "only named by their identifiers (Endpoint, ImagingStudy, Organization, Device)" in note
    (report,) = record.of("DiagnosticReport")
    assert report["imagingStudy"] == [
        {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}
    ]
    assert report["performer"][0]["type"] == "Organization"
    assert all(one["device"]["identifier"]["value"].startswith("2.25.") for one in record.of("Observation"))
    assert record.counts == Counter({"Patient": 1, "Observation": 3, "DiagnosticReport": 1, "Provenance": 1})


def test_findings_that_a_server_does_not_take_are_left_out_and_the_report_still_tells_them() -> None:
    record = Record(types=without("Observation"))
    with serving(record) as url:
        note = FhirServer(FhirPeer(url)).deliver(BUNDLES["by-id"])
    assert "left out (Observation)" in note
    (report,) = record.of("DiagnosticReport")
    assert "result" not in report
    assert "Pneumothorax" in report["conclusion"]
    (provenance,) = record.of("Provenance")
    assert [target["reference"].split("/")[0] for target in provenance["target"]] == ["DiagnosticReport"]


def test_a_server_that_takes_no_report_is_told_by_name() -> None:
    record = Record(types=without("DiagnosticReport"))
    with serving(record) as url, pytest.raises(PeerRefused, match="takes no DiagnosticReport"):
        FhirServer(FhirPeer(url)).deliver(BUNDLES["by-id"])
    assert not record.held


@pytest.mark.parametrize("write", BUNDLES)
def test_patients_of_the_record_are_looked_up_and_waited_for(write: FhirWrite) -> None:
    record = Record(types={**without(), "Patient": ("read", "search-type")})
    with serving(record) as url:
        server = FhirServer(FhirPeer(url))
        with pytest.raises(PeerUnavailable, match="does not know this one yet"):
            server.deliver(BUNDLES[write])
        assert not record.held
        patient = json.loads(BUNDLES[write])["entry"][0]["resource"]
        record.held["Patient/7"] = {**patient, "id": "7"}
        assert "looked up (Patient)" in server.deliver(BUNDLES[write])
    assert {one["subject"]["reference"] for one in record.of("Observation")} == {"Patient/7"}
    assert record.counts == WHOLE


def test_another_patient_is_never_taken_for_ours() -> None:
    """A server may pass over a search parameter that it does not know and answer with anybody."""
    record = Record(types={**without(), "Patient": ("read", "search-type")}, filters=False)
    record.held["Patient/9"] = {"resourceType": "Patient", "id": "9", "identifier": [{"system": "urn:x", "value": "P-1"}]}
    with serving(record) as url, pytest.raises(PeerUnavailable, match="does not know this one yet"):
        FhirServer(FhirPeer(url)).deliver(BUNDLES["by-id"])


def test_a_patient_held_twice_is_for_the_record_to_join() -> None:
    record = Record(types={**without(), "Patient": ("read", "search-type")})
    patient = json.loads(BUNDLES["by-id"])["entry"][0]["resource"]
    record.held |= {f"Patient/{own}": {**patient, "id": own} for own in ("1", "2")}
    with serving(record) as url, pytest.raises(PeerUnavailable, match="holds 2 resources Patient"):
        FhirServer(FhirPeer(url)).deliver(BUNDLES["by-id"])


VERSIONS = {
    "R5 to R4": ("R5", "4.0.1", "documents.fhir_version: R4"),
    "R4 to R5": ("R4", "5.0.0", "documents.fhir_version: R5"),
    "R4 to STU3": ("R4", "3.0.2", "it needs R4 or R5"),
    "R4 to R4": ("R4", "4.0.1", ""),
    "R4 to R4B": ("R4", "4.3.0", ""),
    "R5 to R5": ("R5", "5.0.0", ""),
}


@pytest.mark.parametrize(("ours", "theirs", "said"), VERSIONS.values(), ids=VERSIONS)
def test_another_version_is_refused_with_what_to_do(ours: str, theirs: str, said: str) -> None:
    record = Record(version=theirs)
    content = bundle(fhir_version=ours)
    with serving(record) as url:
        if not said:
            assert FhirServer(FhirPeer(url)).deliver(content) == ""
            return
        with pytest.raises(PeerRefused, match=said):
            FhirServer(FhirPeer(url)).deliver(content)
    assert not record.held
    assert record.asked == ["GET /fhir/metadata"]


def test_it_is_asked_once_then_after_an_hour_or_a_failure() -> None:
    now = [0.0]
    record = Record()
    with serving(record) as url:
        server = FhirServer(FhirPeer(url), clock=lambda: now[0])

        def asked() -> int:
            server.deliver(BUNDLES["by-id"])
            return record.asked.count("GET /fhir/metadata")

        assert [asked(), asked()] == [1, 1]
        now[0] += ASKED_AGAIN_S + 1
        assert [asked(), asked()] == [2, 2]
        record.broken = "Patient"
        with pytest.raises(PeerUnavailable):
            server.deliver(BUNDLES["by-id"])
        record.transaction = False
        assert asked() == 3
        assert "POST /fhir/" not in record.asked[-3:]
    assert record.counts == WHOLE


@pytest.mark.parametrize("transaction", [True, False])
def test_several_at_once_make_one_patient_where_the_server_promises_nothing(transaction: bool) -> None:
    record = Record(transaction=transaction, conditional_create=False, update_create=False, slow_s=0.01)
    with serving(record) as url:
        server = FhirServer(FhirPeer(url))
        bundles = [bundle(software_version=f"0.1.{number}") for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(server.deliver, bundles))
    assert record.counts["Patient"] == record.counts["ImagingStudy"] == 1
    assert record.counts["DiagnosticReport"] == 4


def test_tls_with_both_sides_known(authority: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority / "node.pem")
    context.load_cert_chain(authority / "node.pem", authority / "node.key")
    context.verify_mode = ssl.CERT_REQUIRED
    ours = TlsFiles(authority / "node.pem", authority / "node.pem", authority / "node.key")
    with serving(record := Record(), context) as url:
        for tls in (TlsFiles(), TlsFiles(authority / "node.pem")):  # an authority unknown here, no certificate of ours
            with pytest.raises(PeerUnavailable):
                FhirServer(FhirPeer(url, tls=tls)).deliver(BUNDLES["by-id"])
        with pytest.raises(PeerUnavailable, match="its TLS files cannot be used"):
            FhirServer(FhirPeer(url, tls=TlsFiles(authority / "none.pem"))).deliver(BUNDLES["by-id"])
        assert not record.held
        FhirServer(FhirPeer(url, tls=ours)).deliver(BUNDLES["by-id"])
    assert record.counts == WHOLE


def test_basic_login_is_read_anew_and_never_told(tmp_path: Path) -> None:
    secret = tmp_path / "basic"
    for wrong in ("no colon", "two:\nlines:x", ""):
        secret.write_text(wrong)
        with pytest.raises(PeerUnavailable, match="basic file") as caught:
            FhirServer(FhirPeer("http://127.0.0.1:9/fhir", basic_file=secret)).deliver(BUNDLES["by-id"])
        assert wrong == "" or wrong.split("\n")[-1] not in str(caught.value)
    secret.write_text("node:geheim\n")
    with serving(record := Record()) as url:
        FhirServer(FhirPeer(url, basic_file=secret)).deliver(BUNDLES["by-id"])
    assert record.counts == WHOLE
