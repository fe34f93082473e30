"""Peers ask the node for what it has, and the node asks an archive: Orthanc and DCMTK against real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import yaml
from pydicom.uid import JPEGLSLossless

from dicom_node.storage.jobs import JobKind, Priority
from dicom_node.storage.priors import Prior, PriorState, priors_of

from .harness import dcmtk, films
from .harness.node import Node, environment, wetread
from .harness.outbox import Archive
from .harness.peers import SENDER
from .harness.processes import Running, free_port, require, wait_for

NAME, UMLAUT = "Smith^Ann", "Müller^Jörg"
CALLER = ["-S", "-aet", SENDER, "-aec", "WETREAD", "127.0.0.1"]


class OpenArchive(Archive):
    """Orthanc that the node may query, move from, get from and ask for commitment."""

    def _configuration(self) -> dict[str, Any]:
        told = super()._configuration()
        for modality in told["DicomModalities"].values():
            modality |= {f"Allow{what}": True for what in ("Find", "Move", "Get", "StorageCommitment")}
        return told

    def knows(self, node: Node, key: str) -> None:
        """``key``: of the node's DICOMweb."""
        self._reports_to["WETREAD"] = node.port
        url = f"http://127.0.0.1:{yaml.safe_load(node.config.read_text())['web']['port']}/dicom-web/"
        servers = {"node": {"Url": url, "Username": "orthanc", "Password": key}}
        self._more["DicomWeb"] = {"Enable": True, "Root": "/dicom-web/", "Servers": servers}

    def rest(self, path: str, body: Any = None) -> Any:
        asked = httpx.request("GET" if body is None else "POST", self.url + path, json=body, trust_env=False, timeout=30)
        return asked.raise_for_status().json()


class Receiving(Node):
    """The processes that receive and that answer, without the one that reads: nothing here waits for models."""

    part = "listen"

    def __init__(self, folder: Path, **changes: Any) -> None:
        super().__init__(folder, {}, **changes)
        self._beside: list[Running] = []

    def start(self) -> None:
        super().start()
        for part in ("deliver", "web"):
            command = [sys.executable, "-m", "dicom_node.cli", part, "--config", self.config]
            self._beside.append(Running(part, command, self.folder / f"{part}.log", environment()))

    def end(self) -> None:
        for one in self._beside:
            one.kill_session()
        super().end()


