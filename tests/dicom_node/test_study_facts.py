"""What routes are told of a study: from its rows, and from the headers of its files when they ask."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.phantom_dicom import phantom_dx
from dicom_node.storage.instances import InstanceRow
from dicom_node.study_facts import study_facts
from tests.support import save

AT = datetime(2026, 11, 22, 7, 0)


def row(**changes: Any) -> InstanceRow:
    text = dict.fromkeys((field.name for field in fields(InstanceRow)), "")
    return InstanceRow(**{**text, "size": 1, "id": 1, "copy": 0, "set_aside": False, "received_at": 0.0, **changes})


def test_a_study_is_asked_for_all_its_terms() -> None:
    film = row(modality="dx", body_part="CHEST", calling_ae="CT1", host="10.0.0.1")
    other = row(modality="SR", requested_priority="STAT", calling_ae="ED", called_ae="WETREAD")
    facts = study_facts([film, other, row(modality="XA", set_aside=True)], AT, Path)
    assert facts.modalities == {"DX", "SR"}
    assert facts.body_parts == {"CHEST"}
    assert facts.requested_priorities == {"STAT"}
    assert facts.calling_aes == {"CT1", "ED"}
    assert (facts.hosts >= {"10.0.0.1"}, facts.called_aes >= {"WETREAD"}, facts.at) == (True, True, AT)


def test_attributes_are_read_from_one_image_of_each_series(tmp_path: Path) -> None:
    for name, station in (("a", "ER1"), ("b", "unread"), ("c", "ER2")):
        film = phantom_dx(1, [], size=32)
        film.StationName, film.ImageType = station, ["DERIVED", "PRIMARY"]
        save(film, tmp_path / name)
    rows = [row(path=name, series_uid=series) for name, series in (("a", "1.2.1"), ("b", "1.2.1"), ("c", "1.2.2"))]
    facts = study_facts(rows, AT, tmp_path.joinpath)
    assert facts.attribute("StationName") == {"ER1", "ER2"}
    assert facts.attribute("ImageType") == {"DERIVED", "PRIMARY"}
    assert facts.attribute("InstitutionName") == frozenset()


def test_a_file_that_is_gone_or_broken_has_no_attributes(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"\xff" * 500)
    rows = [row(path="broken", series_uid="1"), row(path="gone", series_uid="2")]
    assert study_facts(rows, AT, tmp_path.joinpath).attribute("StationName") == frozenset()
