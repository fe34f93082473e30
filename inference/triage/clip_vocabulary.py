"""CLIP's byte-pair vocabulary, which open_clip brings along: kept in the bundle, so that the bundle says all of the model."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any, Final

from open_clip.tokenizer import SimpleTokenizer, default_bpe

from inference.errors import BundleError

MERGES: Final = "bpe_simple_vocab_16e6.txt.gz"  # OpenAI's name for it
_MARKS: Final = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}  # HF's name, open_clip's


def write_vocabulary(folder: Path) -> None:
    shutil.copyfile(default_bpe(), folder / MERGES)


def load_tokenizer(folder: Path, text_config: dict[str, Any]) -> Any:
    """CLIP's tokenizer: texts to int64 (texts, context), 0 after the end. Raises BundleError where its file is damaged."""
    path = folder / MERGES
    options = {"context_length": text_config.get("context_length", 77), **text_config.get("tokenizer_kwargs", {})}
    try:
        return SimpleTokenizer(str(path) if path.is_file() else default_bpe(), **options)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BundleError(f"{path}: damaged ({error}); import or copy the bundle again") from error


def check_same_vocabulary(folder: Path) -> None:
    """Raise BundleError unless the tokenizer files of a transformers folder are the vocabulary that open_clip has.

    A model trained with other tokens would load and understand nothing.
    """
    pieces, merges = _read(folder)
    ours = SimpleTokenizer()
    theirs = {_MARKS.get(piece, piece): number for piece, number in pieces.items()}
    if theirs != ours.encoder or [tuple(pair) for pair in merges] != list(ours.bpe_ranks):
        raise BundleError(
            f"{folder}: its tokenizer is not CLIP's own ({len(theirs)} pieces; CLIP's has {len(ours.encoder)}): this model "
            "reads texts in another way than open_clip's CLIP, and would misunderstand every prompt"
        )


def _read(folder: Path) -> tuple[dict[str, int], list[list[str]]]:
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if vocabulary.is_file() and merges.is_file():
            lines = merges.read_text("utf-8").split("\n")
            return dict(json.loads(vocabulary.read_text("utf-8"))), [li.split() for li in lines if li and "#version" not in li]
        if whole.is_file():
            model = json.loads(whole.read_text("utf-8"))["model"]
            return dict(model["vocab"]), [m.split() if isinstance(m, str) else list(m) for m in model["merges"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder}: the tokenizer files are damaged ({error!r}); download or copy them again") from error
    raise BundleError(
        f"{folder}: no tokenizer beside the weights; copy vocab.json and merges.txt (or tokenizer.json) there, so that it can "
        "be seen that the model reads CLIP's own tokens"
    )
