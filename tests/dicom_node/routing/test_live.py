"""A changed routes file takes effect; a mistake in it leaves the last good routes in force, and is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.routing import Names, live, load_routes

NAMES = Names(frozenset({"chest"}), {})


def write(file: Path, name: str) -> None:
    file.write_text(f"routes: [{{name: {name}, reading: chest}}]\n", "utf-8")


def test_a_change_takes_effect_and_a_mistake_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.0)
    file, told = tmp_path / "routes.yaml", list[str]()
    write(file, "first")
    routes = live.LiveRoutes(load_routes(file, NAMES), file, NAMES, told.append)
    assert routes.current().routes[0].name == "first"
    write(file, "second")
    assert routes.current().routes[0].name == "second"
    file.write_text("routes: [{name: third, reading: knee}]\n", "utf-8")
    assert [routes.current().routes[0].name for _ in range(3)] == ["second"] * 3
    assert len(told) == 1
    assert "reading 'knee' is not in the settings" in told[0]
    file.unlink()
    assert routes.current().routes[0].name == "second"
    write(file, "fourth")
    assert routes.current().routes[0].name == "fourth"


def test_the_file_is_not_looked_at_more_often_than_needed(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    write(file, "first")
    routes = live.LiveRoutes(load_routes(file, NAMES), file, NAMES)
    write(file, "second")
    assert routes.current().routes[0].name == "first"
