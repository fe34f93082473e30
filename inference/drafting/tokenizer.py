"""GPT-2's byte-pair encoding over fairseq's dictionary, with OFA's mask, image-code and location tokens after it.

Text becomes bytes, bytes become pieces by ``vocab.bpe``, a piece has a number in ``encoder.json``, and the place of that number
in ``dict.txt`` (after the four special tokens) is the token id. Ids then go on: <mask>, <code_0>…, <bin_0>….
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import regex  # type: ignore[import-untyped]

from inference.drafting.model import BOS, EOS, UNKNOWN
from inference.errors import BundleError

FILES: Final = ("dict.txt", "encoder.json", "vocab.bpe")
SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>")
# GPT-2's own splitting pattern: contractions, words, numbers and punctuation with one space before, remaining space.
_PIECES: Final = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


@dataclass(frozen=True, slots=True)
class BpeFiles:
    """The contents of ``dict.txt`` (symbols in order), ``encoder.json`` and ``vocab.bpe`` (pairs, first merge first)."""

    symbols: tuple[str, ...]
    encoder: dict[str, int]
    merges: tuple[tuple[str, str], ...]


class Tokenizer:
    """Text to ids and back. ``codes``, ``bins``: how many image-code and location tokens the vocabulary has."""

    def __init__(self, files: BpeFiles, *, codes: int, bins: int) -> None:
        more = ("<mask>", *(f"<code_{i}>" for i in range(codes)), *(f"<bin_{i}>" for i in range(bins)))
        self.symbols: Final = (*SPECIALS, *files.symbols, *more)
        self._first_special = len(SPECIALS) + len(files.symbols)
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._encoder = files.encoder
        self._piece_of = {str(number): piece for piece, number in files.encoder.items()}
        self._ranks = {pair: rank for rank, pair in enumerate(files.merges)}
        self._merge = lru_cache(maxsize=65_536)(self._merge_piece)

    @classmethod
    def load(cls, folder: Path, *, codes: int, bins: int) -> Tokenizer:
        """Read the three files of ``folder``. Raises BundleError naming the file that is missing or damaged."""
        return cls(read_bpe(folder), codes=codes, bins=bins)

    def __len__(self) -> int:
        return len(self.symbols)

    def numbers(self, text: str) -> list[str]:
        """The GPT-2 numbers of a text, as ``dict.txt`` writes them."""
        return [str(self._encoder[part]) for piece in split_pieces(text) for part in self._merge(piece)]

    def encode(self, text: str, *, limit: int | None = None) -> list[int]:
        """Token ids of a text, without bos and eos, at most ``limit`` of them. Any text has ids."""
        return [self._ids.get(number, UNKNOWN) for number in self.numbers(text)[:limit]]

    def encode_symbols(self, line: str) -> list[int]:
        """Token ids of symbols separated by spaces ("<bin_12> <bin_34> 1364"): the form of image codes and locations."""
        return [self._ids.get(symbol, UNKNOWN) for symbol in line.split()]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; bos and eos give nothing, other special tokens their name, damaged UTF-8 gives U+FFFD."""
        symbols = (self.symbols[i] for i in ids if i not in (BOS, EOS))
        return _bytes("".join(self._piece_of.get(symbol, symbol) for symbol in symbols)).decode("utf-8", "replace")

    def is_text(self, token: int) -> bool:
        """Whether an id stands for text, not for a special, mask, code or location token."""
        return len(SPECIALS) <= token < self._first_special and self.symbols[token] in self._piece_of

    def _merge_piece(self, piece: str) -> tuple[str, ...]:
        parts = list(piece)
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            parts = join_pair(parts, best)
        return tuple(parts)


def read_bpe(folder: Path) -> BpeFiles:
    """Read ``dict.txt``, ``encoder.json`` and ``vocab.bpe``. Raises BundleError naming the file at fault."""
    for name in FILES:
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: no {name}; a BiomedGPT tokenizer is the three files {', '.join(FILES)}")
    try:
        symbols = tuple(line.rsplit(" ", 1)[0] for line in _lines(folder / "dict.txt"))
        encoder = json.loads((folder / "encoder.json").read_text("utf-8"))
        merges = tuple(_pair(line) for line in _lines(folder / "vocab.bpe") if not line.startswith("#version"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: the tokenizer files are damaged ({error}); copy {', '.join(FILES)} again") from error
    files = BpeFiles(symbols, encoder, merges)
    _check(folder, files)
    return files


def write_bpe(files: BpeFiles, folder: Path) -> None:
    """Write the three files in fairseq's and GPT-2's own form."""
    (folder / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in files.symbols), "utf-8")
    (folder / "encoder.json").write_text(json.dumps(files.encoder), "utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in files.merges)
    (folder / "vocab.bpe").write_text(f"#version: 0.2\n{merges}", "utf-8")


def byte_symbols() -> tuple[str, ...]:
    """The printable character that stands for each byte in the BPE files, for byte 0 to 255 (GPT-2's own table)."""
    kept = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in kept else chr(next(others)) for byte in range(256))


_BYTE_SYMBOLS: Final = byte_symbols()
_BYTE_OF: Final = {symbol: byte for byte, symbol in enumerate(_BYTE_SYMBOLS)}


def split_pieces(text: str) -> list[str]:
    """Cut a text where no merge may cross, each byte of it as its printable character."""
    return ["".join(_BYTE_SYMBOLS[byte] for byte in piece.encode("utf-8", "replace")) for piece in _PIECES.findall(text)]


def _bytes(pieces: str) -> bytes:
    return bytes(_BYTE_OF[symbol] for symbol in pieces)


def join_pair(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair, from the left."""
    joined: list[str] = []
    for part in parts:
        # A part that was just joined cannot be the left half again: it is longer than ``pair[0]``.
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").split("\n") if line]


def _pair(line: str) -> tuple[str, str]:
    left, right = line.split(" ")
    return left, right


def _check(folder: Path, files: BpeFiles) -> None:
    encoder: Any = files.encoder
    if not isinstance(encoder, dict) or not all(isinstance(number, int) for number in encoder.values()):
        raise BundleError(f"{folder / 'encoder.json'}: must be one object of pieces and whole numbers")
    pieces = (*_BYTE_SYMBOLS, *(left + right for left, right in files.merges))
    missing = [piece for piece in pieces if piece not in encoder]
    if missing:
        raise BundleError(
            f"{folder / 'encoder.json'}: no number for {len(missing)} pieces that vocab.bpe can make, such as {missing[0]!r}; "
            "encoder.json and vocab.bpe must come from the same model"
        )
    if len(set(files.symbols)) != len(files.symbols):
        raise BundleError(f"{folder / 'dict.txt'}: a symbol stands in it twice")
