"""Begin a new phantom BiomedGPT from an earlier, smaller one: other words, more positions, more layers, the same sight."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from inference.bundles import open_bundle
from inference.drafting import positions
from inference.drafting.checkpoints import load_safetensors
from inference.drafting.config import CONFIG, WEIGHTS, DraftingConfig, read_config
from inference.drafting.layers import EncoderLayer
from inference.drafting.model import Ofa
from inference.drafting.tokenizer import Tokenizer


def begin_from(folder: Path, model: Ofa, tokenizer: Tokenizer) -> None:
    """Take over what an earlier bundle learned: tensors of one shape as they are, tokens by their text, positions by place.

    A layer that the earlier model lacks begins as one that changes nothing.
    """
    bundle = open_bundle(folder, kinds=["biomedgpt"])
    config = read_config(bundle.path(CONFIG))
    old = {name: tensor.float() for name, tensor in load_safetensors(bundle.path(WEIGHTS)).items()}
    earlier = Tokenizer.load(bundle.folder, codes=config.codes, bins=config.bins)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "token_rel_pos_table" in name and name in old:
                tensor.copy_(_relative(old[name], config.model.token_bucket, model.config.token_bucket))
            elif name == "embed_tokens.weight":
                _take_tokens(tensor, old[name], tokenizer, earlier)
            elif name in old and not tensor.dim():
                tensor.copy_(old[name])
            elif name in old:  # positions grow at the end
                tensor[: len(old[name])] = old[name]
        _still(model, config)


def _take_tokens(new: Tensor, old: Tensor, tokenizer: Tokenizer, earlier: Tokenizer) -> None:
    known = {earlier.decode([i]): i for i in range(len(earlier)) if earlier.is_text(i)}
    for i in range(len(tokenizer)):
        text = tokenizer.decode([i])
        if i < 4:
            new[i] = old[i]
        elif tokenizer.is_text(i) and "\ufffd" not in text and text in known:
            new[i] = old[known[text]]


def _relative(old: Tensor, before: int, after: int) -> Tensor:
    """A table of relative biases (2·before − 1, heads) for more buckets: each distance keeps the bias it had."""
    was, now = (positions.token_buckets(bucket, positions.LOG_RANGE) for bucket in (before, after))
    table = old.new_zeros(2 * after - 1, old.shape[1])
    table[now[0]] = old[was[0]]  # keys after the query
    table[now[:, 0]] = old[was[:, 0]]  # and before
    return table


def _still(model: Ofa, config: DraftingConfig) -> None:
    """New encoder layers add nothing at first: their last norm and last matrix are zero, and learn from there."""
    for layer in list(model.encoder.layers)[config.model.encoder_layers :]:
        assert isinstance(layer, EncoderLayer)
        nn.init.zeros_(layer.attn_ln.weight)
        nn.init.zeros_(layer.fc2.weight)
        nn.init.zeros_(layer.fc2.bias)
