"""Import a foreign contrastive model: what a user downloaded becomes a bundle in open_clip's form.

Done once, by ``wetread models import``, where an operator looks on. Nothing foreign is executed (see ``weight_files``); what is
written is safetensors, and the bundle is kept only when every tensor found its place.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from inference.bundle_folders import copy_bundle, is_bundle, new_folder
from inference.bundles import Bundle, BundleCard, open_bundle, write_manifest
from inference.errors import BundleError
from inference.reading import UseMode
from inference.triage.clip_vocabulary import check_same_vocabulary, write_vocabulary
from inference.triage.foreign import ForeignModel, read_open_clip, read_openai_state
from inference.triage.open_clip_folder import CONFIG, TEXT_CONFIG, TOKENIZER, VOCABULARY, WEIGHTS, has_bert, open_folder
from inference.triage.transformers_form import is_transformers_clip, read_transformers_clip
from inference.weight_files import named, weights_sha256

_TOKENIZER_FILES: Final = (TOKENIZER, VOCABULARY, "tokenizer_config.json", "special_tokens_map.json")
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
    source="openai/clip-vit-base-patch16",
    licence="MIT",
    intended_use="research only; see the model card: any deployed use is out of scope; not made for medical images",
    allowed_modes=_HELD,
)


def import_biomedclip(
    path: Path, out: Path, *, name: str | None = None, text_tower: Path | None = None, source: str | None = None
) -> Bundle:
    """Turn the open_clip folder ``path`` into the bundle ``out``, or verify and copy it where it is a bundle.

    ``text_tower``: the folder with BERT's ``config.json`` (and tokenizer), where ``path`` lacks them, as the hub's does.
    ``source``: the repository and revision, where known. Raises BundleError where a file is missing or damaged, a tensor is
    missing, left over, of another shape or not finite, or where ``out`` is in use. Nothing is left at ``out`` then.
    """
    return _import(path, out, replace(_BIOMEDCLIP, name=name or _BIOMEDCLIP.name), text_tower, source)


def import_clip(path: Path, out: Path, *, name: str | None = None, source: str | None = None) -> Bundle:
    """As ``import_biomedclip``, for a CLIP: an open_clip folder without a BERT, a transformers ``CLIPModel`` folder with its
    tokenizer, or a file with the bare state of OpenAI's own model.
    """
    return _import(path, out, replace(_CLIP, name=name or _CLIP.name), None, source)


def _import(path: Path, out: Path, card: BundleCard, text_tower: Path | None, source: str | None) -> Bundle:
    if is_bundle(path):
        return copy_bundle(path, out, kind=card.kind)
    with new_folder(out) as part:
        model = _read(path, card.kind)
        (part / CONFIG).write_text(json.dumps(model.config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if has_bert(model.config):
            _copy_text_tower(part, [path, *([text_tower] if text_tower else [])])
        else:
            write_vocabulary(part)
        _account(model.weights, model.state, _empty_state(part, path))
        save_file(model.state, str(part / WEIGHTS), metadata={"format": "pt"})
        (part / WEIGHTS).chmod(0o644)  # safetensors writes 0600; the node seldom runs as who imports
        write_manifest(part, replace(card, source=_source(model.weights, source or card.source + _revision(path))))
    return open_bundle(out)


def _read(path: Path, kind: str) -> ForeignModel:
    if kind == "clip" and path.is_file():
        return read_openai_state(path)
    if not path.is_dir():
        raise BundleError(f"{path}: not a folder; give the folder that holds {CONFIG} and the weights")
    if not (path / CONFIG).is_file() and is_transformers_clip(path):
        if kind != "clip":
            raise BundleError(f"{path}: a CLIPModel of transformers, so this is no {kind} model; import it as clip")
        check_same_vocabulary(path)
        return read_transformers_clip(path)
    model = read_open_clip(path)
    bert = has_bert(model.config)
    if bert != (kind == "biomedclip"):
        raise BundleError(f"{path}: its text tower is {'a' if bert else 'no'} BERT, so this is no {kind} model")
    return model


def _empty_state(part: Path, path: Path) -> dict[str, torch.Tensor]:
    """The tensors that the model of the configuration wants; the tokenizer is opened too."""
    try:
        state: dict[str, torch.Tensor] = open_folder(part, torch.device("cpu"), weights=False).net.state_dict()
        return state
    except BundleError as error:
        raise BundleError(str(error).replace(str(part), str(path))) from error  # the folder that the user knows


def _source(weights: Path, repository: str) -> str:
    return f"{repository}, {weights.name}, sha256 {weights_sha256(weights)}"


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


def _account(path: Path, given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Every tensor in its place: open_clip resizes position tables silently, here a tensor that does not fit is a fault."""
    both = given.keys() & wanted.keys()
    misfits = [name for name in both if not _fits(given[name], wanted[name])]
    faults = [
        ("missing", wanted.keys() - given.keys()),
        ("left over", given.keys() - wanted.keys()),
        ("of the wrong shape", [f"{n} {tuple(given[n].shape)} for {tuple(wanted[n].shape)}" for n in misfits]),
        ("not finite", [name for name in both if not torch.isfinite(given[name]).all()]),
    ]
    text = "; ".join(f"{what}: {named(sorted(names))}" for what, names in faults if names)
    if text:
        raise BundleError(f"{path}: its tensors do not make the model that the configuration says ({text})")


def _fits(given: torch.Tensor, wanted: torch.Tensor) -> bool:
    """A scale may be one number or a row of one."""
    return given.numel() == wanted.numel() and given.squeeze().shape == wanted.squeeze().shape


def _revision(path: Path) -> str:
    """A hub cache names the folder by its commit; elsewhere the revision is unknown, and the digest alone identifies it."""
    name = path.resolve().name
    return f"@{name}" if re.fullmatch(r"[0-9a-f]{40}", name) else ", revision not stated"
