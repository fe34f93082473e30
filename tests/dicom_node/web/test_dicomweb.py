"""DICOMweb over received studies, with dicomweb-client as the peer; Orthanc's plug-in is one in tests/acceptance."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from dicomweb_client.api import DICOMwebClient
from fastapi import FastAPI
from pydicom import Dataset, dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.fetched import Keeper
from dicom_node.index.indexer import Indexer
from dicom_node.phantom_dicom import phantom_ct
from dicom_node.pixels.decoders import Decoders, shared_decoders
from dicom_node.pixels.limits import Limits
from dicom_node.routing import Names, Routes
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.web import dicomweb_retrieve
from dicom_node.web.dicomweb import router
from dicom_node.web.parts import Parts
from tests.dicom_node.fetching import arrived

NAME = "Müller^Jörg"


def image(study: str, number: int, patient: str) -> Dataset:
    made = phantom_ct(number, 2, size=16, patient_id=patient, study_uid=study)[0]
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{study}.9.{number}"
    made.SeriesInstanceUID, made.SpecificCharacterSet, made.PatientName = f"{study}.1", "ISO_IR 192", NAME
    return made


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node with two studies, of three images and of one."""
    folder: Path = tmp_path_factory.mktemp("web")
    db, files = Database.open(folder / "node.sqlite"), FileStore(folder)
    keeper = Keeper(db, files, 0, "WETREAD")
    for one in (image("1.2.3", 1, "P1"), image("1.2.3", 2, "P1"), image("1.2.3", 3, "P1"), image("1.2.4", 1, "P2")):
        assert keeper(arrived(one)) == 0
    assert Indexer(db, files, quiet_s=0).step() == 2
    parts = Parts(Settings(data=folder), db, files, lambda: Routes(()), Names(frozenset(), {}), None)
    app = FastAPI()
    app.state.parts = parts
    decoders = Decoders(Limits(processes=1))
    app.include_router(router(parts, decoders), prefix="/dicom-web")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/dicom-web"
    server.should_exit = True
    thread.join()
    decoders.close()
    keeper.close()
    db.close()


@pytest.fixture
def client(url: str) -> DICOMwebClient:
    return DICOMwebClient(url)


def uids(found: list[dict[str, Any]], tag: str) -> list[str]:
    return sorted(one[tag]["Value"][0] for one in found)


SEARCHES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all": ({}, ["1.2.3", "1.2.4"]),
    "by patient": ({"PatientID": "P2"}, ["1.2.4"]),
    "by tag": ({"00100020": "P1"}, ["1.2.3"]),
    "by name": ({"PatientName": "müller*"}, ["1.2.3", "1.2.4"]),
    "by a list of UIDs": ({"StudyInstanceUID": "1.2.3,1.2.9"}, ["1.2.3"]),
    "none": ({"PatientID": "X"}, []),
}


@pytest.mark.parametrize(("filters", "found"), SEARCHES.values(), ids=SEARCHES)
def test_studies(client: DICOMwebClient, filters: dict[str, Any], found: list[str]) -> None:
    assert uids(client.search_for_studies(search_filters=filters), "0020000D") == found


def test_series_and_instances(client: DICOMwebClient) -> None:
    assert uids(client.search_for_series("1.2.3"), "0020000E") == ["1.2.3.1"]
    assert len(client.search_for_series()) == 2
    assert uids(client.search_for_instances("1.2.3", "1.2.3.1"), "00080018") == [f"1.2.3.9.{n}" for n in (1, 2, 3)]
    (one,) = client.search_for_instances(search_filters={"SOPInstanceUID": "1.2.4.9.1"})
    assert one["00100010"]["Value"] == [{"Alphabetic": NAME}]
    assert one["00081190"]["Value"][0].endswith("/dicom-web/studies/1.2.4/series/1.2.4.1/instances/1.2.4.9.1")