@dataclass(frozen=True, slots=True)
class Ward:
    """A node that peers may query, an archive, and a viewer that takes what is moved to it."""

    node: Node
    archive: OpenArchive
    viewer: Path
    plain: Path  # of a viewer that takes nothing but implicit VR little endian
    scan: str  # Study Instance UIDs: a scan of four images, two films
    films: tuple[str, str]

    def dcmtk(self, program: str, *options: str | Path) -> str:
        """What a program of DCMTK says when it asks the node."""
        command = [require(program, "dcmtk"), *CALLER, str(self.node.port), *map(str, options)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return (done.stdout + done.stderr).decode("latin-1")

    def ask(self, program: str, level: str, *keys: str, options: tuple[str, ...] = ()) -> str:
        asked = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
        return self.dcmtk(program, *options, *asked)


def _identified(path: Path, name: str, patient: str, accession: str) -> Path:
    film = pydicom.dcmread(path)
    film.SpecificCharacterSet, film.PatientName, film.PatientID, film.AccessionNumber = "ISO_IR 100", name, patient, accession
    film.save_as(path)
    return path


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    viewer, viewer_port = folder / "viewer", free_port()
    plain, plain_port = folder / "plain", free_port()
    viewers = [
        Running(
            f"storescp {name}", [require("storescp", "dcmtk"), "-aet", name, takes, "-od", where, port], folder / f"{name}.log"
        )
        for name, takes, where, port in (("VIEWER", "+xa", viewer, viewer_port), ("PLAIN", "+xi", plain, plain_port))
        if where.mkdir() is None
    ]
    archive = OpenArchive(folder / "orthanc", {SENDER: 1, "WETREAD": 1})
    node = Receiving(folder / "node", **_settings(archive, viewer_port, plain_port))
    _route(node)
    archive.knows(node, key=_key(node))
    try:
        archive.start()
        node.start()
        scan, slices = films.scan(folder / "scan", 5, 4)
        first, film = films.film(folder / "film", 700, [])
        second, other = films.film(folder / "film", 701, [])
        sent = [*slices, _identified(film, NAME, "P0", "A0"), _identified(other, UMLAUT, "P1", "A1")]
        assert dcmtk.accepted(dcmtk.dcmsend(node.port, sent)) == len(sent)
        made = Ward(node, archive, viewer, plain, scan, (first, second))
        wait_for("the index", lambda: made.ask("findscu", "STUDY", "StudyInstanceUID").count("Pending") == 3, seconds=120)
        yield made
    finally:
        node.end()
        archive.stop()
        for one in viewers:
            one.stop()


def _settings(archive: OpenArchive, viewer_port: int, plain_port: int) -> dict[str, Any]:
    here = {"host": "127.0.0.1"}
    return {
        "listener": {"allowed": [{"ae_title": title, "hosts": ["127.0.0.1"]} for title in (SENDER, "ORTHANC", "NOBODY")]},
        "query": {
            "peers": [
                {"ae_title": SENDER, "find": True, "get": True, "move_to": ["VIEWER", "PLAIN"]},
                {"ae_title": "ORTHANC", "find": True, "move_to": ["ORTHANC"], "commitment": True},
            ],
            "addresses": {
                "VIEWER": {**here, "port": viewer_port},
                "PLAIN": {**here, "port": plain_port},
                "ORTHANC": {**here, "port": archive.dicom_port},
            },
            "poll_seconds": 0.2,
        },
        "retention": {"images_days": 0, "high": None, "low": None},
        "study": {"archive": {"kind": "dicom", **here, "port": archive.dicom_port, "ae_title": "ORTHANC", "retrieve": "get"}},
        "web": {"port": free_port(), "users_file": "users.yaml", "dicomweb": True},
        "peers": {
            "pacs": {"kind": "dicom", **here, "port": archive.dicom_port, "ae_title": "ORTHANC", "retrieve": "move"},
            "get": {"kind": "dicom", **here, "port": archive.dicom_port, "ae_title": "ORTHANC", "retrieve": "get"},
            "web": {"kind": "dicomweb", "url": f"{archive.url}/dicom-web"},
        },
    }


def _route(node: Node) -> None:
    """Studies marked so wait for their priors, longer than any test does."""
    marked = {"name": "with priors", "when": {"attributes": {"StudyID": "PRIORS"}}, "priors": {"count": 1, "wait_seconds": 600}}
    routes = {"routes": [{**marked, "reading": "chest_xray"}, {"name": "all", "reading": "chest_xray"}]}
    (node.folder / "routes.yaml").write_text(yaml.safe_dump(routes))
    node.config.write_text(node.config.read_text() + "\nroutes: routes.yaml\n")


def _key(node: Node) -> str:
    """A key for Orthanc, as the operator makes it."""
    made = wetread("users", "key", "orthanc", "--role", "dicomweb", "--config", node.config)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip().split()[-1]


FINDS = {
    "all studies": ("STUDY", ["StudyInstanceUID"], 3),
    "by name, any case": ("STUDY", ["PatientName=smith*"], 1),
    "by a name outside ASCII": ("STUDY", ["PatientName=M?ller*"], 1),
    "by accession number": ("STUDY", ["AccessionNumber=A1"], 1),
    "by a day that is none": ("STUDY", ["StudyDate=19000101-19010101"], 0),
    "by modality": ("STUDY", ["ModalitiesInStudy=CT"], 1),
    "series": ("SERIES", ["Modality=DX", "SeriesInstanceUID"], 2),
    "images": ("IMAGE", ["Modality=CT", "SOPInstanceUID"], 4),
}


@pytest.mark.parametrize(("level", "keys", "count"), FINDS.values(), ids=FINDS)
def test_dcmtk_finds(ward: Ward, level: str, keys: list[str], count: int) -> None:
    assert ward.ask("findscu", level, *keys).count("(Pending)") == count


def test_a_name_comes_in_the_character_set_that_is_told(ward: Ward) -> None:
    told = ward.ask("findscu", "STUDY", "AccessionNumber=A1", "PatientName")
    assert "[ISO_IR 100]" in told
    assert UMLAUT in told


def test_dcmtk_moves_to_an_ae_title_that_the_settings_know_and_to_no_other(ward: Ward) -> None:
    told = ward.ask("movescu", "STUDY", f"StudyInstanceUID={ward.scan}", options=("-d", "-aem", "VIEWER"))
    assert "Completed Suboperations       : 4" in told
    assert len(list(ward.viewer.iterdir())) == 4
    assert "MoveDestinationUnknown" in ward.ask(
        "movescu", "STUDY", f"StudyInstanceUID={ward.scan}", options=("-aem", "ORTHANC")
    )


@pytest.mark.parametrize("encoding", ["+x=", "+xi"], ids=["as stored", "only implicit VR"])
def test_dcmtk_gets(ward: Ward, tmp_path: Path, encoding: str) -> None:
    ward.ask("getscu", "STUDY", f"StudyInstanceUID={ward.scan}", options=(encoding, "-od", str(tmp_path)))
    got = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in tmp_path.iterdir()}
    assert len(got) == 4
    for row in ward.node.instances(ward.scan):
        held = pydicom.dcmread(ward.node.data / row.path)
        assert got[row.sop_uid].PixelData == held.PixelData
        assert got[row.sop_uid].PatientID == held.PatientID


