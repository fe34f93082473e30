"""The systemd units: right for systemd itself, hardened to a stated bar, and their commands are commands of the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.settings import load_settings

from .tools import DEPLOY, must_parse

SYSTEMD = DEPLOY / "systemd"
EXPOSURE_BAR = 2.0  # of systemd-analyze security, 0 to 10; the network, which a DICOM node needs, costs 0.8 of it
ROLES = ("listen", "work", "deliver", "web")


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as installed, with an instance of each role and a program that is there."""
    for file in SYSTEMD.glob("wetread*"):
        text = file.read_text("utf-8").replace("/opt/wetread/bin/wetread", sys.executable)
        (tmp_path / file.name).write_text(text, "utf-8")
    for role in ROLES:
        shutil.copy(tmp_path / "wetread@.service", tmp_path / f"wetread@{role}.service")
    return tmp_path


def test_systemd_finds_no_fault(units: Path) -> None:
    alone = ("wetread.service", "wetread.target", "wetread-backup.service", "wetread-backup.timer")
    instances = [f"wetread@{role}.service" for role in ROLES]
    done = analyze("verify", "--man=no", *(units / name for name in (*alone, *instances)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("drop_in", [None, "gpu.conf", "port-104.conf"])
@pytest.mark.parametrize("unit", ["wetread.service", "wetread@work.service", "wetread-backup.service"])
def test_the_units_are_hardened_to_the_bar(units: Path, unit: str, drop_in: str | None) -> None:
    if drop_in and unit != "wetread-backup.service":
        before, _, after = (units / unit).read_text("utf-8").partition("[Install]")
        (units / unit).write_text(f"{before}{(SYSTEMD / drop_in).read_text('utf-8')}\n[Install]{after}", "utf-8")
    done = analyze("security", "--offline=true", "--no-pager", units / unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSURE_BAR


@pytest.mark.parametrize("unit", ["wetread.service", "wetread@.service", "wetread-backup.service"])
def test_its_command_is_a_command_of_the_program(unit: str) -> None:
    lines = re.findall(r"^ExecStart=/opt/wetread/bin/wetread (.*)$", (SYSTEMD / unit).read_text("utf-8"), re.MULTILINE)
    assert len(lines) == 1
    for role in ROLES if "%i" in lines[0] else ("",):
        must_parse(lines[0].replace("%i", role).split())


def test_the_template_is_as_hardened_as_the_service() -> None:
    whole, part = (_hardening((SYSTEMD / name).read_text("utf-8")) for name in ("wetread.service", "wetread@.service"))
    assert whole == part


def test_a_fault_of_the_settings_is_not_tried_again() -> None:
    """Exit status 2 is promised for what the user must change; SettingsError leads to it."""
    for name in ("wetread.service", "wetread@.service"):
        assert "RestartPreventExitStatus=2\n" in (SYSTEMD / name).read_text("utf-8")


@pytest.mark.parametrize(("kind", "arguments"), [("sysusers", []), ("tmpfiles", ["--create"])])
def test_users_and_folders_can_be_made(tmp_path: Path, kind: str, arguments: list[str]) -> None:
    program = shutil.which(f"systemd-{kind}")
    if program is None or os.geteuid() != 0:
        pytest.skip(f"needs root and systemd-{kind} (Debian package systemd)")
    file = tmp_path / f"usr/lib/{kind}.d/wetread.conf"
    file.parent.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("wetread:x:900:900::/:/bin/sh\n" if kind == "tmpfiles" else "", "utf-8")
    (tmp_path / "etc/group").write_text("wetread:x:900:\n" if kind == "tmpfiles" else "", "utf-8")
    shutil.copy(SYSTEMD / f"wetread.{kind}", file)
    command = [program, *arguments, f"--root={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if kind == "sysusers":
        assert re.search(
            r"^wetread:.*:/var/lib/wetread:/usr/sbin/nologin$", (tmp_path / "etc/passwd").read_text(), re.MULTILINE
        )
    else:
        modes = {path: oct((tmp_path / path).stat().st_mode & 0o777) for path in ("etc/wetread", "var/lib/wetread")}
        assert modes == {"etc/wetread": "0o750", "var/lib/wetread": "0o700"}


def _hardening(text: str) -> list[str]:
    return sorted(line for line in text[text.index("CapabilityBoundingSet") : text.index("[Install]")].splitlines() if line)


def test_the_settings_that_the_units_name_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("data: /var/lib/wetread\n", "utf-8")
    assert load_settings(tmp_path / "node.yaml").data_folder == Path("/var/lib/wetread")
