"""The Containerfile's steps without a container engine: one script made of the file itself, run in namespaces of its own.

Each stage gets a root: the overlay of this machine's own Debian, or a bare one from Debian's packages. RUN steps run in it by
chroot with the environment that the file gives them, COPY steps obey .dockerignore. Then the image's entry point runs as the
image's user on a read-only root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.containerfile import ROOT, Stage, Step, read

from .processes import require

BARE = "bare"
_PASSED_ON = ("PIP_", "UV_", "http_proxy", "https_proxy", "no_proxy")
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # a bare Debian has none until its first RUN, and never a site's own
_CERT = "/run/authorities.crt"
_CACHE = "/var/cache/wheels"  # where the image's user can read it too: with UV_LINK_MODE=symlink the packages are links to it
# Nothing of this machine is mounted into a root so that it could be written: what packages and uv write there must stay there.
_MOUNTS = """
mount_system() {  # ROOT
  mkdir -p "$1/proc" "$1/dev" "$1/tmp"
  mount -t proc proc "$1/proc"
  mount -t tmpfs -o mode=0755 tmpfs "$1/dev"
  for d in null zero full random urandom; do touch "$1/dev/$d"; mount --bind "/dev/$d" "$1/dev/$d"; done
  mkdir "$1/dev/shm"; ln -s /proc/self/fd "$1/dev/fd"
  [ -e "$1/etc/resolv.conf" ] || cp /etc/resolv.conf "$1/etc/resolv.conf"
}
over() {  # FOLDER TARGET NAME: what is written to the target stays in memory
  mkdir -p "$W/$3.up" "$W/$3.work" "$2"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$W/$3.up,workdir=$W/$3.work" "$2"
}
"""


@dataclass(frozen=True, slots=True)
class Image:
    """The steps of the Containerfile as a script. ``bare``: in a root made of Debian's packages, else over this machine's.

    ``arguments``: build arguments. ``cache``: uv's folder of wheels on this machine.
    """

    work: Path
    arguments: Mapping[str, str]
    cache: Path
    bare: bool = False

    def script(self, afterwards: str) -> str:
        """Builds, then runs ``afterwards``, in which $ROOT_node is the image's root, mounted."""
        _, stages = read()
        parts = ["set -eu", f"W={shlex.quote(str(self.work))}", 'mount -t tmpfs -o mode=0755 tmpfs "$W"', _MOUNTS]
        parts.append(f'over {shlex.quote(str(self.cache))} "$W/cache" wheels')
        for stage in stages:
            parts += [*self._root(stage), *_steps(stage, self.arguments)]
        return "\n".join([*parts, afterwards]) + "\n"

    def _root(self, stage: Stage) -> list[str]:
        root = f'"$ROOT_{stage.name}"'
        made = [f'ROOT_{stage.name}="$W/{stage.name}"; mkdir "$W/{stage.name}"']
        if self.bare:
            made.append(f"mount --bind {root} {root}")
            made.append(f"tar --extract --file {shlex.quote(str(self.base))} --directory {root}")
            made.append(f"cp {_AUTHORITIES} {root}{_CERT}")
        else:
            made.append(f"over / {root} {stage.name}-root; cp {_AUTHORITIES} {root}{_CERT}")
        made.append(f"mount_system {root}")
        return [*made, f'mkdir -p {root}{_CACHE}; mount --bind "$W/cache" {root}{_CACHE}']

    @property
    def base(self) -> Path:
        return self.work.with_name("debian-12.tar")

    def run(self, afterwards: str, timeout: float) -> subprocess.CompletedProcess[str]:
        self.work.mkdir(parents=True, exist_ok=True)
        if self.bare and not self.base.exists():
            command = [require("mmdebstrap", "mmdebstrap"), "--quiet", "--variant=minbase", "bookworm", str(self.base)]
            subprocess.run(command, check=True, capture_output=True, timeout=timeout)
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "bash", "-s"]
        return subprocess.run(
            command, input=self.script(afterwards), text=True, capture_output=True, timeout=timeout, check=False, cwd=ROOT
        )


