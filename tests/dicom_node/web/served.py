"""A node that serves files by DICOMweb, and how its answers are read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.limits import Limits
from dicom_node.routing import Names, Routes
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.files import FileStore
from dicom_node.storage.index import InstanceEntry, SeriesEntry, StudyEntry, put
from dicom_node.web.dicomweb import router
from dicom_node.web.parts import Parts
from tests.dicom_node.pixels.made import dataset, write

EXPLICIT = str(ExplicitVRLittleEndian)
GREY = np.random.default_rng(5).integers(0, 4096, (6, 8, 10), np.uint16)  # frames, rows, columns
RAMP = np.tile(np.arange(0, 2560, 10, dtype=np.uint16), (64, 1))  # 0 to 2550 over 256 columns


@dataclass(frozen=True)
class Node:
    """``url``: of its DICOMweb. Objects of study 1.2.3 and series 1.2.3.4 are reached by a name of the test."""

    url: str
    folder: Path
    db: Database

    def add(self, name: str, path: Path, *, told: Dataset | None = None) -> str:
        """Enter a file; its address."""
        header = told if told is not None else dcmread(path, stop_before_pixels=True, force=True)
        words = {"00280010": "Rows", "00280008": "NumberOfFrames", "00200013": "InstanceNumber"}
        attributes = {tag: {"vr": "IS", "Value": [int(header[word].value)]} for tag, word in words.items() if header.get(word)}
        syntax = str(dcmread(path, stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID", EXPLICIT))
        uid = f"1.2.{sum(map(ord, name))}.{len(name)}"
        study, series = f"{uid}.1", f"{uid}.2"
        entry = InstanceEntry(uid, series, study, "1.2.3", syntax, str(path.relative_to(self.folder)), json.dumps(attributes))
        with self.db.write() as conn:
            put(conn, StudyEntry(study, "", "", "", "", "\\", "{}", "1"), [SeriesEntry(series, study, "CT", "{}")], [entry])
        return f"{self.url}/studies/{study}/series/{series}/instances/{uid}"

    def made(self, name: str, image: Dataset, syntax: str = EXPLICIT) -> str:
        return self.add(name, write(self.folder / f"{name}.dcm", image, syntax))


@contextmanager
def serving(folder: Path) -> Iterator[Node]:
    db, files = Database.open(folder / "node.sqlite"), FileStore(folder)
    app, decoders = FastAPI(), Decoders(Limits(processes=1))
    parts = Parts(Settings(data=folder), db, files, lambda: Routes(()), Names(frozenset(), {}), None)
    app.state.parts = parts
    app.include_router(router(parts, decoders), prefix="/dicom-web")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Node(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/dicom-web", folder, db)
    server.should_exit = True
    thread.join()
    decoders.close()
    db.close()


def get(url: str, accept: str = "*/*", **parameters: Any) -> httpx.Response:
    return httpx.get(url, headers={"Accept": accept}, params=parameters or None, trust_env=False, timeout=120)


def parts_of(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content type and bytes of each part (RFC 2046 5.1.1)."""
    assert answer.status_code == 200, answer.text
    boundary = Message()
    boundary["Content-Type"] = answer.headers["content-type"]
    told = f"--{boundary.get_param('boundary')}".encode()
    first, *pieces, last = (b"\r\n" + answer.content).split(b"\r\n" + told)
    assert (first, last) == (b"", b"--\r\n")
    heads = [piece.partition(b"\r\n\r\n") for piece in pieces]
    return [(head.decode().strip().removeprefix("Content-Type: "), content) for head, _, content in heads]


def clip(streams: list[bytes], pixels: NDArray[Any], **elements: Any) -> Dataset:
    made = dataset(pixels[0], NumberOfFrames=len(pixels), **elements)
    made.PixelData = encapsulate(streams, has_bot=elements.get("InstanceNumber") is None)
    made["PixelData"].is_undefined_length = True
    return made


def jls(*, table: bool) -> Dataset:
    number = {} if table else {"InstanceNumber": 1}
    return clip([imagecodecs.jpegls_encode(one) for one in GREY], GREY, BitsStored=12, HighBit=11, **number)
