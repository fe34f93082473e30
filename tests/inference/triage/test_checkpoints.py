"""Import of a folder as the hub holds it: the same answers afterwards, and nothing kept of what does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inference.bundles import Bundle, check_mode, open_bundle, verify_bundle
from inference.errors import BundleError, LicenceError
from inference.phantoms import draw_phantom
from inference.reading import Frame, FrameSource, UseMode
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.checkpoints import import_biomedclip, import_clip
from inference.triage.contrastive import Triage

State = dict[str, torch.Tensor]
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture
def hub(tmp_path: Path, judges_all: Bundle) -> Path:
    """The hub's form: pickled weights, older spelling, the text tower under its repository's name, BERT's config elsewhere."""
    folder = tmp_path / "hub"
    tower = tmp_path / "tower"
    shutil.copytree(judges_all.folder, folder)
    tower.mkdir()
    shutil.move(folder / "config.json", tower / "config.json")
    for name in ("bundle.json", "wetread.json"):
        (folder / name).unlink()
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text("utf-8"))
    text = config["model_cfg"]["text_cfg"]
    text["proj"], text["pooler_type"] = text.pop("hf_proj_type"), text.pop("hf_pooler_type")
    path.write_text(json.dumps(config), "utf-8")
    weights = folder / "open_clip_model.safetensors"
    state = {f"module.{name}": value.float() for name, value in load_file(weights).items()}
    weights.unlink()
    state["module.text.transformer.embeddings.position_ids"] = torch.arange(64)[None]
    torch.save({"state_dict": state}, folder / "open_clip_pytorch_model.bin")
    return folder


def test_an_imported_model_answers_as_before(
    tmp_path: Path, hub: Path, judges_all: Bundle, catalogue: FindingsCatalogue
) -> None:
    bundle = import_biomedclip(hub, tmp_path / "out", text_tower=tmp_path / "tower")
    verify_bundle(bundle)
    assert bundle.path("open_clip_model.safetensors").stat().st_mode & 0o444 == 0o444  # the node runs as another user
    assert bundle == open_bundle(tmp_path / "out", kinds=["biomedclip"])
    assert [path.suffix for path in bundle.folder.iterdir() if path.suffix in (".bin", ".pt", ".part")] == []
    source = FrameSource("1.2.3", "1.2.840.10008.5.1.4.1.1.1.1", "1.2")
    frames = [Frame(draw_phantom(1, size=128).pixels, source, "DX")]
    cpu = torch.device("cpu")
    imported, original = Triage.load(bundle, catalogue, cpu), Triage.load(judges_all, catalogue, cpu)
    np.testing.assert_array_equal(imported.score(frames), original.score(frames))
    assert imported.judged == set(catalogue.keys)


def test_the_card_says_research_only(tmp_path: Path, hub: Path) -> None:
    revision = tmp_path / "9f341de24bfb00180f1b847274256e9b65a3a32e"
    hub.rename(revision)
    bundle = import_biomedclip(revision, tmp_path / "out", name="ours", text_tower=tmp_path / "tower")
    assert (bundle.card.name, bundle.card.licence, bundle.card.phantom) == ("ours", "MIT", False)
    assert "@9f341de24bfb00180f1b847274256e9b65a3a32e, open_clip_pytorch_model.bin, sha256 " in bundle.card.source
    check_mode(bundle, UseMode.SHADOW, "")
    with pytest.raises(LicenceError, match="ours"):
        check_mode(bundle, UseMode.ASSIST, "")


def _drop(state: State) -> None:
    del state["module.visual.head.proj.weight"]


def _add(state: State) -> None:
    state["module.visual.head.extra"] = torch.zeros(1)


def _stretch(state: State) -> None:
    """A position table of another size, which open_clip would silently resample."""
    table = state["module.visual.trunk.pos_embed"]
    state["module.visual.trunk.pos_embed"] = torch.cat([table, table], dim=1)


def _spoil(state: State) -> None:
    state["module.visual.head.proj.weight"][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_drop, "head.proj.weight", id="a tensor missing"),
        pytest.param(_add, "visual.head.extra", id="a tensor left over"),
        pytest.param(_stretch, "pos_embed", id="another position table"),
        pytest.param(_spoil, r"not finite: visual\.head\.proj\.weight", id="not finite"),
    ],
)
def test_every_tensor_must_find_its_place(tmp_path: Path, hub: Path, change: Callable[[State], None], says: str) -> None:
    weights = hub / "open_clip_pytorch_model.bin"
    saved = torch.load(weights, weights_only=True)
    change(saved["state_dict"])
    torch.save(saved, weights)
    with pytest.raises(BundleError, match=says):
        import_biomedclip(hub, tmp_path / "out", text_tower=tmp_path / "tower")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "tower"]


class _Payload:
    """What a hostile checkpoint does when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_hostile_pickle_is_not_run(tmp_path: Path, hub: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": _Payload(mark)}, hub / "open_clip_pytorch_model.bin")
    with pytest.raises(BundleError, match="refused, and nothing of it was run"):
        import_biomedclip(hub, tmp_path / "out", text_tower=tmp_path / "tower")
    assert not mark.exists()


def _nothing(_: Path) -> None: ...


def _without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(_nothing, r"text tower's config\.json is missing.*--text-tower", id="text tower not given"),
        pytest.param(_without("open_clip_config.json"), r"open_clip_config\.json is missing", id="no config"),
        pytest.param(
            _without("open_clip_pytorch_model.bin"), r"no weights; one of these is needed: open_clip_model", id="no weights"
        ),
        pytest.param(_without(*TOKENIZER_FILES), r"tokenizer\.json or vocab\.txt is missing", id="no tokenizer"),
        pytest.param(_overwrite("open_clip_pytorch_model.bin", b"PK\x03\x04"), "not a readable PyTorch checkpoint", id="cut"),
        pytest.param(_overwrite("open_clip_pytorch_model.bin", b""), "not a readable PyTorch checkpoint", id="empty"),
    ],
)
def test_an_incomplete_folder_is_told(tmp_path: Path, hub: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(hub)
    tower = tmp_path / "tower" if damage not in (_nothing,) else None
    with pytest.raises(BundleError, match=says) as caught:
        import_biomedclip(hub, tmp_path / "out", text_tower=tower)
    assert str(hub) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_exists_is_not_overwritten(tmp_path: Path, hub: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(BundleError, match="exists already"):
        import_biomedclip(hub, tmp_path / "out")
    with pytest.raises(BundleError, match="not a folder"):
        import_biomedclip(tmp_path / "nowhere", tmp_path / "other")


def test_the_kind_must_fit(tmp_path: Path, hub: Path) -> None:
    with pytest.raises(BundleError, match="its text tower is a BERT, so this is no clip model"):
        import_clip(hub, tmp_path / "out")
