"""Make a drafting bundle of a foreign checkpoint: ``wetread models import biomedgpt``."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from safetensors.torch import save_file

from inference.bundles import Bundle, BundleCard, open_bundle, write_manifest
from inference.drafting.checkpoints import Checkpoint, read_checkpoint
from inference.drafting.config import WEIGHTS, Caption, DraftingConfig, write_config
from inference.drafting.tokenizer import FILES, SPECIALS, BpeFiles, Tokenizer, read_bpe, write_bpe
from inference.errors import BundleError
from inference.reading import UseMode

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
    card: BundleCard | None = None,
) -> Bundle:
    """Convert a checkpoint into a bundle in the new folder ``out``; nothing of it is executed.

    ``path``: a fairseq ``.pt``, or a folder in Hugging Face form. ``bpe``: folder with ``dict.txt``, ``encoder.json`` and
    ``vocab.bpe``; by default those beside the checkpoint, or what an HF folder's ``vocab.json`` and ``merges.txt`` say.
    ``image_size`` as in ``read_checkpoint``; ``caption`` and ``card`` replace the published settings and BiomedGPT's card.
    Raises BundleError; ``out`` is then as it was.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: already there and not empty; choose another folder or remove it")
    checkpoint = read_checkpoint(path, image_size=image_size)
    config = DraftingConfig(checkpoint.config, checkpoint.codes, checkpoint.bins, checkpoint.preprocess, caption or Caption())
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        part = Path(temporary) / "bundle"
        part.mkdir()
        _write_tokenizer(path, bpe, part)
        _check_vocabulary(path, checkpoint, part)
        save_file(checkpoint.tensors, part / WEIGHTS)
        (part / WEIGHTS).chmod(0o644)  # safetensors writes 0600, and a node often runs as another user than who imported
        write_config(config, part)
        write_manifest(part, card or _card(path, checkpoint, name))
        part.replace(out)
    return open_bundle(out)


def _card(path: Path, checkpoint: Checkpoint, name: str | None) -> BundleCard:
    digest, weights = hashlib.sha256(), _weights_file(path)
    with weights.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    config = checkpoint.config
    return BundleCard(
        name=name or "BiomedGPT",
        kind="biomedgpt",
        version=f"OFA width {config.width}, {config.encoder_layers}+{config.decoder_layers} layers",
        source=f"imported from {weights.name}, sha256 {digest.hexdigest()}",
        licence=LICENCE,
        intended_use=INTENDED_USE,
        allowed_modes=(UseMode.RESEARCH, UseMode.SHADOW),
    )


def _weights_file(path: Path) -> Path:
    return next((p for p in (path / "model.safetensors", path / "pytorch_model.bin") if p.is_file()), path)


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
