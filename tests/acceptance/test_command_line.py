"""A user's mistake ends with a sentence that says what to do and status 2; never with a traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .harness.node import wetread

GOOD = "listener: {port: 0}\n"
MISTAKES = {
    "not YAML": ("listener: [unclosed", ["node.yaml", "not valid YAML"]),
    "a misspelt key": ("listener: {prot: 104}\n", ["node.yaml", "listener.prot", "'port'"]),
    "a port too high": ("listener: {port: 70000}\n", ["node.yaml", "listener.port", "65535"]),
    "a destination without a port": (
        "destinations: {pacs: {kind: dicom, host: h, ae_title: A}}\n",
        ["destinations.pacs.port", "required"],
    ),
    "a missing bundle": (
        "listener: {port: 0}\nreadings: {chest_xray: {triage: bundles/nowhere}}\n",
        ["bundles/nowhere", "no model bundle", "wetread models import", "phantom"],
    ),
    "a missing catalogue": ("listener: {port: 0}\nreadings: {chest_xray: {catalogue: nowhere.yaml}}\n", ["nowhere.yaml"]),
    "missing routes": ("listener: {port: 0}\nroutes: routes.yaml\n", ["routes.yaml", "no such"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_settings_is_named(name: str, tmp_path: Path) -> None:
    text, words = MISTAKES[name]
    file = tmp_path / "node.yaml"
    file.write_text(text, "utf-8")
    _refused(words, "serve", "--config", file)


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    _refused(["absent.yaml", "no such settings file"], "serve", "--config", tmp_path / "absent.yaml")


def test_a_route_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("listener: {port: 0}\nroutes: routes.yaml\n", "utf-8")
    (tmp_path / "routes.yaml").write_text("routes: [{name: all, reading: chest_xray, destinations: [mars]}]\n", "utf-8")
    _refused(["routes.yaml", "'all'", "'mars'"], "serve", "--config", tmp_path / "node.yaml")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        (tmp_path / "node.yaml").write_text(f"listener: {{port: {port}}}\n", "utf-8")
        _refused([str(port), "another program"], "serve", "--config", tmp_path / "node.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["send", "FILE", "--to", "nonsense"], ["nonsense", "AETITLE@HOST:PORT"], id="an address that is none"),
        pytest.param(["send", "absent.dcm", "--to", "A@127.0.0.1:104"], ["absent.dcm", "no such"], id="a file that is none"),
        pytest.param(["models", "import", "gpt9", "FILE", "--out", "out"], ["gpt9", "biomedclip"], id="a kind that is none"),
        pytest.param(["research", "run", "--source", "absent", "--out", "out"], ["absent"], id="an archive that is none"),
        pytest.param(["serve", "--port", "1"], ["--port"], id="an option that is none"),
    ],
)
def test_a_mistake_in_the_arguments_is_named(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "FILE").write_bytes(b"x")
    paths = {name: tmp_path / name for name in ("FILE", "absent", "absent.dcm", "out")}
    _refused(words, *[paths.get(word, word) for word in arguments])


def test_sending_to_nobody_says_so_and_is_no_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = wetread("send", tmp_path / "x.dcm", "--to", f"NOBODY@127.0.0.1:{port}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_check_tells_of_each_part(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "node.yaml").write_text(
        GOOD + "destinations:\n"
        f"  pacs: {{kind: dicom, host: 127.0.0.1, port: {port}, ae_title: NOBODY}}\n"
        f"  record: {{kind: fhir, url: 'http://127.0.0.1:{port}'}}\n",
        "utf-8",
    )
    done = wetread("check", "--config", tmp_path / "node.yaml")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in said
    assert "pacs" in said
    assert "record" in said


def _refused(words: list[str], *arguments: str | Path) -> None:
    done = wetread(*arguments)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert done.returncode == 2, said
    flat = " ".join(said.split())
    for word in words:
        assert word in flat, f"{word!r} is not in: {flat}"