@pytest.fixture(scope="module")
def coded(ward: Ward, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    """A scan that was sent as JPEG-LS, and its slices before DCMTK compressed them."""
    folder = tmp_path_factory.mktemp("coded")
    uid, slices = films.scan(folder / "scan", 90, 3)
    packed = [path.with_suffix(".jls") for path in slices]
    for path, target in zip(slices, packed, strict=True):
        subprocess.run([require("dcmcjpls", "dcmtk"), path, target], check=True, timeout=60)
    assert dcmtk.accepted(dcmtk.dcmsend(ward.node.port, packed)) == 3
    wait_for("the index", lambda: ward.ask("findscu", "IMAGE", f"StudyInstanceUID={uid}").count("(Pending)") == 3, seconds=120)
    assert {row.transfer_syntax for row in ward.node.instances(uid)} == {str(JPEGLSLossless)}
    return uid, {pydicom.dcmread(path).SOPInstanceUID: path for path in slices}


def _are_plain(folder: Path, slices: dict[str, Path]) -> bool:
    """Whether these slices lie there uncompressed, each pixel as before it was compressed."""
    got = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, folder.iterdir())}
    here = {uid: got[uid] for uid in slices if uid in got}
    same = all((here[uid].pixel_array == pydicom.dcmread(slices[uid]).pixel_array).all() for uid in here)
    return len(here) == len(slices) and same and not any(one.file_meta.TransferSyntaxUID.is_compressed for one in here.values())


@pytest.mark.parametrize("encoding", ["+xe", "+xi"], ids=["explicit VR", "implicit VR"])
def test_dcmtk_gets_compressed_images_that_it_takes_uncompressed_only(
    ward: Ward, coded: tuple[str, dict[str, Path]], encoding: str, tmp_path: Path
) -> None:
    uid, slices = coded
    ward.ask("getscu", "STUDY", f"StudyInstanceUID={uid}", options=(encoding, "-od", str(tmp_path)))
    assert _are_plain(tmp_path, slices)


def test_dcmtk_moves_compressed_images_to_a_viewer_that_takes_them_uncompressed_only(
    ward: Ward, coded: tuple[str, dict[str, Path]]
) -> None:
    uid, slices = coded
    told = ward.ask("movescu", "STUDY", f"StudyInstanceUID={uid}", options=("-d", "-aem", "PLAIN"))
    assert "Completed Suboperations       : 3" in told
    assert _are_plain(ward.plain, slices)


