"""The command line: quick to start, and a user's mistake ends in one sentence, exit status 2 and no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from dicom_node import cli

ROOT = Path(__file__).parents[2]
COMMANDS = [
    ["serve"], ["work"], ["deliver"], ["demo"], ["send"], ["check"], ["jobs"], ["jobs", "list"], ["jobs", "show"],
    ["jobs", "retry"], ["models"], ["models", "import"], ["models", "pull"], ["models", "verify"], ["models", "list"],
    ["research"], ["research", "run"], ["findings"], ["findings", "check"], ["findings", "preview"], ["findings", "schema"],
    ["calibrate"], ["probe"], ["probe", "fit"],
]  # fmt: skip
HEAVY = ("torch", "open_clip", "transformers", "highdicom", "pydicom", "pynetdicom", "sqlalchemy", "fhir", "pyarrow", "numpy")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    structlog.reset_defaults()


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def wetread(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; its exit status and all that it said."""

    def say(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["wetread", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        out = capsys.readouterr()
        return (code if isinstance(code, int) else 0 if code is None else 1), out.out + out.err

    return say


def test_help_loads_nothing_heavy() -> None:
    """In a process of its own: what another test imported must not count."""
    code = (
        "import sys\nfrom dicom_node import cli\nsys.argv = ['wetread', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert "Always a draft, never a diagnosis" in done.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(wetread: Say, words: list[str]) -> None:
    status, told = wetread(*words, "--help")
    assert status == 0
    assert "Usage" in told


def test_every_option_is_explained(wetread: Say) -> None:
    status, told = wetread("research", "run", "--help")
    assert status == 0
    for option in ("--source", "--out", "--config", "--reading"):
        assert option in told


MISTAKES = {
    "serve, no settings": (["serve"], ["node.yaml: no such settings file", "start from"]),
    "serve, bad key": (["serve", "--config", "bad.yaml"], ["bad.yaml", "'listner'", "Did you mean 'listener'"]),
    "work, no settings": (["work", "--config", "none.yaml"], ["none.yaml: no such settings file"]),
    "deliver, no settings": (["deliver", "--config", "none.yaml"], ["none.yaml: no such settings file"]),
    "jobs list, no settings": (["jobs", "list", "--config", "none.yaml"], ["none.yaml: no such settings file"]),
    "jobs list, unknown state": (["jobs", "list", "--config", "good.yaml", "--state", "lost"], ["lost", "queued", "dead"]),
    "jobs list, unknown kind": (["jobs", "list", "--config", "good.yaml", "--kind", "mail"], ["mail", "read", "deliver"]),
    "jobs show, no number": (["jobs", "show", "first", "--config", "good.yaml"], ["'job'", "valid integer"]),
    "jobs show, no settings": (["jobs", "show", "1", "--config", "none.yaml"], ["none.yaml: no such settings file"]),
    "models import, unknown kind": (["models", "import", "gpt", "good.yaml", "--out", "new"], ["gpt", "biomedclip"]),
    "models import, no file": (["models", "import", "biomedclip", "nowhere", "--out", "new"], ["nowhere: no such file"]),
    "models pull, unknown model": (["models", "pull", "gpt", "--out", "new"], ["gpt", "biomedclip, clip-vit-b16"]),
    "models pull, on no hub": (["models", "pull", "biomedgpt-tiny", "--out", "new"], ["biomedgpt_tiny.pt", "--bpe"]),
    "models list, no folder": (["models", "list", "nowhere"], ["nowhere"]),
    "send, no port": (["send", "good.yaml", "--to", "PACS"], ["'PACS'", "AETITLE@HOST:PORT"]),
    "send, port too high": (["send", "good.yaml", "--to", "PACS@localhost:99999"], ["AETITLE@HOST:PORT"]),
    "send, unknown destination": (["send", "good.yaml", "--to", "pacs", "--config", "good.yaml"], ["there are: none"]),
    "send, no file": (["send", "nowhere.dcm", "--to", "PACS@127.0.0.1:1"], ["nowhere.dcm: no such file or folder"]),
    "research, no source": (["research", "run", "--source", "nowhere", "--out", "run"], ["nowhere: no such folder"]),
    "research, out is a file": (["research", "run", "--source", "empty", "--out", "good.yaml"], ["good.yaml: is a file"]),
    "research, out holds source": (["research", "run", "--source", "empty", "--out", "."], ["holds the source itself"]),
    "research, unknown reading": (
        ["research", "run", "--source", "empty", "--out", "run", "--reading", "mri"],
        ["'mri' is not in the settings; there are: chest_xray"],
    ),
    "research, bad settings": (
        ["research", "run", "--source", "empty", "--out", "run", "--config", "bad.yaml"],
        ["Did you mean 'listener'"],
    ),
    "no such command": (["servo"], ["No such command"]),
    "no such option": (["serve", "--colour"], ["No such option"]),
    "an option missing": (["research", "run", "--source", "empty"], ["--out"]),
}


@pytest.mark.parametrize(("words", "parts"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_ends_in_a_sentence(wetread: Say, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text("listner: {}\n")
    (tmp_path / "good.yaml").write_text("{}\n")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    status, told = wetread(*words)
    assert status == 2, told
    for part in parts:
        assert part in told
    assert "Traceback" not in told
    if words[0] != "jobs":  # a database is made where there is none
        assert sorted(tmp_path.iterdir()) == before


def test_check_tells_a_mistake_as_a_failed_line(wetread: Say, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("listner: {}\n")
    status, told = wetread("check", "--config", "bad.yaml")
    assert status != 0
    assert "bad.yaml: key 'listner' is not a setting. Did you mean 'listener'?" in told
    assert "Traceback" not in told


def test_a_missing_bundle_says_how_to_get_it(wetread: Say, tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("readings: {chest_xray: {triage: models/none}}\n")
    status, told = wetread("serve")
    assert status == 2
    assert f"{tmp_path}/models/none: no model bundle here" in told
    assert "wetread models import" in told


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")  # pynetdicom
def test_a_peer_that_does_not_listen_is_exit_1(wetread: Say, tmp_path: Path) -> None:
    from dicom_node.phantom_dicom import phantom_dx
    from tests.support import save

    save(phantom_dx(1, [], size=64), tmp_path / "film.dcm")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    status, told = wetread("send", "film.dcm", "--to", f"PACS@127.0.0.1:{port}")
    assert status == 1
    assert f"PACS@127.0.0.1:{port}: no association" in told
    assert "Traceback" not in told


def test_an_error_of_our_own_making_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug must look like one, with its traceback."""

    def broken(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("dicom_node.sender.run", broken)
    monkeypatch.setattr(sys, "argv", ["wetread", "send", "x", "--to", "y"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
