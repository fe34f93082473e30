"""Every kind of document, each to the destination that asked for it: Orthanc, a folder, an MLLP server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hl7
import pytest

from tests.mllp_receiver import Receiver

from .harness import dcmtk, films
from .harness.node import Node
from .harness.peers import Orthanc

PICTURES = ("findings-sr", "draft-sr", "text-sr", "heat-map", "heat-map-gsps", "pdf")


@dataclass(frozen=True)
class Came:
    """What came back of one film with a drawn pneumothorax."""

    study_uid: str
    pacs: Orthanc
    archive: Path
    messages: list[hl7.Message]


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Came]:
    folder = tmp_path_factory.mktemp("documents")
    pacs = Orthanc(folder / "orthanc")
    with Receiver("AA") as ris:
        destinations = {
            "pacs": {
                "kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom_port, "ae_title": pacs.ae_title,
                "documents": list(PICTURES),
            },
            "ris": {"kind": "hl7", "host": "127.0.0.1", "port": ris.port, "application": "RIS"},
            "archive": {"kind": "folder", "path": str(folder / "archive"), "documents": [*PICTURES, "fhir-bundle", "hl7-oru"]},
        }  # fmt: skip
        node = Node(folder / "node", destinations)
        try:
            pacs.start()
            node.start()
            uid, path = films.film(folder / "films", 31, ["pneumothorax"])
            assert dcmtk.accepted(dcmtk.dcmsend(node.port, [path])) == 1
            assert dcmtk.accepted(dcmtk.dcmsend(pacs.dicom_port, [path], called=pacs.ae_title)) == 1
            node.wait_settled([uid])
            yield Came(uid, pacs, folder / "archive", ris.got)
        finally:
            node.end()
            pacs.stop()


def test_the_pacs_holds_each_document_in_the_right_study(came: Came) -> None:
    stored = came.pacs.instances(came.study_uid)
    kinds = Counter(one.dataset.SOPClassUID.name for one in stored)
    assert kinds == {
        "Digital X-Ray Image Storage - For Presentation": 1,
        "Comprehensive 3D SR Storage": 1,
        "Enhanced SR Storage": 1,
        "Basic Text SR Storage": 1,
        "Secondary Capture Image Storage": 1,
        "Grayscale Softcopy Presentation State Storage": 1,
        "Encapsulated PDF Storage": 1,
    }
    assert len(came.pacs.studies(came.study_uid)) == 1
    (heat,) = [one.dataset for one in stored if one.dataset.Modality == "OT"]
    assert heat.BurnedInAnnotation == "YES"
    assert heat.pixel_array.shape[2] == 3


def test_validators_pass_what_came_back(came: Came, tmp_path: Path) -> None:
    for number, one in enumerate(came.pacs.instances(came.study_uid)):
        path = tmp_path / f"{number}.dcm"
        one.dataset.save_as(path)
        assert dcmtk.dciodvfy(path).lines(r"^Error") == [], one.dataset.SOPClassUID.name


def test_the_record_system_has_the_finding_at_once_and_then_the_whole_report_of_the_same_order(came: Came) -> None:
    *early, whole = came.messages
    assert len(early) <= 1  # none where the draft was written sooner than the findings were sent
    for message in came.messages:
        assert str(message["MSH.F5"]) == "RIS"
        findings = [segment for segment in message.segments("OBX") if str(segment(4)) == "pneumothorax"]
        assert "Present" in str(findings[0](5))
        assert str(findings[0](11)) == "R"
        assert [str(message.segment("OBR")(n)) for n in (2, 3, 4)] == [str(whole.segment("OBR")(n)) for n in (2, 3, 4)]
    assert all(len(message.segments("OBX")) < len(whole.segments("OBX")) for message in early)
    assert len({str(message["MSH.F10"]) for message in came.messages}) == len(came.messages)


def test_the_folder_holds_the_same_bytes(came: Came) -> None:
    names = Counter(path.name.rsplit("-2.25.", 1)[0] for path in came.archive.iterdir())
    assert names == Counter([*PICTURES, "fhir-bundle", "hl7-oru"])
    (kept,) = came.archive.glob("hl7-oru-*.hl7")
    fields = kept.read_bytes().decode().split("\r")[0].split("|")
    assert str(came.messages[-1]["MSH.F10"]) == fields[9]
