"""Run by ``test_fairseq`` in a process of its own, for fairseq is slow to import: what it says of all golden sets, as JSON.

python fairseq_oracle.py '{"dictionary": DICT.TXT, "sets": {NAME: {"checkpoint": …, "bundle": …, "inputs": …}}}'
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

warnings.simplefilter("ignore")
logging.disable(logging.INFO)
from fairseq import checkpoint_utils  # noqa: E402
from fairseq.data import Dictionary  # noqa: E402
from fairseq.sequence_generator import SequenceGenerator  # noqa: E402

from inference.bundles import open_bundle  # noqa: E402
from inference.drafting.checkpoints import EMBEDDINGS, read_checkpoint  # noqa: E402
from inference.drafting.config import read_config  # noqa: E402
from inference.drafting.drafter import load_model  # noqa: E402
from inference.drafting.model import Encoded, Ofa  # noqa: E402

CODES, BINS = 8192, 1000


def dictionary(path: Path) -> dict[str, Any]:
    """Its symbols, built up as OFA's tasks do, and how it reads a line of them."""
    found = _dictionary(path)
    line = "1364 <bin_12> nonsense 318 <code_8191>"
    ids = found.encode_line(line, add_if_not_exist=False, append_eos=False).tolist()
    return {"symbols": found.symbols, "line": line, "ids": ids}


def tensors(path: Path) -> dict[str, Any]:
    """Which tensors its loader gives otherwise than ours; none, and as many as there are, is as wished."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    theirs = state["extra_state"].get("ema") or state["model"]
    ours = read_checkpoint(path).tensors
    named = {name: ours["embed_tokens.weight" if name in EMBEDDINGS else name] for name in theirs if _is_weight(name)}
    return {
        "compared": len(named),
        "ours": len(ours),
        "differ": [name for name, tensor in named.items() if not torch.equal(tensor, theirs[name])],
        "width": state["cfg"]["model"].encoder_embed_dim,
    }


def search(folder: Path, inputs: Path) -> dict[str, Any]:
    """Hypotheses of its SequenceGenerator over our model, for each of the prepared inputs."""
    bundle = open_bundle(folder)
    model = Fairseq(load_model(bundle, read_config(bundle.path("config.json"))))
    symbols = _dictionary(bundle.path("dict.txt"))
    return {name: _hypotheses(model, symbols, case) for name, case in torch.load(inputs, weights_only=True).items()}


class Fairseq(nn.Module):
    """Our model behind fairseq's interface, without caches: each step decodes its whole prefix anew."""

    def __init__(self, model: Ofa) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(model), _Decoder(model)

    def max_decoder_positions(self) -> int:
        return 1024

    def get_normalized_probs(self, out: tuple[Tensor, None], log_probs: bool, sample: None = None) -> Tensor:
        assert log_probs
        assert sample is None
        return torch.log_softmax(out[0].float(), dim=-1)


class _Encoder(nn.Module):
    def __init__(self, model: Ofa) -> None:
        super().__init__()
        self.model = model

    def forward_torchscript(self, net_input: dict[str, Tensor]) -> Encoded:
        images, present = net_input.get("patch_images"), net_input.get("patch_masks")
        return self.model.encode(net_input["src_tokens"], images, present)

    def reorder_encoder_out(self, encoded: Encoded, order: Tensor) -> Encoded:
        return Encoded(encoded.out[order], encoded.padding[order], encoded.positions)


class _Decoder(nn.Module):
    def __init__(self, model: Ofa) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, encoder_out: Encoded) -> tuple[Tensor, None]:
        return self.model.decode(tokens, self.model.decoder.begin(encoder_out, tokens.shape[1])), None


def _hypotheses(model: Fairseq, symbols: Dictionary, case: dict[str, Any]) -> list[list[dict[str, Any]]]:
    generator = SequenceGenerator([model], symbols, **case["settings"])
    with torch.inference_mode():
        found = generator.generate([model], {"net_input": case["inputs"]}, prefix_tokens=case["prefix"], bos_token=0)
    return [[{"tokens": h["tokens"].tolist(), "score": float(h["score"])} for h in image] for image in found]


def _dictionary(path: Path) -> Dictionary:
    found = Dictionary.load(str(path))
    for symbol in ("<mask>", *(f"<code_{i}>" for i in range(CODES)), *(f"<bin_{i}>" for i in range(BINS))):
        found.add_symbol(symbol)
    return found


def _is_weight(name: str) -> bool:
    return not name.endswith((".version", "_rp_bucket", ".image_position_idx"))


def main(request: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    sets = {
        name: {"tensors": tensors(Path(s["checkpoint"])), "search": search(Path(s["bundle"]), Path(s["inputs"]))}
        for name, s in request["sets"].items()
    }
    print(json.dumps({"dictionary": dictionary(Path(request["dictionary"])), "sets": sets}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
