"""Make a drafting bundle of a foreign checkpoint: ``wetread models import biomedgpt``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from safetensors.torch import save_file

from inference.bundle_folders import copy_bundle, is_bundle, new_folder
from inference.bundles import Bundle, BundleCard, open_bundle, write_manifest
from inference.drafting.checkpoints import Checkpoint, read_checkpoint
from inference.drafting.config import PRETRAINED, WEIGHTS, Caption, DraftingConfig, default_tasks, write_config
from inference.drafting.results import DecoderPrompt, Task
from inference.drafting.tokenizer import FILES, SPECIALS, BpeFiles, Tokenizer, read_bpe, write_bpe
from inference.errors import BundleError
from inference.reading import UseMode
from inference.weight_files import weights_sha256

HF_TOKENIZER: Final = ("vocab.json", "merges.txt")
# The code and the hub tag say Apache-2.0, the project's README "academic purposes only": the stricter word counts.
LICENCE: Final = "academic research only (non-commercial), code Apache-2.0"
INTENDED_USE: Final = "research: draft text of biomedical images for study by experts; not for diagnosis or treatment"


def import_biomedgpt(
    path: Path,
    out: Path,
    *,
    bpe: Path | None = None,
    name: str | None = None,
    image_size: int | None = None,
    caption: Caption | None = None,
    tasks: tuple[Task, ...] | None = None,
    card: BundleCard | None = None,
    source: str | None = None,
) -> Bundle:
    """Convert a checkpoint into a bundle in the new folder ``out``; nothing of it is executed.

    ``path``: a fairseq ``.pt``, a folder in Hugging Face form, or a bundle, which is verified and copied. ``bpe``: folder with
    ``dict.txt``, ``encoder.json`` and ``vocab.bpe``; by default those beside the checkpoint, or what an HF folder's
    ``vocab.json`` and ``merges.txt`` say. ``image_size`` as in ``read_checkpoint``; ``caption``, ``tasks`` and ``card``
    replace the published settings, what the checkpoint says it was trained for, and BiomedGPT's card; ``source``: the
    repository and revision it came from, where that is known.
    Raises BundleError; ``out`` is then as it was.
    """
    if is_bundle(path):
        return copy_bundle(path, out, kind="biomedgpt")
    with new_folder(out) as part:
        checkpoint = read_checkpoint(path, image_size=image_size)
        config = _config(checkpoint)
        config = replace(config, caption=caption or config.caption, tasks=tasks or config.tasks)
        _write_tokenizer(path, bpe, part)
        _check_vocabulary(path, checkpoint, part)
        save_file(checkpoint.tensors, part / WEIGHTS)
        (part / WEIGHTS).chmod(0o644)  # safetensors writes 0600, and a node often runs as another user than who imported
        write_config(config, part)
        write_manifest(part, card or _card(checkpoint, name, source))
    return open_bundle(out)


def _config(checkpoint: Checkpoint) -> DraftingConfig:
    """The published settings of what the checkpoint was trained for."""
    tasks = default_tasks(checkpoint.task)
    config = DraftingConfig(checkpoint.config, checkpoint.codes, checkpoint.bins, checkpoint.preprocess, tasks=tasks)
    stated = checkpoint.prompt_type if checkpoint.prompt_type in set(DecoderPrompt) else ""
    if tasks == PRETRAINED:  # asked with no examples, the reference prompts the decoder with nothing
        stated = DecoderPrompt.NONE
    if not stated:
        return config
    prompt = DecoderPrompt(stated)
    return replace(config, vqa=replace(config.vqa, decoder_prompt=prompt), nli=replace(config.nli, decoder_prompt=prompt))


def convert_tokenizer(folder: Path, out: Path) -> None:
    """Write the files ``--bpe`` takes into the new folder ``out``, from an HF folder's ``vocab.json`` and ``merges.txt``.

    Raises BundleError where those are missing or damaged, or ``out`` is in use.
    """
    with new_folder(out) as part:
        write_bpe(_hf_tokenizer(folder), part)
        read_bpe(part)


def _card(checkpoint: Checkpoint, name: str | None, source: str | None) -> BundleCard:
    config = checkpoint.config
    origin = f"{source}," if source else "imported from"
    average = ", its moving average (EMA) weights" if checkpoint.moving_average else ""
    return BundleCard(
        name=name or "BiomedGPT",
        kind="biomedgpt",
        version=f"OFA width {config.width}, {config.encoder_layers}+{config.decoder_layers} layers",
        source=f"{origin} {checkpoint.weights.name}{average}, sha256 {weights_sha256(checkpoint.weights)}",
        licence=LICENCE,
        intended_use=INTENDED_USE,
        allowed_modes=(UseMode.RESEARCH, UseMode.SHADOW),
    )


def _write_tokenizer(path: Path, bpe: Path | None, part: Path) -> None:
    beside = path if path.is_dir() else path.parent
    source = bpe or beside
    if bpe is None and not _has(beside, FILES):
        if not _has(path, HF_TOKENIZER):
            raise BundleError(
                f"{beside}: no tokenizer beside the checkpoint; name the folder that holds {', '.join(FILES)} "
                "(utils/BPE of the BiomedGPT source) with --bpe"
            )
        write_bpe(_hf_tokenizer(path), part)
        return
    read_bpe(source)  # names what is missing or damaged before anything is copied
    for name in FILES:
        shutil.copyfile(source / name, part / name)


def _has(folder: Path, names: tuple[str, ...]) -> bool:
    return all((folder / name).is_file() for name in names)


def _hf_tokenizer(folder: Path) -> BpeFiles:
    """HF merges dictionary and encoder into one ``vocab.json``: each piece takes its final id as its number."""
    try:
        vocabulary: dict[str, int] = json.loads((folder / HF_TOKENIZER[0]).read_text("utf-8"))
        lines = (folder / HF_TOKENIZER[1]).read_text("utf-8").split("\n")
        merges = tuple((left, right) for left, right in (li.split(" ") for li in lines if li and not li.startswith("#version")))
        piece_of = {number: piece for piece, number in vocabulary.items()}
        pieces = [piece_of[number] for number in range(len(SPECIALS), vocabulary["<mask>"])]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BundleError(f"{folder}: {' and '.join(HF_TOKENIZER)} are damaged or incomplete ({error!r})") from error
    unused = {piece for piece in pieces if piece.startswith("madeupword")}  # fairseq's padding of the dictionary
    symbols = tuple(piece if piece in unused else str(vocabulary[piece]) for piece in pieces)
    return BpeFiles(symbols, {piece: vocabulary[piece] for piece in pieces if piece not in unused}, merges)


def _check_vocabulary(path: Path, checkpoint: Checkpoint, folder: Path) -> None:
    tokens = len(Tokenizer.load(folder, codes=checkpoint.codes, bins=checkpoint.bins))
    if tokens != checkpoint.config.vocabulary:
        raise BundleError(
            f"{path}: the model has {checkpoint.config.vocabulary} tokens, the tokenizer {tokens} "
            f"(with {checkpoint.codes} codes and {checkpoint.bins} bins); dict.txt must be the one the model was trained with"
        )
