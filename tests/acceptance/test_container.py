"""The image's steps, taken from deploy/Containerfile, make a root in which the node runs as the image says, without an engine.

By default over this machine's own Debian, listening only. WETREAD_CONTAINER=bare: in a Debian of nothing but its minimal
packages, with the models' libraries loaded and all processes; that shows that no library is missing and takes some minutes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.containerfile import read
from tests.deploy.tools import uv_program

from .harness.container import BARE, Image, in_root, must_be_possible
from .harness.processes import free_port

_WAIT = """
wait_for() {{ for _ in $(seq {ticks}); do "$@" && return 0; kill -0 $node || return 1; sleep 2; done; return 1; }}
"""


@pytest.fixture(scope="module")
def uv_cache() -> Path:
    asked = subprocess.run([uv_program(), "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(asked.stdout.strip())


@pytest.mark.timeout(1000)
def test_the_image_runs_as_its_file_says(tmp_path: Path, uv_cache: Path) -> None:
    must_be_possible()
    bare = os.environ.get("WETREAD_CONTAINER") == BARE
    if not (uv_cache / "archive-v0").is_dir() and not bare:
        pytest.skip("uv's cache is empty: the wheels, 6 GB, would have to be fetched; WETREAD_CONTAINER=bare does so")
    (tmp_path / "etc").mkdir()
    port = free_port()
    (tmp_path / "etc" / "node.yaml").write_text(
        f"data: /var/lib/wetread\nlistener: {{host: 127.0.0.1, port: {port}, watermark_mb: 1}}\nlog: {{form: json}}\n", "utf-8"
    )
    arguments = {"UV_LINK_MODE": "symlink", "BYTECODE": "no", "UID": "10001"}
    image = Image(tmp_path / "work", arguments, uv_cache, bare)
    done = image.run(_afterwards(tmp_path, port, bare), timeout=900 if bare else 600)
    output = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert done.returncode == 0, output
    for line in ("healthy", "root is read-only", "user 10001", "stopped with 0"):
        assert line in done.stdout, output


def _afterwards(folder: Path, port: int, bare: bool) -> str:
    """Shell: the image's entry point on a read-only root, its health check, an echo, and the end by SIGTERM."""
    stage = read()[1][-1]
    entry = stage.of("ENTRYPOINT")[0].exec_form
    role = "serve" if bare else "listen"
    command = [*entry, role, *stage.of("CMD")[0].exec_form[1:]]
    health = stage.of("HEALTHCHECK")[0].exec_form
    python = [
        "python3",
        "-c",
        "import torch, torchvision, open_clip, highdicom, gdcm, imagecodecs, openjpeg, psycopg, reportlab",
    ]
    user = "10001:10001"
    checks = [
        f'{in_root(stage, ["sh", "-c", "touch /opt/x 2>/dev/null"], user)} && exit 1; echo "root is read-only"',
        f'echo "user $({in_root(stage, ["id", "-u"], user)})"',
        *([in_root(stage, python, user)] if bare else []),
        f"{in_root(stage, command, user)} & node=$!",
        _WAIT.format(ticks=60),
        f"healthy() {{ {in_root(stage, health, user)}; }}",
        "wait_for healthy && echo healthy",
        f"wait_for bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'",
        'kill -TERM $node; wait $node; echo "stopped with $?"',
    ]
    return "\n".join(
        [
            'R="$ROOT_node"; mount -t tmpfs tmpfs "$R/tmp"; chmod 1777 "$R/tmp"',
            f'cp "{folder}/etc/node.yaml" "$R/etc/wetread/"; chmod 0644 "$R/etc/wetread/node.yaml"',
            'mkdir "$W/data"; chown 10001:10001 "$W/data"; chmod 0700 "$W/data"; mount --bind "$W/data" "$R/var/lib/wetread"',
            'mount -o remount,ro,bind "$R" 2>/dev/null || mount -o remount,ro "$R"',
            *checks,
        ]
    )