def test_frames_and_pictures_by_dicomweb_need_the_key_that_objects_need(ward: Ward, coded: tuple[str, dict[str, Path]]) -> None:
    uid, slices = coded
    web = f"http://127.0.0.1:{yaml.safe_load(ward.node.config.read_text())['web']['port']}/dicom-web"
    (row, *_) = ward.node.instances(uid)
    url = f"{web}/studies/{uid}/series/{row.series_uid}/instances/{row.sop_uid}"
    for what in ("frames/1", "rendered", "thumbnail"):
        assert httpx.get(f"{url}/{what}", trust_env=False, timeout=60).status_code == 401
    key = wetread("users", "key", "viewer", "--role", "dicomweb", "--config", ward.node.config).stdout.strip().split()[-1]
    bearer = {"Authorization": f"Bearer {key}", "Accept": "application/octet-stream"}
    frame = wait_for("the key", lambda: _answer(f"{url}/frames/1", bearer), seconds=60)
    assert frame == pydicom.dcmread(slices[row.sop_uid]).PixelData
    picture = _answer(f"{url}/rendered", {**bearer, "Accept": "image/png"})
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def _answer(url: str, headers: dict[str, str]) -> bytes | None:
    asked = httpx.get(url, headers=headers, trust_env=False, timeout=60)
    return asked.content if asked.status_code == 200 else None


def test_a_peer_without_permission_is_told_nothing(ward: Ward) -> None:
    command = [require("findscu", "dcmtk"), "-d", "-S", "-aet", "NOBODY", "-aec", "WETREAD", "127.0.0.1", str(ward.node.port)]
    done = subprocess.run(
        [*command, "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"], capture_output=True, check=False
    )
    assert b"(Pending)" not in done.stdout + done.stderr
    assert b"0x0124" in done.stdout + done.stderr


