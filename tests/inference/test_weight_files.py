"""Foreign weight files: nothing in them runs, whatever a pickle asks for and wherever in the file it asks."""

from __future__ import annotations

import argparse
import builtins
import os
import pickle
import subprocess
import sys
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from inference.drafting.checkpoints import read_checkpoint
from inference.drafting.fairseq_settings import ALLOWED, settings_of
from inference.errors import BundleError
from inference.triage.checkpoints import import_biomedclip, import_clip
from inference.weight_files import load_pickled, load_safetensors

Make = Callable[[Path], Any]


class Calls:
    """Pickled, it is a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Sets:
    """Pickled, it is an object that runs code as its state is set."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __getstate__(self) -> dict[str, object]:
        return {"mark": self.mark}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["mark"].mkdir()


PAYLOADS: dict[str, Make] = {
    "os.system": lambda mark: Calls(os.system, f"mkdir {mark}"),
    "os.mkdir": lambda mark: Calls(os.mkdir, str(mark)),
    "eval": lambda mark: Calls(builtins.eval, f"__import__('os').mkdir({str(mark)!r})"),
    "exec": lambda mark: Calls(builtins.exec, f"import os; os.mkdir({str(mark)!r})"),
    "subprocess": lambda mark: Calls(subprocess.check_call, ["mkdir", str(mark)]),
    "a method": lambda mark: Calls(Path.mkdir, mark),
    "pickle in pickle": lambda mark: Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, str(mark)))),
    "a state that is set": Sets,
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "at the top": lambda payload: payload,
    "in args": lambda payload: {"args": payload, "cfg": None, "model": {}},
    "in cfg": lambda payload: {"cfg": {"model": argparse.Namespace(encoder_layers=payload), "task": {}}, "model": {}},
    "in a list in cfg": lambda payload: {"cfg": {"common": [1, {"hooks": (payload,)}]}, "model": {}},
    "in extra_state": lambda payload: {"cfg": {}, "model": {}, "extra_state": {"train_iterator": OrderedDict(a=payload)}},
    "among the tensors": lambda payload: {"cfg": {}, "model": {"encoder.embed_tokens.weight": payload}},
    "as a key": lambda payload: {("key", payload): torch.ones(2)},
}
ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip form", "old form"])


def _refused(read: Callable[[], object], path: Path, mark: Path) -> None:
    with pytest.raises(BundleError, match="refused, and nothing of it was run") as caught:
        read()
    assert str(path) in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the payload does nothing even where it may: this test would prove nothing"


@ZIPPED
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_nothing_runs_wherever_it_lies(tmp_path: Path, place: Callable[[Any], Any], zipped: bool) -> None:
    path, mark = tmp_path / "checkpoint.pt", tmp_path / "owned"
    torch.save(place(Calls(os.mkdir, str(mark))), path, _use_new_zipfile_serialization=zipped)
    _refused(lambda: read_checkpoint(path), path, mark)


@ZIPPED
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_nothing_runs_whatever_it_is(tmp_path: Path, payload: Make, zipped: bool) -> None:
    path, mark = tmp_path / "checkpoint.pt", tmp_path / "owned"
    torch.save({"cfg": {"model": payload(mark)}}, path, _use_new_zipfile_serialization=zipped)
    _refused(lambda: read_checkpoint(path), path, mark)


