"""The Containerfile: clean for hadolint, pinned, not root, and what it copies may be copied."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from dicom_node.settings import Settings
from tests.acceptance.harness.container import allowed

from .containerfile import CONTAINERFILE, ROOT, Step, read
from .tools import must_parse, tool, uv_program

BEFORE, STAGES = read()
BUILD, NODE = STAGES
CUDA = {"nvidia-cublas": "13.4.1.3", "cuda-toolkit": "13.2.2", "triton": "3.9.0"}


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([tool("bin/hadolint"), CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_names_no_registry() -> None:
    assert [stage.base for stage in STAGES] == ["${BASE}", "${BASE}"]
    assert re.fullmatch(r"[a-z]+:[a-z0-9.-]+", BEFORE["BASE"])


def test_the_node_runs_as_a_user_of_its_own_and_hears_signals() -> None:
    uid = NODE.of("ARG")[0].pairs["UID"]
    assert NODE.of("USER")[-1].text == "${UID}:${UID}"
    assert int(uid) >= 10000
    assert NODE.of("ENTRYPOINT")[0].exec_form == ["/usr/bin/tini", "--", "wetread"]


def test_its_commands_are_commands_of_the_program() -> None:
    must_parse(NODE.of("CMD")[0].exec_form)
    health = NODE.of("HEALTHCHECK")[0].exec_form
    assert health[0] == "wetread"
    must_parse(health[1:])


def test_a_delivery_that_needs_a_hand_does_not_make_the_container_unhealthy() -> None:
    """`wetread status` ends with 1 for a dead delivery or an absent peer, which no restart mends; with --alive it does not."""
    assert "--alive" in NODE.of("HEALTHCHECK")[0].exec_form


def test_the_ports_are_those_of_the_settings() -> None:
    defaults = Settings.model_construct()
    ports = [defaults.listener.port, defaults.commitment.port, defaults.web.port]
    assert NODE.of("EXPOSE")[0].text.split() == [str(port) for port in ports]


@pytest.mark.parametrize("step", BUILD.of("COPY"), ids=lambda step: step.text)
def test_what_is_copied_is_there_and_may_be_copied(step: Step) -> None:
    *sources, _ = step.text.split()
    assert [source for source in sources if not (ROOT / source).exists() or not allowed(source)] == []


def test_data_keys_and_environments_stay_out_of_the_build() -> None:
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert first == "*"
    wanted = {source for step in BUILD.of("COPY") for source in step.text.split()[:-1]}
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == wanted


def test_everything_that_is_installed_is_pinned_by_hash() -> None:
    installs = [line.strip() for step in BUILD.of("RUN") for line in step.text.splitlines() if "pip install" in line]
    free = [line for line in installs if "--require-hashes" not in line and "--offline" not in line]
    assert ["TORCH_INDEX_URL" in line for line in free] == [True]  # the CPU wheels, whose index the operator names


def test_the_build_tools_are_those_of_the_lock() -> None:
    ours, theirs = (_pins(name) for name in ("deploy/build.lock", "requirements.lock"))
    assert {"uv", "hatchling"} <= set(ours)
    assert {name: pin for name, pin in ours.items() if name in theirs} == {
        name: theirs[name] for name in ours if name in theirs
    }
    text = (ROOT / "deploy" / "build.lock").read_text("utf-8")
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", text))


def test_the_extras_are_extras_of_the_project() -> None:
    extras = next(step.pairs["EXTRAS"] for step in BUILD.of("ARG") if "EXTRAS" in step.pairs)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras.replace("--extra", "").split()) <= set(project["optional-dependencies"])


def _pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z][a-z0-9._-]*)==([^ ;]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with what the step for the variants looks at, and an index that has the CPU wheels."""
    uv = uv_program()
    subprocess.run([uv, "venv", "--quiet", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    for name, version in {**CUDA, "torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.3.0"}.items():
        _metadata(site / f"{name.replace('-', '_')}-{version}.dist-info", name, version)
    for name, version in (("torch", "2.15.0+cpu"), ("torchvision", "0.29.2+cpu")):
        _wheel(tmp_path / "index" / name, name, version)
    index = (tmp_path / "index").as_uri()
    path = f"{Path(uv).parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(tmp_path), "VIRTUAL_ENV": str(tmp_path / "venv"), "TORCH_INDEX_URL": index}


def test_the_cpu_variant_is_without_cuda(environment: dict[str, str], tmp_path: Path) -> None:
    done = _variant({**environment, "VARIANT": "cpu"}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert _installed(environment) == {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu", "numpy": "2.3.0"}


def test_the_cuda_variant_is_left_as_the_lock_says(environment: dict[str, str], tmp_path: Path) -> None:
    assert _variant({**environment, "VARIANT": "cuda"}, tmp_path).returncode == 0
    assert _installed(environment) == {**CUDA, "torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.3.0"}


@pytest.mark.parametrize(
    ("change", "message"), [({"VARIANT": "gpu"}, "not 'gpu'"), ({"VARIANT": "cpu", "TORCH_INDEX_URL": ""}, "needs it")]
)
def test_a_variant_that_cannot_be_is_refused(
    environment: dict[str, str], tmp_path: Path, change: dict[str, str], message: str
) -> None:
    done = _variant({**environment, **change}, tmp_path)
    assert done.returncode != 0
    assert message in done.stderr


def _variant(environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    (step,) = (step for step in BUILD.of("RUN") if step.text.startswith("case $VARIANT"))
    command = [*BUILD.of("SHELL")[0].exec_form, step.text]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def _installed(environment: dict[str, str]) -> dict[str, str]:
    done = subprocess.run([uv_program(), "pip", "freeze"], env=environment, capture_output=True, text=True, check=True)
    return {name: version for name, _, version in (line.partition("==") for line in done.stdout.split())}


def _metadata(folder: Path, name: str, version: str) -> None:
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
    (folder / "RECORD").write_text(f"{folder.name}/METADATA,,\n{folder.name}/RECORD,,\n", "utf-8")


def _wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(parents=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>', "utf-8")
