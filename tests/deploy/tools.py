"""Outside tools, installed apart from the project by tests/acceptance/install_peers.sh; and our own command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from dicom_node import cli

from .containerfile import ROOT

TOOLS = ROOT / ".venv" / "deploy-tools"
DEPLOY = ROOT / "deploy"


def tool(name: str) -> Path:
    """A folder or program among the tools. Skips where it is not installed; fails in CI, which installs it."""
    found = TOOLS / name
    if not found.exists():
        why = f"{name} is not installed in .venv/deploy-tools; run tests/acceptance/install_peers.sh"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"in CI, but {why}")
        pytest.skip(why)
    return found


def uv_program() -> str:
    """uv beside this Python, where `make setup` puts it, or on the path. Skips where there is none."""
    found = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    return found or pytest.skip("no uv; `make setup` installs it")


def ask(package: str, program: str, question: Any) -> Any:
    """What ``program``, a Python text that reads JSON and writes JSON, answers with ``package`` of the tools at hand."""
    tool(package)
    command = [sys.executable, "-c", program]
    env = {**os.environ, "PYTHONPATH": str(TOOLS)}
    done = subprocess.run(
        command, input=json.dumps(question), capture_output=True, text=True, env=env, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@cache
def _program() -> Any:
    return typer.main.get_command(cli.app)


def _type_of_refusal() -> type[Exception]:
    """typer brings a click of its own, so the class is found by what it does."""
    try:
        _program().make_context("wetread", ["--no-such-option"])
    except Exception as error:  # noqa: BLE001 - its type is what is asked for
        return next(one for one in type(error).__mro__ if one.__name__ == "UsageError")
    raise AssertionError("an unknown option was taken")


def must_parse(words: list[str]) -> None:
    """Raises UNKNOWN unless ``wetread WORDS`` is a command of the program with arguments that it takes. Nothing is run."""
    command = _program()
    rest, context = list(words), None
    while hasattr(command, "resolve_command"):
        context = command.make_context(command.name or "wetread", rest, parent=context)
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(command.name, rest, parent=context)


UNKNOWN = _type_of_refusal()
