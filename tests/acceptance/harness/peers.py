"""The receiving peers: Orthanc as the PACS, and the reference FHIR server.

Orthanc binds every address whatever its settings say. RemoteAccessAllowed false closes its REST interface to other machines,
and DicomAlwaysAllowStore false with DicomCheckModalityHost true takes objects only from the node under test on loopback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from .processes import ROOT, Running, free_port, require, wait_for

SENDER = "SENDER"  # calling AE title of the tests' own senders
RESOURCES = (
    "DiagnosticReport", "Observation", "ImagingStudy", "Device", "Provenance", "Patient", "Organization", "Practitioner",
    "ServiceRequest", "DocumentReference", "Endpoint", "Binary", "Media", "Task",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """One instance in Orthanc: the file as it gives it back."""

    content: bytes
    orthanc_study: str

    @property
    def dataset(self) -> pydicom.Dataset:
        return pydicom.dcmread(BytesIO(self.content))


class Orthanc:
    """Orthanc with its own folder; started again, it still holds what it was given."""

    ae_title = "ORTHANC"

    def __init__(self, folder: Path) -> None:
        self.program = require("Orthanc", "orthanc")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.dicom_port, self.http_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._running: Running | None = None

    def start(self) -> None:
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(self._configuration()), "utf-8")
        self._running = running = Running("Orthanc", [self.program, file], self.folder / "orthanc.log", cwd=self.folder)

        def up() -> bool:
            running.must_live()
            try:
                return httpx.get(f"{self.url}/system", trust_env=False).is_success
            except httpx.TransportError:
                return False

        wait_for("Orthanc to listen", up, seconds=30)

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def studies(self, study_uid: str) -> list[str]:
        """Orthanc's own ids of the study: one per pair of Patient ID and Study Instance UID, so two mean a broken patient."""
        return [str(found["ID"]) for found in self._find("Study", {"StudyInstanceUID": study_uid})]

    def instances(self, study_uid: str, modality: str = "") -> list[Stored]:
        """Every instance of the study, or those of one modality."""
        wanted = {"StudyInstanceUID": study_uid, **({"Modality": modality} if modality else {})}
        series = {found["ID"]: str(found["ParentStudy"]) for found in self._find("Series", wanted)}
        return [
            Stored(self._get(f"/instances/{instance}/file").content, study)
            for identifier, study in series.items()
            for instance in sorted(self._get(f"/series/{identifier}").json()["Instances"])
        ]

    def count(self) -> int:
        return int(self._get("/statistics").json()["CountInstances"])

    def _find(self, level: str, query: dict[str, str]) -> list[dict[str, Any]]:
        body = {"Level": level, "Query": query, "Expand": True}
        answer = httpx.post(f"{self.url}/tools/find", json=body, trust_env=False, timeout=30)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=30).raise_for_status()

    def _configuration(self) -> dict[str, Any]:
        peers = {name: {"AET": name, "Host": "127.0.0.1", "Port": 1, "AllowEcho": True, "AllowStore": True} for name in
                 ("WETREAD", SENDER)}  # fmt: skip
        return {
            "Name": "acceptance",
            "StorageDirectory": str(self.folder / "store"),
            "IndexDirectory": str(self.folder / "store"),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True,
            "DicomModalities": peers,
            "Plugins": [],
        }


class FhirServer:
    """The reference FHIR R4 server, in memory: it validates each resource and refuses invalid ones with 422."""

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("no FHIR server: Node.js is not installed")
        source = self._source()
        packages = ROOT / ".venv" / "fhir-peer"
        if not (packages / "node_modules" / "@medplum" / "fhir-router").is_dir():
            pytest.skip("no FHIR server: its npm packages are not in .venv/fhir-peer; run tests/acceptance/install_peers.sh")
        self.port = free_port()
        self._script = packages / f"server-{self.port}.mjs"  # beside its packages, where its imports resolve
        shutil.copyfile(source, self._script)
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "fhir.log"
        self._command = [node, *_flags(node), self._script, str(self.port), *self._arguments(folder)]
        self._running: Running | None = None

    def _source(self) -> Path:
        source = Path(os.environ.get("WETREAD_FHIR_SERVER") or ROOT.parent / "shared" / "peers" / "fhir" / "server.mjs")
        if not source.is_file():
            pytest.skip("no FHIR server: WETREAD_FHIR_SERVER names none, nor is one at ../shared/peers/fhir/server.mjs")
        return source

    def _arguments(self, _folder: Path) -> tuple[object, ...]:
        return ()

    def start(self) -> None:
        self._log.unlink(missing_ok=True)
        self._running = running = Running("the FHIR server", self._command, self._log, cwd=self._script.parent)

        def up() -> bool:
            running.must_live()
            return "ready" in running.output

        wait_for("the FHIR server to listen", up, seconds=120)

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None
        self._script.unlink(missing_ok=True)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every resource of one type."""
        answer = httpx.get(f"{self.url}/{kind}", params={"_count": "1000"}, trust_env=False, timeout=60).raise_for_status()
        return [entry["resource"] for entry in answer.json().get("entry", [])]

    def counts(self) -> Counter[str]:
        """How many resources there are of each type."""
        return Counter({kind: len(self.all(kind)) for kind in RESOURCES})

    def reports(self, study_uid: str) -> list[dict[str, Any]]:
        """The DiagnosticReports whose ImagingStudy is this study."""
        studies = {f"ImagingStudy/{study['id']}" for study in self.all("ImagingStudy") if _is(study, study_uid)}
        return [
            report
            for report in self.all("DiagnosticReport")
            if {reference.get("reference") for reference in report.get("imagingStudy", [])} & studies
        ]


def _is(imaging_study: dict[str, Any], study_uid: str) -> bool:
    return any(identifier.get("value") == f"urn:oid:{study_uid}" for identifier in imaging_study.get("identifier", []))


def _flags(node: str) -> list[str]:
    """Node 20 and 21 have WebSocket, which the server's packages ask for, only by a flag."""
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"v(\d+)", version)
    return ["--experimental-websocket"] if match and int(match[1]) in (20, 21) else []