def test_orthanc_queries_the_node_and_retrieves_what_it_finds(ward: Ward) -> None:
    query = ward.archive.rest("/modalities/WETREAD/query", {"Level": "Study", "Query": {"PatientID": "P1", "PatientName": ""}})
    answers = ward.archive.rest(f"{query['Path']}/answers?expand&simplify")
    assert [one["PatientName"] for one in answers] == [UMLAUT]
    ward.archive.rest(f"{query['Path']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    assert len(ward.archive.instances(ward.films[1])) == 1


def test_orthanc_gets_the_nodes_word_for_what_it_holds_and_no_more(ward: Ward) -> None:
    row = ward.node.instances(ward.films[0])[0]
    wrong = ("1.2.840.10008.5.1.4.1.1.2", ward.node.instances(ward.films[1])[0].sop_uid)
    named = [(row.sop_class_uid, row.sop_uid), wrong, ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")]
    asked = ward.archive.rest("/modalities/WETREAD/storage-commitment", {"DicomInstances": named})
    told = wait_for("the report", lambda: _answered(ward.archive.rest(asked["Path"])), seconds=20)
    assert [one["SOPInstanceUID"] for one in told["Success"]] == [row.sop_uid]
    assert {one["SOPInstanceUID"]: one["FailureReason"] for one in told["Failures"]} == {wrong[1]: 0x0119, "1.2.3.4": 0x0112}


def _answered(told: dict[str, Any]) -> dict[str, Any] | None:
    return told if told["Status"] != "Pending" else None


def _archived(ward: Ward, folder: Path, seed: int) -> tuple[str, list[Path]]:
    """A scan of three images that only the archive has."""
    uid, slices = films.scan(folder, seed, 3)
    assert dcmtk.accepted(dcmtk.dcmsend(ward.archive.dicom_port, slices, called="ORTHANC")) == 3
    return uid, slices


def _here(ward: Ward, uid: str, slices: list[Path]) -> bool:
    return {row.sop_uid for row in ward.node.instances(uid)} == {pydicom.dcmread(path).SOPInstanceUID for path in slices}


def test_pull_brings_what_is_missing_and_the_same_command_again_brings_nothing(ward: Ward, tmp_path: Path) -> None:
    uid, slices = _archived(ward, tmp_path / "scan", 40)
    wanted, listed = tmp_path / "studies.txt", tmp_path / "list.csv"
    wanted.write_text(f"{uid}\n1.2.3.4.5\n")
    command = ["pull", "--from", "pacs", "--study-file", wanted, "--list", listed, "--config", ward.node.config]
    assert "1 studies with 3 instances; 1 of the studies are not all here" in wetread(*command, "--dry-run").stdout
    done = wetread(*command)
    assert done.returncode == 0, done.stderr
    assert "done 1" in done.stderr
    assert _here(ward, uid, slices)
    before = listed.read_text()
    assert wetread(*command).returncode == 0
    assert listed.read_text() == before
    jobs = wait_for("its reading", lambda: ward.node.jobs(uid, JobKind.READ), seconds=20)
    assert [job.priority for job in jobs] == [Priority.RESEARCH]


@pytest.mark.parametrize(("source", "seed"), [("get", 50), ("web", 60)])
def test_pull_by_c_get_and_by_wado_rs(ward: Ward, source: str, seed: int, tmp_path: Path) -> None:
    if source == "web":
        ward.archive.require_dicomweb()
    uid, slices = _archived(ward, tmp_path / "scan", seed)
    done = wetread("pull", "--from", source, "--study", uid, "--config", ward.node.config)
    assert done.returncode == 0, done.stderr
    assert _here(ward, uid, slices)


def test_pull_into_a_folder(ward: Ward, tmp_path: Path) -> None:
    uid, slices = _archived(ward, tmp_path / "scan", 70)
    out = tmp_path / "out"
    done = wetread("pull", "--from", "get", "--study", uid, "--into", out, "--config", ward.node.config)
    assert done.returncode == 0, done.stderr
    got = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in out.glob(f"{uid}/*.dcm")}
    for path in slices:
        sent = pydicom.dcmread(path)
        assert got[sent.SOPInstanceUID].PixelData == sent.PixelData


def test_orthanc_searches_and_retrieves_by_dicomweb(ward: Ward) -> None:
    ward.archive.require_dicomweb()
    asked = {"Uri": "/studies", "Arguments": {"PatientName": UMLAUT[:3] + "*"}}
    (found,) = ward.archive.rest("/dicom-web/servers/node/qido", asked)
    assert found["00100010"]["Value"] == UMLAUT  # in a form of Orthanc's own
    ward.archive.rest("/dicom-web/servers/node/retrieve", {"Resources": [{"Study": ward.scan}], "Synchronous": True})
    assert len(ward.archive.instances(ward.scan)) == 4


def test_a_prior_is_fetched_before_its_study_is_read(ward: Ward, tmp_path: Path) -> None:
    prior, slices = films.scan(tmp_path / "prior", 80, 2)
    study, later = films.scan(tmp_path / "study", 81, 2)
    for path in (*slices, *later):
        image = pydicom.dcmread(path)
        image.PatientID, image.StudyID, image.StudyDate = "WITH-PRIOR", "PRIORS", "20260102" if path in later else "20250102"
        image.save_as(path)
    assert dcmtk.accepted(dcmtk.dcmsend(ward.archive.dicom_port, slices, called="ORTHANC")) == 2
    assert dcmtk.accepted(dcmtk.dcmsend(ward.node.port, later)) == 2
    wait_for("the prior", lambda: len(ward.node.instances(prior)) == 2, seconds=60)
    (job,) = wait_for("its own reading", lambda: ward.node.jobs(prior, JobKind.READ), seconds=60)
    assert (job.payload["destinations"], job.payload["prior"]) == ([], True)
    with ward.node.database.read() as conn:
        assert priors_of(conn, study) == (Prior(prior, "20250102", PriorState.HERE),)
    (waiting,) = ward.node.jobs(study, JobKind.READ)
    assert waiting.not_before > time.time()  # its prior is not read: nothing here reads
