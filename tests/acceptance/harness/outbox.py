"""The `wetread deliver` process over an outbox that a test fills, and an Orthanc with all that destinations may ask of it."""

from __future__ import annotations

import datetime
import ipaddress
import sys
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.reading_json import to_json
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.jobs import Job, JobKind, JobState, NewJob, enqueue, list_jobs
from dicom_node.storage.outbox import DestinationState, destination_states_of
from dicom_node.storage.results import NewDocument, NewResult, save_document, save_result
from tests.support import GreyReader

from .node import environment
from .peers import Orthanc
from .processes import Running, free_port, wait_for

PLUGINS = Path("/usr/share/orthanc/plugins")


class Archive(Orthanc):
    """Orthanc that commits itself to what it holds, with DICOMweb behind a password where its plug-in is installed.

    ``reports_to``: AE title to the port to which its commitment reports for that title go.
    """

    def __init__(self, folder: Path, reports_to: Mapping[str, int], lua: str = "", **more: Any) -> None:
        super().__init__(folder)
        self._reports_to, self._more = dict(reports_to), more
        self._lua = folder / "behaviour.lua"
        self._lua.write_text(lua)

    def require_dicomweb(self) -> None:
        if not (PLUGINS / "libOrthancDicomWeb.so").exists():
            pytest.skip("Orthanc's DICOMweb plug-in is not installed (Debian package orthanc-dicomweb)")

    def _configuration(self) -> dict[str, Any]:
        allowed = {f"Allow{what}": True for what in ("Echo", "Store", "StorageCommitment")}
        allowed["UseDicomTls"] = "DicomTlsEnabled" in self._more
        modalities = {
            title: {"AET": title, "Host": "127.0.0.1", "Port": port, **allowed} for title, port in self._reports_to.items()
        }
        return {
            **super()._configuration(),
            "DicomModalities": modalities,
            "Plugins": [str(plugin) for plugin in PLUGINS.glob("libOrthancDicomWeb.so")],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "LuaScripts": [str(self._lua)],
            **self._more,
        }


class Sending:
    """A folder with settings, a database and an outbox, and the process that delivers from it."""

    def __init__(self, folder: Path, destinations: Mapping[str, Any], **sections: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._starts, self._running = folder, 0, None
        self.destinations = dict(destinations)
        quick = {"first_retry_s": 0.3, "max_retry_s": 1, "breaker_failures": 3}
        tree: dict[str, Any] = {"data": "data", "delivery": quick, "log": {"form": "json"}, **sections}
        self.config = folder / "node.yaml"
        self.config.write_text(yaml.safe_dump({**tree, "destinations": self.destinations}), "utf-8")
        self.database = Database.open(folder / "data" / "wetread.sqlite")
        self.files = FileStore(folder / "data")

    def put(self, *destinations: str, count: int = 1, comment: str = "") -> list[str]:
        """Documents (drawn films, each a study with its result) into the outbox; their SOP Instance UIDs."""
        made = []
        for _ in range(count):
            film = phantom_dx(time.monotonic_ns() % 2**31, [], size=32)
            film.ImageComments = comment
            buffer = BytesIO()
            film.save_as(buffer, enforce_file_format=True)
            self._enqueue(film, buffer.getvalue(), destinations or tuple(self.destinations))
            made.append(str(film.SOPInstanceUID))
        return made

    def _enqueue(self, film: Any, content: bytes, destinations: tuple[str, ...]) -> None:
        uid, study, now = str(film.SOPInstanceUID), str(film.StudyInstanceUID), time.time()
        stored = self.files.write_document(uid, content)
        with self.database.write() as connection:
            save_result(connection, NewResult(study, 1, "chest", to_json(GreyReader().refuse("a film of a test"))), now)
            document = NewDocument(
                uid, "findings-sr", stored.path, study, 1, "chest", "application/dicom", stored.size, stored.sha256,
                str(film.SOPClassUID),
            )  # fmt: skip
            save_document(connection, document, now)
            for name in destinations:
                enqueue(connection, NewJob(JobKind.DELIVER, name, f"deliver:{uid}:{name}", study, {"document": uid}), now)

    def start(self) -> None:
        self._starts += 1
        command = [sys.executable, "-m", "dicom_node.cli", "deliver", "--config", self.config]
        self._running = Running("wetread deliver", command, self.folder / f"deliver-{self._starts}.log", environment())

    @property
    def running(self) -> Running:
        assert self._running is not None, "not started"
        return self._running

    def end(self) -> None:
        if self._running is not None:
            self._running.kill_session()
        self.database.close()

    def jobs(self, destination: str) -> list[Job]:
        return [job for job in list_jobs(self.database, limit=1000) if job.queue == destination]

    def states(self, destination: str) -> list[JobState]:
        return sorted(job.state for job in self.jobs(destination))

    def state_of(self, destination: str) -> DestinationState | None:
        with self.database.read() as connection:
            return next((one for one in destination_states_of(connection) if one.destination == destination), None)

    def wait_settled(self, destination: str, *, done: int, seconds: float = 30) -> None:
        """Until so many are done and all others carry a reason."""

        def settled() -> bool:
            jobs = self.jobs(destination)
            return self.states(destination).count(JobState.DONE) == done and all(
                job.last_error for job in jobs if job.state is not JobState.DONE
            )

        wait_for(f"{destination}: {done} done", settled, seconds=seconds, every=0.05)

    def wait_all(self, destination: str, state: JobState, *, seconds: float = 30) -> list[Job]:
        def settled() -> list[Job]:
            self.running.must_live()
            jobs = self.jobs(destination)
            return jobs if all(job.state is state for job in jobs) else []

        try:
            return wait_for(f"{destination}: all {state}", settled, seconds=seconds, every=0.05)
        except TimeoutError as error:
            left = [(job.state.value, job.attempts, job.last_error) for job in self.jobs(destination)]
            raise AssertionError(f"{error}: {left}\n{self.running.output[-3000:]}") from error


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that is its own authority; their files."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files[1].write_bytes(key.private_bytes(*plain))
    return files


def dicom(archive: Orthanc, title: str = "WETREAD", **more: Any) -> dict[str, Any]:
    """A destination of kind dicom."""
    return {
        "kind": "dicom", "host": "127.0.0.1", "port": archive.dicom_port, "ae_title": archive.ae_title,
        "calling_ae_title": title, "timeout_s": 3, **more,
    }  # fmt: skip


def reports_port() -> int:
    """Where commitment reports go in a test."""
    return free_port()
