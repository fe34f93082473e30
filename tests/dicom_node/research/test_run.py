"""`wetread research run` as a process of its own, with the shipped models: it reads, and it opens no connection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dicom_node.errors import SettingsError
from dicom_node.phantom_dicom import phantom_ct, phantom_dx
from dicom_node.research.run import run
from inference.bundles import BundleCard, write_manifest
from inference.errors import BundleError
from inference.phantoms import bundle_folder
from inference.reading import UseMode
from tests.support import save

ROOT = Path(__file__).parents[3]
# An AF_UNIX socket may be made by a library that asks what the machine is; nothing may be reached by name or address.
_GUARDED = """
import os, sys
try:
    import urllib3  # pydicom loads it where it is installed, and it tries at import whether there is IPv6
except ImportError:
    pass
FORBIDDEN = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}
def forbid(event, _args):
    if event in FORBIDDEN:
        os.write(2, f"{event} was called\\n".encode())
        os._exit(99)
sys.addaudithook(forbid)
from dicom_node.cli import main
main()
"""

needs_bundles = pytest.mark.skipif(
    not all((bundle_folder(kind) / "bundle.json").is_file() for kind in ("biomedclip", "biomedgpt")),
    reason="the phantom bundles are not in this checkout; make them by the training scripts of inference/phantoms",
)


def wetread(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _GUARDED, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    save(phantom_dx(1001, ["pneumothorax"]), root / "a")
    save(phantom_dx(1002, []), root / "b")
    for number, slice_ in enumerate(phantom_ct(1003, 2, size=64)):
        save(slice_, root / f"ct{number}")
    (root / "list.csv").write_text("a,b")
    return root


@needs_bundles
def test_an_archive_is_read_with_the_shipped_models(source: Path, tmp_path: Path) -> None:
    done = wetread("research", "run", "--source", source, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "assessed" in done.stderr
    table = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    studies = {
        name: str(film.StudyInstanceUID)
        for name, film in {
            "pneumothorax": phantom_dx(1001, ["pneumothorax"]),
            "normal": phantom_dx(1002, []),
            "ct": phantom_ct(1003, 2, size=64)[0],
        }.items()
    }
    assert {row["study_instance_uid"] for row in table} == set(studies.values())
    assert {row["decision"] for row in table if row["study_instance_uid"] == studies["ct"]} == {"not assessable"}
    assert {row["mode"] for row in table} == {"research"}
    assert {row["phantom_models"] for row in table} == {True}
    decisions = {(row["study_instance_uid"], row["finding"]): row["decision"] for row in table}
    assert decisions[studies["pneumothorax"], "pneumothorax"] == "positive"
    assert decisions[studies["normal"], "pneumothorax"] == "negative"
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [model["kind"] for model in manifest["models"]] == ["biomedclip", "biomedgpt"]
    again = wetread("research", "run", "--source", source, "--out", tmp_path / "run")
    assert again.returncode == 0, again.stderr


@needs_bundles
def test_a_run_of_another_reading_is_refused(source: Path, tmp_path: Path) -> None:
    for number, catalogue in enumerate(("phantom", "null")):
        config = tmp_path / f"{number}.yaml"
        config.write_text(f"readings: {{chest_xray: {{drafting: {catalogue}}}}}\n")
        done = wetread("research", "run", "--source", source, "--out", tmp_path / "run", "--config", config)
        assert done.returncode == (0, 2)[number], done.stderr
    assert "this run was made with something else" in done.stderr
    assert "models.biomedgpt: was " in done.stderr
    assert "is now absent" in done.stderr
    assert "Traceback" not in done.stderr


def make_bundle(folder: Path, weights: bytes, *modes: UseMode) -> Path:
    """A bundle that can be opened, not loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_model.safetensors").write_bytes(weights)
    write_manifest(folder, BundleCard("Limited", "clip", "1", "nowhere@1", "research only", "tests", modes))
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Settings of a live node with a model that a licence keeps to research, and an empty archive."""
    make_bundle(tmp_path / "clip", b"one", UseMode.RESEARCH)
    (tmp_path / "node.yaml").write_text("mode: assist\nreadings: {films: {triage: clip, drafting: null}}\n")
    (tmp_path / "archive").mkdir()
    return tmp_path


def test_a_run_is_research_whatever_the_node_does(site: Path) -> None:
    """An archive without studies needs no model: what is checked before they load is seen alone."""
    assert run(site / "archive", site / "run", site / "node.yaml", None) == 0
    manifest = json.loads((site / "run" / "manifest.json").read_text())
    assert manifest["mode"] == "research"
    assert (manifest["reading"], manifest["models"][0]["name"]) == ("films", "Limited")
    assert manifest["source"] == str(site / "archive")
    assert manifest["code"].split()[1]


def test_changed_weights_are_another_model(site: Path) -> None:
    run(site / "archive", site / "run", site / "node.yaml", None)
    make_bundle(site / "clip", b"two", UseMode.RESEARCH)
    with pytest.raises(SettingsError, match=r"models\.clip\.digest: was [0-9a-f]{64}, is now [0-9a-f]{64}"):
        run(site / "archive", site / "run", site / "node.yaml", "films")


def test_a_model_not_allowed_for_research_is_refused_before_anything_is_made(site: Path) -> None:
    make_bundle(site / "clip", b"one")
    with pytest.raises(BundleError, match="not research"):
        run(site / "archive", site / "run", site / "node.yaml", None)
    assert not (site / "run").exists()


def test_a_missing_bundle_says_how_to_get_it(site: Path) -> None:
    (site / "clip" / "bundle.json").unlink()
    with pytest.raises(BundleError, match="no model bundle here"):
        run(site / "archive", site / "run", site / "node.yaml", None)
    assert not (site / "run").exists()
