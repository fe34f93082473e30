"""`wetread models pull` with the real client of the hub, against a hub on the loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node import models_view
from dicom_node.errors import NodeError, PeerRefused, PeerUnavailable, SettingsError
from dicom_node.models_known import MODELS
from dicom_node.models_view import PullOptions
from inference.bundles import open_bundle, verify_bundle
from inference.drafting.tokenizer import read_bpe
from inference.phantoms import bundle_folder
from tests.dicom_node.models.conftest import BERT, BIOMEDCLIP, BIOMEDGPT, COMMIT
from tests.dicom_node.models.hub_server import Hub

ROOT = Path(__file__).parents[3]
WEIGHTS = "pytorch_model.bin"
CHUNK = 1 << 16
NONE = PullOptions()
GPT = PullOptions(image_size=64)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client writes 10 MB at a time and waits a second before each of its five retries: too slow for small models."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)


def test_biomedclip_comes_with_its_text_tower_and_nothing_else(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "biomedclip"
    assert models_view.pull_model("biomedclip", out, NONE) == 0
    bundle = open_bundle(out, kinds=["biomedclip"])
    verify_bundle(bundle)
    commit = MODELS["biomedclip"].repository.commit
    assert bundle.card.source.startswith(f"{BIOMEDCLIP}@{commit}, open_clip_pytorch_model.bin, sha256 ")
    assert not hub.downloads("figure.png")
    assert not hub.downloads("flax_model.msgpack")
    assert list(out.parent.iterdir()) == [out]  # nothing of the download is left
    said = capsys.readouterr().out
    assert f"{BERT} at commit {MODELS['biomedclip'].text_tower.commit}" in said  # type: ignore[union-attr]
    assert "sha256 as the hub says" in said
    assert f"copy the whole folder {out} there" in said


def test_a_model_without_a_pin_records_where_main_stood(hub: Hub, tmp_path: Path) -> None:
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    card = open_bundle(tmp_path / "gpt", kinds=["biomedgpt"]).card
    assert card.source.startswith(f"{BIOMEDGPT}@{COMMIT}, {WEIGHTS}, sha256 ")
    assert "non-commercial" in card.licence
    asked = [path for _, path, _ in hub.requests if path.startswith("/api/")]
    assert asked == [f"/api/models/{BIOMEDGPT}/revision/main"]
    assert all(COMMIT in path for _, path, _ in hub.requests if "/resolve/" in path)  # `main` may move meanwhile


def test_a_revision_may_be_named(hub: Hub, tmp_path: Path) -> None:
    hub.repos[BIOMEDGPT].branches["v2"] = COMMIT
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", PullOptions("v2", image_size=64))
    assert f"@{COMMIT}," in open_bundle(tmp_path / "gpt").card.source
    assert f"/api/models/{BIOMEDGPT}/revision/v2" in [path for _, path, _ in hub.requests]


def test_another_repository_may_be_named(hub: Hub, tmp_path: Path) -> None:
    hub.repos["someone/biomedgpt-tiny"] = hub.repos.pop(BIOMEDGPT)
    models_view.pull_model("biomedgpt-tiny", tmp_path / "gpt", PullOptions(repository="someone/biomedgpt-tiny", image_size=64))
    assert open_bundle(tmp_path / "gpt").card.source.startswith(f"someone/biomedgpt-tiny@{COMMIT}")


def test_the_tokenizer_alone_serves_for_bpe(hub: Hub, tmp_path: Path) -> None:
    models_view.pull_model("biomedgpt-bpe", tmp_path / "bpe", NONE)
    ours, original = read_bpe(tmp_path / "bpe"), read_bpe(bundle_folder("biomedgpt"))
    assert ours.merges == original.merges
    assert len(ours.symbols) == len(original.symbols)
    assert not hub.downloads(WEIGHTS)


def test_shards_are_found_by_their_index(hub: Hub, tmp_path: Path) -> None:
    files = hub.repos[BIOMEDGPT].files
    names = {f"pytorch_model-0000{i}-of-00002.bin": part for i, part in enumerate(_halves(files.pop(WEIGHTS), tmp_path), 1)}
    weight_map = {key: name for name, (keys, _) in names.items() for key in keys}
    files |= {name: content for name, (_, content) in names.items()}
    files[WEIGHTS + ".index.json"] = json.dumps({"weight_map": weight_map}).encode()
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    verify_bundle(open_bundle(tmp_path / "gpt"))
    assert all(len(hub.downloads(name)) == 1 for name in names)


def _halves(content: bytes, folder: Path) -> list[tuple[list[str], bytes]]:
    import torch

    (folder / "whole").write_bytes(content)
    tensors = torch.load(folder / "whole", weights_only=True)
    halves = []
    for keys in (list(tensors)[::2], list(tensors)[1::2]):
        torch.save({key: tensors[key] for key in keys}, folder / "half")
        halves.append((keys, (folder / "half").read_bytes()))
    return halves


@pytest.mark.usefixtures("hasty")
def test_a_broken_line_is_told_and_the_next_pull_goes_on_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.end[WEIGHTS] = 10 * CHUNK
    with pytest.raises(PeerUnavailable, match=r"broke off.*(?s:.)*What has arrived is kept: the same command goes on"):
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    assert not (tmp_path / "gpt").exists()
    hub.end.clear()
    hub.requests.clear()
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    assert hub.downloads(WEIGHTS) == [f"bytes={10 * CHUNK}-"]
    assert not hub.downloads("vocab.json")  # had arrived
    verify_bundle(open_bundle(tmp_path / "gpt"))


@pytest.mark.usefixtures("hasty")
def test_a_line_that_breaks_again_and_again_is_picked_up_each_time(hub: Hub, tmp_path: Path) -> None:
    hub.cut[WEIGHTS] = CHUNK * (1 + len(hub.repos[BIOMEDGPT].files[WEIGHTS]) // (3 * CHUNK))
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    assert len(hub.downloads(WEIGHTS)) == 3
    assert hub.downloads(WEIGHTS)[1:] == [f"bytes={n * hub.cut[WEIGHTS]}-" for n in (1, 2)]
    verify_bundle(open_bundle(tmp_path / "gpt"))


@pytest.mark.usefixtures("hasty")
def test_a_pull_under_way_keeps_its_commit_when_main_moves(hub: Hub, tmp_path: Path) -> None:
    hub.end[WEIGHTS] = CHUNK
    with pytest.raises(PeerUnavailable):
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    hub.end.clear()
    repo = hub.repos[BIOMEDGPT]
    repo.branches[COMMIT], repo.commit = COMMIT, "beef" + 36 * "0"
    with pytest.raises(SettingsError, match=f"a pull of commit {COMMIT} is under way"):
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", PullOptions(repo.commit, image_size=64))
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    assert f"@{COMMIT}," in open_bundle(tmp_path / "gpt").card.source


def test_a_hub_that_answers_for_another_commit_is_not_believed(hub: Hub, tmp_path: Path) -> None:
    hub.repos[BIOMEDGPT].branches["a" * 40] = "b" * 40
    with pytest.raises(PeerRefused, match=f"asked for commit {'a' * 40}, the hub answers with {'b' * 40}"):
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", PullOptions("a" * 40))


@pytest.mark.parametrize("name", [WEIGHTS, "vocab.json"])
def test_what_is_not_what_the_hub_describes_is_thrown_away(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.spoilt.add(name)
    with pytest.raises(PeerUnavailable, match=rf"{name} did not arrive as the hub describes it"):
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    assert not (tmp_path / "gpt").exists()
    assert not list((tmp_path / "gpt.download").rglob(f"{name}*"))
    hub.spoilt.clear()
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    verify_bundle(open_bundle(tmp_path / "gpt"))


def test_a_pulled_model_is_not_pulled_again(hub: Hub, tmp_path: Path) -> None:
    models_view.pull_model("biomedgpt-base", tmp_path / "gpt", GPT)
    hub.requests.clear()
    assert models_view.pull_model("biomedgpt-base", tmp_path / "gpt", NONE) == 0
    assert models_view.pull_model("biomedgpt-base", tmp_path / "gpt", PullOptions(COMMIT)) == 0
    assert not hub.requests
    with pytest.raises(SettingsError, match=f"holds {BIOMEDGPT}@{COMMIT}"):
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", PullOptions("0" * 40))
    with pytest.raises(SettingsError, match="choose another folder"):
        models_view.pull_model("biomedclip", tmp_path / "gpt", NONE)


def _refuse(status: int, code: str) -> Callable[[Hub], None]:
    def act(hub: Hub) -> None:
        hub.repos[BIOMEDGPT].refuse = (status, code)

    return act


REFUSALS: dict[str, tuple[Callable[[Hub], object], PullOptions, type[NodeError], str]] = {
    "no such repository": (lambda hub: hub.repos.clear(), NONE, SettingsError, "no such repository, or it asks for a login"),
    "no such revision": (lambda _: None, PullOptions("9" * 40), SettingsError, "the hub has no revision '9{40}'"),
    "a login is wanted": (_refuse(401, ""), NONE, SettingsError, "HF_TOKEN"),
    "no right to it": (_refuse(403, ""), NONE, SettingsError, r"refuses access \(HTTP 403\)"),
    "a consent is wanted": (_refuse(403, "GatedRepo"), NONE, SettingsError, "its owner wants a consent"),
    "the hub is ill": (_refuse(500, ""), NONE, PeerUnavailable, "HTTP 500"),
    "no weights there": (lambda hub: hub.repos[BIOMEDGPT].files.pop(WEIGHTS), NONE, PeerRefused, "lacks model.safetensors or"),
    "no vocabulary there": (lambda hub: hub.repos[BIOMEDGPT].files.pop("merges.txt"), NONE, PeerRefused, "lacks merges.txt"),
}


@pytest.mark.parametrize(("fault", "options", "error", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_to_do(
    hub: Hub, tmp_path: Path, fault: Callable[[Hub], object], options: PullOptions, error: type[NodeError], said: str
) -> None:
    fault(hub)
    with pytest.raises(error, match=said) as caught:
        models_view.pull_model("biomedgpt-base", tmp_path / "gpt", options)
    assert type(caught.value) is error
    assert BIOMEDGPT in str(caught.value)
    assert not (tmp_path / "gpt").exists()


MISTAKES = {
    "unknown model": ("biomedgpt", NONE, "allowed: biomedclip, clip-vit-b16, biomedgpt-base"),
    "on no hub": ("biomedgpt-tiny", NONE, r"wetread models import biomedgpt biomedgpt_tiny\.pt --bpe biomedgpt-bpe --out"),
    "no repository": ("biomedclip", PullOptions(repository="../.."), "must be OWNER/NAME"),
    "image size of a CLIP": ("clip-vit-b16", PullOptions(image_size=224), "belongs to the biomedgpt models"),
}


@pytest.mark.parametrize(("name", "options", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_before_anything_is_asked(
    hub: Hub, tmp_path: Path, name: str, options: PullOptions, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        models_view.pull_model(name, tmp_path / "out", options)
    assert not hub.requests
    assert not list(tmp_path.glob("out*"))


def test_how_names_every_file_that_a_pull_takes(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models_view.pull_model("biomedclip", tmp_path / "out", PullOptions(how=True))
    told = capsys.readouterr().out
    assert not hub.requests
    models_view.pull_model("biomedclip", tmp_path / "out", NONE)
    taken = {path.split("/")[-1] for method, path, _ in hub.requests if "/resolve/" in path and method == "GET"}
    assert taken
    assert all(name in told for name in taken)
    main, tower = BIOMEDCLIP.split("/")[1], BERT.split("/")[1]
    assert f"wetread models import biomedclip {main} --text-tower {tower} --out {tmp_path / 'out'}" in told


def _command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | environment
    command = [sys.executable, "-m", "dicom_node.cli", "models", "pull", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_reports_to_nobody(hub: Hub, tmp_path: Path) -> None:
    """A fresh process, as an operator runs it: only the list and the files are asked for, and nothing says who asks."""
    done = _command("biomedgpt-bpe", "--out", str(tmp_path / "bpe"), HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert {path.split("/")[1] for _, path, _ in hub.requests} == {"api", "PanaceaAI"}
    assert [path for _, path, _ in hub.requests if path.startswith("/api/")] == [f"/api/models/{BIOMEDGPT}/revision/main"]
    assert not [agent for agent in hub.agents if "torch" in agent or "session_id" in agent]


def test_without_internet_the_command_says_exactly_what_to_copy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: whoever connects is refused
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = _command("biomedclip", "--out", str(tmp_path / "clip"), HF_ENDPOINT=dead, HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for words in (
        "the model hub cannot be reached",
        f"from {BIOMEDCLIP} at commit {MODELS['biomedclip'].repository.commit}",
        "open_clip_model.safetensors or open_clip_pytorch_model.bin",
        f"from {BERT} at commit",
        "vocab.txt",
        f"--out {tmp_path / 'clip'}",
        "wetread models verify",
    ):
        assert words in done.stderr


def test_the_clients_own_offline_switch_is_told(tmp_path: Path) -> None:
    done = _command("biomedclip", "--out", str(tmp_path / "clip"), HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE" in done.stderr
