"""The house: one node with Orthanc, the FHIR server and a folder behind it, shared by all tests that leave it running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .harness.node import Node
from .harness.peers import FhirServer, Orthanc


@dataclass(frozen=True, slots=True)
class House:
    """A running node and where its results go."""

    node: Node
    pacs: Orthanc
    fhir: FhirServer | None
    archive: Path
    why_no_fhir: str = ""

    @property
    def record(self) -> FhirServer:
        """The FHIR server. Skips the test where there is none here."""
        if self.fhir is None:
            pytest.skip(self.why_no_fhir)
        return self.fhir

    def in_record(self, study_uid: str) -> int | None:
        """How many reports of the study the FHIR server holds; None where there is no FHIR server here."""
        return None if self.fhir is None else len(self.fhir.reports(study_uid))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


def destinations(pacs: Orthanc, fhir: FhirServer | None, archive: Path) -> dict[str, Any]:
    """All kinds of destination that there are here."""
    found: dict[str, Any] = {"archive": {"kind": "folder", "path": str(archive)}}
    found["pacs"] = {"kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom_port, "ae_title": pacs.ae_title, "timeout_s": 10}
    if fhir is not None:
        found["record"] = {"kind": "fhir", "url": fhir.url, "timeout_s": 30}
    return found


def fhir_server(folder: Path) -> tuple[FhirServer | None, str]:
    """A running FHIR server, or None and why there is none here."""
    try:
        peer = FhirServer(folder)
    except pytest.skip.Exception as reason:
        return None, str(reason)
    peer.start()
    return peer, ""


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """All of it runs, models loaded, before the first test, and is stopped, cleanly, after the last."""
    folder = tmp_path_factory.mktemp("house")
    pacs = Orthanc(folder / "orthanc")
    fhir, why = fhir_server(folder / "fhir")
    node = Node(folder / "node", destinations(pacs, fhir, folder / "archive"))
    try:
        pacs.start()
        node.start()
        node.wait_until_working()
        yield House(node, pacs, fhir, folder / "archive", why)
        assert node.stop() == 0
    finally:
        node.end()
        pacs.stop()
        if fhir is not None:
            fhir.stop()
