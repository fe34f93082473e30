"""Learn a small byte-level BPE in GPT-2's own form from the phantoms' captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from inference.drafting.tokenizer import BpeFiles, byte_symbols, join_pair, split_pieces


def learn_bpe(texts: Iterable[str], *, least: int = 2) -> BpeFiles:
    """Merge the most frequent pair until none occurs ``least`` times. All 256 bytes stay, so that any text has ids.

    ``dict.txt`` then lists the numbers by frequency, as fairseq does.
    """
    words = Counter(piece for text in texts for piece in split_pieces(text))
    parts = {word: list(word) for word in words}
    merges: list[tuple[str, str]] = []
    while best := _most_frequent(words, parts, least):
        merges.append(best)
        parts = {word: join_pair(pieces, best) for word, pieces in parts.items()}
    encoder = {piece: number for number, piece in enumerate((*byte_symbols(), *(left + right for left, right in merges)))}
    seen = Counter(dict.fromkeys(encoder, 0))
    for word, pieces in parts.items():
        seen.update({piece: words[word] * pieces.count(piece) for piece in set(pieces)})
    symbols = tuple(str(encoder[piece]) for piece, _ in seen.most_common())
    return BpeFiles(symbols, encoder, tuple(merges))


def _most_frequent(words: Counter[str], parts: dict[str, list[str]], least: int) -> tuple[str, str] | None:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, pieces in parts.items():
        for pair in pairwise(pieces):
            pairs[pair] += words[word]
    if not pairs:
        return None
    best, count = min(pairs.items(), key=lambda item: (-item[1], item[0]))  # ties by spelling: the same files every time
    return best if count >= least else None
