"""The demo's folder: emptied when it is a demo's own, never otherwise; its settings are real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.app import routes_of
from dicom_node.demo.place import MARKER, make_place
from dicom_node.errors import SettingsError
from dicom_node.routing import PriorityName, StudyFacts
from dicom_node.settings import load_settings


@pytest.mark.parametrize("before", ["absent", "empty"])
def test_a_new_folder_is_taken(tmp_path: Path, before: str) -> None:
    out = tmp_path / "some" / "demo-out"
    if before == "empty":
        out.mkdir(parents=True)
    assert make_place(out).settings.is_file()


def test_a_demo_folder_is_made_anew(tmp_path: Path) -> None:
    out = make_place(tmp_path / "out").root
    (out / "node" / "instances").mkdir(parents=True)
    (out / "1-old.dcm").write_bytes(b"old")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").touch()
    (out / "link").symlink_to(elsewhere)
    make_place(out)
    assert sorted(path.name for path in out.iterdir()) == [MARKER, "films", "node.yaml", "routes.yaml"]
    assert (elsewhere / "keep").exists()  # a link is removed, never followed


def test_somebodys_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(SettingsError, match="holds files that no demo wrote"):
        make_place(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SettingsError, match="is not a folder"):
        make_place(tmp_path / "out")


def test_the_settings_are_valid_and_route_by_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WETREAD_LISTENER__PORT", raising=False)
    place = make_place(tmp_path / "out")
    settings = load_settings(place.settings)
    routes = routes_of(settings)
    film = StudyFacts(frozenset({"DX"}), frozenset({"CHEST"}), frozenset({"X"}), frozenset({"STAT"}))
    assert routes.match(film).priority is PriorityName.STAT
    assert routes.match(StudyFacts()).priority is PriorityName.ROUTINE
    assert settings.data_folder.is_relative_to(place.root)
    assert settings.listener.host == "127.0.0.1"
    assert not settings.listener.allow_any