def test_pages(client: DICOMwebClient, url: str) -> None:
    paged = [client.search_for_instances("1.2.3", limit=1, offset=n) for n in range(4)]
    assert [uids(one, "00080018") for one in paged] == [["1.2.3.9.1"], ["1.2.3.9.2"], ["1.2.3.9.3"], []]
    assert "additional results" in httpx.get(f"{url}/studies?limit=1", trust_env=False).headers["Warning"]
    assert "fuzzymatching" in httpx.get(f"{url}/studies?fuzzymatching=true", trust_env=False).headers["Warning"]
    assert len(client.search_for_studies(get_remaining=True, limit=1)) == 2


def test_objects_are_those_that_came(client: DICOMwebClient) -> None:
    sent = {f"1.2.3.9.{n}": image("1.2.3", n, "P1") for n in (1, 2, 3)}
    got = {one.SOPInstanceUID: one for one in client.retrieve_study("1.2.3")}
    assert got.keys() == sent.keys()
    assert all(got[uid].PixelData == one.PixelData and got[uid].PatientName == NAME for uid, one in sent.items())
    assert len(client.retrieve_series("1.2.3", "1.2.3.1")) == 3
    assert client.retrieve_instance("1.2.4", "1.2.4.1", "1.2.4.9.1").SOPInstanceUID == "1.2.4.9.1"


def test_metadata_holds_all_but_the_pixels(client: DICOMwebClient) -> None:
    told = [Dataset.from_json(one) for one in client.retrieve_study_metadata("1.2.3")]
    sent = image("1.2.3", 1, "P1")
    first = next(one for one in told if one.SOPInstanceUID == sent.SOPInstanceUID)
    assert (len(told), first.PatientName, first.ImagePositionPatient) == (3, NAME, sent.ImagePositionPatient)
    assert "PixelData" not in first
    assert len(client.retrieve_instance_metadata("1.2.4", "1.2.4.1", "1.2.4.9.1")) > 10


@pytest.mark.parametrize("implicit", [True, False])
def test_bulk_data_is_left_out_of_metadata_wherever_it_stands(tmp_path: Path, implicit: bool) -> None:
    made, group = image("1.2.5", 1, "P1"), Dataset()
    group.add_new("WaveformData", "OW", bytes(4096))
    made.WaveformSequence = [group]
    made.add_new(0x60003000, "OW", bytes(4096))
    made.add_new(0x60100010, "US", 4)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dcmwrite(tmp_path / "one.dcm", made, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    told = dicomweb_retrieve._header(tmp_path / "one.dcm", shared_decoders())
    assert told is not None
    assert "60003000" not in told
    assert told["60100010"]["Value"] == [4]
    assert "54001010" not in told["54000100"]["Value"][0]


def test_one_object_alone(url: str) -> None:
    path = f"{url}/studies/1.2.4/series/1.2.4.1/instances/1.2.4.9.1"
    answer = httpx.get(path, headers={"Accept": "application/dicom"}, trust_env=False)
    assert answer.headers["content-type"] == "application/dicom"
    assert dcmread(BytesIO(answer.content)).SOPInstanceUID == "1.2.4.9.1"


REFUSED = {
    "no such study": ("/studies/9.9", "*/*", 404),
    "no such instance": ("/studies/1.2.3/series/1.2.3.1/instances/9.9", "*/*", 404),
    "metadata of none": ("/studies/9.9/metadata", "*/*", 404),
    "a search in XML": ("/studies", 'multipart/related; type="application/dicom+xml"', 406),
    "objects as pictures": ("/studies/1.2.3", "image/jpeg", 406),
    "another transfer syntax": (
        "/studies/1.2.3",
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90',
        406,
    ),
    "no attribute": ("/studies?Nonsense=1", "*/*", 400),
    "no number": ("/studies?limit=-1", "*/*", 400),
}


@pytest.mark.parametrize(("path", "accept", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(url: str, path: str, accept: str, status: int) -> None:
    assert httpx.get(url + path, headers={"Accept": accept}, trust_env=False).status_code == status
