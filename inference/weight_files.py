"""Read foreign weights without running anything of them: safetensors, PyTorch files, and folders that hold them in shards.

A pickle is opened with ``weights_only=True``: it may hold tensors, plain containers and the classes a caller allows by name.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from inference.errors import BundleError

INDEX: Final = ".index.json"
Allowed = type | tuple[type, str]  # a class, or a class and the name under which a pickle asks for it


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of one safetensors file. Raises BundleError where it is cut, damaged or of another form."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise BundleError(
            f"{path}: not a readable safetensors file ({_first_line(error)}); download or copy it again"
        ) from error


def load_pickled(path: Path, *, allowed: Sequence[Allowed] = ()) -> dict[Any, Any]:
    """The mapping in a PyTorch file, in the zip form or the one before it.

    Raises BundleError where it holds anything but tensors, plain containers and ``allowed`` (nothing of it is then run), where
    it is a TorchScript archive, and where it is no readable PyTorch file of a mapping.
    """
    _refuse_script(path)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BundleError(
            f"{path}: refused, and nothing of it was run: it holds more than tensors and settings, or is damaged "
            f"({_first_line(error)})"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        raise BundleError(
            f"{path}: not a readable PyTorch checkpoint ({type(error).__name__}); it may be cut: download or copy it again"
        ) from error
    if not isinstance(state, dict):
        raise BundleError(f"{path}: holds a {type(state).__name__}, not a checkpoint")
    return state


def find_weights(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of ``names`` that is in ``folder``, whole or as the index of its shards."""
    candidates = (folder / (name + suffix) for name in names for suffix in ("", INDEX))
    return next((path for path in candidates if path.is_file()), None)


def load_weights(path: Path) -> dict[Any, Any]:
    """What ``find_weights`` found: a file, or all shards of an index as one mapping. Raises BundleError."""
    if path.name.endswith(INDEX):
        return _load_shards(path)
    return _loader(path)(path)


def weights_sha256(path: Path) -> str:
    """sha256 of a weights file; of shards: over their names and sha256, in order."""
    if not path.name.endswith(INDEX):
        return _sha256(path)
    lines = (f"{name}\0{_sha256(path.parent / name)}\n" for name in sorted(set(_weight_map(path).values())))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_plain(value: object) -> bool:
    """Whether it is a tensor whose numbers are there to be read: dense, not quantised, not only a shape."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_meta or value.is_quantized)


def named(names: Sequence[str], most: int = 8) -> str:
    """Some names for a message: the first few, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _load_shards(index: Path) -> dict[str, Any]:
    """Each tensor must be in the shard the index says, and each shard must hold no other."""
    weight_map = _weight_map(index)
    tensors: dict[str, Any] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.parent / shard
        if not path.is_file():
            raise BundleError(f"{index}: it lists the shard {shard}, which is not beside it; copy every shard")
        found, wanted = _loader(path)(path), {name for name, holder in weight_map.items() if holder == shard}
        if found.keys() != wanted:
            lacks, extra = sorted(wanted - found.keys()), sorted(str(name) for name in found.keys() - wanted)
            words = [f"{what}: {named(names)}" for what, names in (("missing", lacks), ("not listed", extra)) if names]
            raise BundleError(f"{path}: does not hold what {index.name} says ({'; '.join(words)})")
        tensors |= found
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = dict(json.loads(index.read_text("utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{index}: damaged, or not an index of shards ({error!r})") from error
    outside = [shard for shard in weight_map.values() if not isinstance(shard, str) or Path(shard).name != shard]
    if outside or not weight_map:
        raise BundleError(f"{index}: its weight_map must name files of the same folder, not {outside[:1] or 'nothing'}")
    return weight_map


def _loader(path: Path) -> Callable[[Path], dict[Any, Any]]:
    return load_safetensors if path.suffix == ".safetensors" else load_pickled


def _refuse_script(path: Path) -> None:
    """A TorchScript archive is a program with weights in it; PyTorch has no way to read only the weights."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error):
        return  # torch.load says what is wrong with it
    if any(name.endswith("constants.pkl") for name in names):
        raise BundleError(
            f"{path}: a TorchScript archive (the form of OpenAI's own download) holds code and is not opened; take the same "
            "model as a folder in transformers or open_clip form: config and model.safetensors or pytorch_model.bin "
            "(for CLIP ViT-B/16: openai/clip-vit-base-patch16)"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
