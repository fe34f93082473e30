"""Random weights and CLIP's vocabulary, for references that are made without a line of the product."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch


def randomise(net: torch.nn.Module, seed: int) -> None:
    """Weights at which signals keep their size: unlike images and texts then have unlike embeddings."""
    pool = torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed)).repeat(45)
    for place, (name, weight) in enumerate(net.named_parameters()):
        start = 7919 * (place + 1) % 1_000_003  # each tensor its own numbers
        drawn = pool[start : start + weight.numel()].view(weight.shape)
        if name == "logit_scale":
            drawn = torch.tensor(4.6052)
        elif weight.dim() > 1 and "embed" not in name:
            drawn = 1.5 * drawn / weight[0].numel() ** 0.5
        elif weight.dim() == 1:
            drawn = 0.05 * drawn + (1.0 if name.endswith("weight") else 0.0)
        weight.data.copy_(drawn)
    net.eval().requires_grad_(False)


def write_hf_vocabulary(folder: Path) -> None:
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {marks.get(piece, piece): number for piece, number in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in tokenizer.bpe_ranks)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, "utf-8")