def must_be_possible() -> None:
    """Skips where roots cannot be made and changed into: needs root and Linux namespaces with overlay mounts."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("running the Containerfile's steps needs root and unshare")
    probe = 'd=$(mktemp -d) && mount -t tmpfs tmpfs "$d" && mkdir "$d/u" "$d/w" "$d/m" && '
    probe += (
        'mount -t overlay overlay -o "lowerdir=/,upperdir=$d/u,workdir=$d/w" "$d/m"; s=$?; umount -l "$d"; rmdir "$d"; exit $s'
    )
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", probe]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"overlay mounts cannot be made here ({found.stderr.strip()})")


def in_root(stage: Stage, command: list[str], user: str = "") -> str:
    """A shell command: ``command`` in the stage's root, with the environment and the folder that the image has at its end."""
    env = {key: value for step in stage.of("ENV") for key, value in step.pairs.items()}
    folder = stage.of("WORKDIR")[-1].text if stage.of("WORKDIR") else "/"
    words = ["env", "-i", *(f"{key}={value}" for key, value in env.items()), "/bin/sh", "-c", f'cd {folder} && exec "$@"', "sh"]
    changed = f'chroot {f"--userspec={user}" if user else ""} "$ROOT_{stage.name}"'
    return f"{changed} {shlex.join([*words, *command])}"


def _steps(stage: Stage, given: Mapping[str, str]) -> list[str]:
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    env: dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    env |= {**passed_on, "PIP_CERT": _CERT, "SSL_CERT_FILE": _CERT, "UV_CACHE_DIR": _CACHE}
    arguments: dict[str, str] = {}
    shell, folder, script = ["/bin/sh", "-c"], "/", []
    for step in stage.steps:
        if step.word == "ARG":
            arguments |= {name: given.get(name, value) for name, value in step.pairs.items()}
        elif step.word == "ENV":
            env |= step.pairs
        elif step.word == "SHELL":
            shell = step.exec_form
        elif step.word == "WORKDIR":
            folder = step.text
            script.append(f'mkdir -p "$ROOT_{stage.name}{folder}"')
        elif step.word == "COPY":
            script += _copied(stage, step, folder)
        elif step.word == "RUN":
            words = {name: value for name, value in arguments.items() if value or name in given} | env
            command = ["env", "-i", *(f"{name}={value}" for name, value in words.items()), *shell, f"cd {folder}\n{step.text}"]
            script.append(f'echo "$SECONDS s: {stage.name}"')
            script.append(f'chroot "$ROOT_{stage.name}" {shlex.join(command)}')
    return script


def _copied(stage: Stage, step: Step, folder: str) -> list[str]:
    words = step.text.split()
    if words[0].startswith("--from="):
        origin, source, target = words[0].removeprefix("--from="), words[1], words[2]
        into = f'"$ROOT_{stage.name}{target}"'
        return [f'mkdir -p {into}; mount --bind "$ROOT_{origin}{source}" {into}']
    *sources, target = words
    script = []
    for source in sources:
        if not allowed(source):
            raise ValueError(f"COPY {source}: .dockerignore keeps it out of the build context")
        into = f'"$ROOT_{stage.name}{folder}/{target.removesuffix("/") if (ROOT / source).is_dir() else target}"'
        if (ROOT / source).is_dir():
            script.append(
                f"mkdir -p {into}; tar -C {shlex.quote(str(ROOT / source))} --exclude=__pycache__ -c . | tar -C {into} -x"
            )
        else:
            script.append(f"mkdir -p {into}; cp {shlex.quote(str(ROOT / source))} {into}/")
    return script


def allowed(source: str) -> bool:
    """Whether .dockerignore, an allow-list, lets a path into the build context."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    return any(source == line.removeprefix("!") for line in lines if line.startswith("!"))
