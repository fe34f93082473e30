"""Import a foreign contrastive model: an open_clip folder as the hub holds it becomes a bundle.

Done once, by ``wetread models import``, where an operator looks on. Pickles are opened with ``weights_only=True``; what is
written is safetensors, and the bundle is kept only when every tensor found its place.
"""

from __future__ import annotations

import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from inference.bundles import Bundle, BundleCard, open_bundle, write_manifest
from inference.errors import BundleError
from inference.reading import UseMode
from inference.triage.open_clip_folder import (
    CONFIG,
    TEXT_CONFIG,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
    has_bert,
    open_folder,
    read_config,
)

_SAFE: Final = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
_PICKLED: Final = ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pt", "pytorch_model.bin")
_TOKENIZER_FILES: Final = (TOKENIZER, VOCABULARY, "tokenizer_config.json", "special_tokens_map.json")
_POSITION_IDS: Final = "text.transformer.embeddings.position_ids"  # a counter that transformers saved until 4.31
_HELD: Final = (UseMode.RESEARCH, UseMode.SHADOW)
_BIOMEDCLIP: Final = BundleCard(
    name="BiomedCLIP",
    kind="biomedclip",
    version="PubMedBERT_256-vit_base_patch16_224",
    source="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    licence="MIT",
    intended_use="research only; see the model card: any deployed use, commercial or not, is out of scope",
    allowed_modes=_HELD,
)
_CLIP: Final = BundleCard(
    name="CLIP",
    kind="clip",
    version="ViT-B-16",
    source="openai/clip-vit-base-patch16, in open_clip form",
    licence="MIT",
    intended_use="research only; see the model card: any deployed use is out of scope; not made for medical images",
    allowed_modes=_HELD,
)


def import_biomedclip(path: Path, out: Path, *, name: str | None = None, text_tower: Path | None = None) -> Bundle:
    """Turn the open_clip folder ``path`` into the bundle ``out``.

    ``text_tower``: the folder with BERT's ``config.json`` (and tokenizer), where ``path`` lacks them, as the hub's does.
    Raises BundleError where a file is missing or damaged, a tensor is missing, left over, of another shape or not finite,
    or where ``out`` exists. Nothing is left at ``out`` then.
    """
    return _import(path, out, _BIOMEDCLIP, name, text_tower)


def import_clip(path: Path, out: Path, *, name: str | None = None) -> Bundle:
    """As ``import_biomedclip``, for an open_clip folder without a BERT."""
    return _import(path, out, _CLIP, name, None)


def _import(path: Path, out: Path, card: BundleCard, name: str | None, text_tower: Path | None) -> Bundle:
    if not path.is_dir():
        raise BundleError(f"{path}: not a folder; give the folder that holds {CONFIG} and the weights")
    if out.exists():
        raise BundleError(f"{out}: exists already; remove it or choose another --out")
    config = read_config(path)
    if has_bert(config) != (card.kind == "biomedclip"):
        raise BundleError(
            f"{path}: its text tower is {'a' if has_bert(config) else 'no'} BERT, so this is no {card.kind} model"
        )
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _fill(part, path, text_tower, has_bert(config))
        write_manifest(part, replace(card, name=name or card.name, source=card.source + _revision(path)))
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open_bundle(out)


def _fill(part: Path, path: Path, text_tower: Path | None, bert: bool) -> None:
    state = _read_weights(path)
    shutil.copyfile(path / CONFIG, part / CONFIG)
    if bert:
        _copy_text_tower(part, [path, *([text_tower] if text_tower else [])])
    save_file(state, str(part / WEIGHTS), metadata={"format": "pt"})
    (part / WEIGHTS).chmod(0o644)  # safetensors writes 0600; the node seldom runs as who imports
    _account(path, state, open_folder(part, torch.device("cpu")).net.state_dict())


def _copy_text_tower(part: Path, folders: list[Path]) -> None:
    for name in (TEXT_CONFIG, *_TOKENIZER_FILES):
        holder = next((folder for folder in reversed(folders) if (folder / name).is_file()), None)
        if holder:
            shutil.copyfile(holder / name, part / name)
    tokenizer = (part / TOKENIZER).is_file() or (part / VOCABULARY).is_file()
    if not (part / TEXT_CONFIG).is_file() or not tokenizer:
        missing = TEXT_CONFIG if tokenizer else f"{TOKENIZER} or {VOCABULARY}"
        raise BundleError(
            f"{folders[0]}: the text tower's {missing} is missing; copy it there from the text tower's own repository "
            "(for BiomedCLIP: microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract), or give that folder with --text-tower"
        )


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    found = next((path / name for name in (*_SAFE, *_PICKLED) if (path / name).is_file()), None)
    if found is None:
        raise BundleError(f"{path}: no weights; one of these is needed: {', '.join((*_SAFE, *_PICKLED))}")
    try:
        raw: Any = load_file(found) if found.name in _SAFE else torch.load(found, map_location="cpu", weights_only=True)
    except Exception as error:
        why = "it holds more than tensors, or is damaged" if isinstance(error, pickle.UnpicklingError) else str(error)[:200]
        raise BundleError(f"{found}: cannot be read as plain weights ({why})") from error
    state = raw.get("state_dict", raw) if isinstance(raw, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BundleError(f"{found}: not a mapping of names to tensors")
    named = {str(key).removeprefix("module."): value.clone().contiguous() for key, value in state.items()}
    named.pop(_POSITION_IDS, None)
    return named


def _account(path: Path, given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """open_clip resizes position tables silently; here a tensor that does not fit is a fault."""
    faults = [f"{name} is missing" for name in wanted.keys() - given.keys()]
    faults += [f"{name} is left over" for name in given.keys() - wanted.keys()]
    for name in given.keys() & wanted.keys():
        if given[name].numel() != wanted[name].numel() or given[name].squeeze().shape != wanted[name].squeeze().shape:
            faults.append(f"{name} is {tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}")
        elif not torch.isfinite(given[name]).all():
            faults.append(f"{name} is not finite")
    if faults:
        raise BundleError(f"{path}: weights and {CONFIG} do not fit: {'; '.join(sorted(faults)[:5])}")


def _revision(path: Path) -> str:
    """A hub cache names the folder by its commit; elsewhere the revision is unknown, and the digest alone identifies it."""
    name = path.resolve().name
    return f"@{name}" if re.fullmatch(r"[0-9a-f]{40}", name) else ", revision not stated"