@pytest.mark.parametrize(
    ("files", "weights", "read"),
    [
        pytest.param(("config.json",), "pytorch_model.bin", read_checkpoint, id="BiomedGPT in HF form"),
        pytest.param(
            ("open_clip_config.json",),
            "open_clip_pytorch_model.bin",
            lambda folder: import_biomedclip(folder, folder.parent / "out"),
            id="BiomedCLIP",
        ),
        pytest.param((), "state.pt", lambda folder: import_clip(folder / "state.pt", folder.parent / "out"), id="bare CLIP"),
    ],
)
def test_nothing_runs_in_any_form(tmp_path: Path, files: tuple[str, ...], weights: str, read: Callable[[Path], object]) -> None:
    folder, mark = tmp_path / "theirs", tmp_path / "owned"
    folder.mkdir()
    for name in files:
        (folder / name).write_text('{"model_cfg": {"text_cfg": {"hf_model_name": "x"}, "vision_cfg": {}}}', "utf-8")
    torch.save({"a": torch.ones(2), "b": Calls(os.mkdir, str(mark))}, folder / weights)
    _refused(lambda: read(folder), folder / weights, mark)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def omegaconf(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A library that calls itself OmegaConf and is not: its classes run code when they are made, or their state is set."""

    class DictConfig:
        def __init__(self, mark: str) -> None:
            os.mkdir(mark)  # noqa: PTH102

        def __reduce__(self) -> Any:
            return DictConfig, (self.mark,)

        def __setstate__(self, state: dict[str, Any]) -> None:
            os.mkdir(state["_content"]["mark"])  # noqa: PTH102

    module, package = types.ModuleType("omegaconf.dictconfig"), types.ModuleType("omegaconf")
    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    module.DictConfig = package.DictConfig = DictConfig  # type: ignore[attr-defined]
    module.run = Runs("omegaconf.dictconfig", "run")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf", package)
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    return module


class Runs:
    """A function of that library which is on no list."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def __call__(self, mark: str) -> None:
        Path(mark).mkdir()

    def __reduce__(self) -> str:
        return "run"


def test_an_allowed_name_never_brings_in_the_class_of_that_name(tmp_path: Path, omegaconf: Any) -> None:
    """A class of an allowed name, made with arguments and given a state: only ours, which holds them, is ever used."""
    mark, path = tmp_path / "owned", tmp_path / "checkpoint.pt"
    config = object.__new__(omegaconf.DictConfig)
    config.mark = str(mark)
    torch.save({"cfg": config, "model": {}, "extra_state": {}}, path)
    held = load_pickled(path, allowed=ALLOWED)
    with pytest.raises((KeyError, TypeError)):
        settings_of(held)
    assert not mark.exists()
    assert type(held["cfg"]).__module__ == "inference.drafting.fairseq_settings"
    with pytest.raises(BundleError, match="not a fairseq checkpoint"):
        read_checkpoint(path)
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_another_name_of_an_allowed_library_is_refused(tmp_path: Path, omegaconf: Any) -> None:
    mark, path = tmp_path / "owned", tmp_path / "checkpoint.pt"
    torch.save({"cfg": Calls(omegaconf.run, str(mark))}, path)
    _refused(lambda: read_checkpoint(path), path, mark)


@pytest.mark.parametrize(
    "name", ["omegaconf.OmegaConf", "omegaconf.resolvers.env", "builtins.getattr", "typing.get_type_hints", "os.system"]
)
def test_only_names_on_the_list_are_known(tmp_path: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    payload = f"c{module}\n{attribute}\n(Vx\ntR.".encode()  # GLOBAL, MARK, UNICODE, TUPLE, REDUCE
    import zipfile

    path = tmp_path / "checkpoint.pt"
    torch.save({"a": 1}, path)
    with zipfile.ZipFile(path) as old:
        parts = {part: old.read(part) for part in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for part, content in parts.items():
            new.writestr(part, b"\x80\x02" + payload if part.endswith("data.pkl") else content)
    with pytest.raises(BundleError, match="refused, and nothing of it was run"):
        load_pickled(path, allowed=ALLOWED)


def test_a_torchscript_archive_is_refused_with_what_to_take(tmp_path: Path) -> None:
    """OpenAI's own download is one."""
    path = tmp_path / "ViT-B-16.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates the form
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))
    with pytest.raises(BundleError, match=r"a TorchScript archive .* take the same model .*clip-vit-base-patch16"):
        import_clip(path, tmp_path / "out")


CUT = {"half": 0.5, "without its end": 0.98, "empty": 0.0, "a few bytes": 0.001}


@pytest.mark.parametrize("share", CUT.values(), ids=CUT)
@pytest.mark.parametrize("form", ["zip form", "old form", "safetensors"])
def test_a_cut_file_is_told(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.pt")
    tensors = {"a": torch.ones(3000), "b": torch.zeros(50, 50)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip form")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match=r"download or copy it again|refused, and nothing of it was run"):
        load_safetensors(path) if form == "safetensors" else load_pickled(path)


def test_what_is_no_mapping_is_told(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(BundleError, match="holds a list, not a checkpoint"):
        load_pickled(tmp_path / "list.pt")
