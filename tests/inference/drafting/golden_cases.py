"""What the golden tests share: how a case's inputs and candidates are found, for any set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import torch

from inference.drafting.config import read_config
from inference.drafting.model import PAD
from inference.drafting.runtime import Runtime
from inference.drafting.tokenizer import Tokenizer
from inference.drafting.trie import Trie
from inference.reading import Frame, FrameSource

CPU: Final = torch.device("cpu")
CLOSE = {"atol": 2e-4, "rtol": 1e-5}
SCORES = {"abs": 1e-3, "rel": 1e-5}


def cases_with(golden: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, case) for name, case in golden.facts["cases"].items() if key in case)


def root_case(golden: Any, name: str) -> str:
    """The case whose inputs a case is computed from: "vqa/open_beam1" and "vqa_none" have none of their own."""
    root = name.split("/")[0].removesuffix("_sequence_generator")
    while golden.given(root, "src_tokens") is None and "_" in root:
        root = root.rpartition("_")[0]
    return root


def case_trie(golden: Any, name: str, bpe: Tokenizer) -> Trie:
    case = golden.facts["cases"][root_case(golden, name)]
    return Trie([bpe.encode(f" {text}") for text in case.get("candidates") or case["classes"]], len(bpe))


def case_prefixes(golden: Any, name: str) -> list[list[int]]:
    """What the decoder is given in a case, by what the set says of it; bos left out."""
    source = golden.given(root_case(golden, name), "src_tokens")
    kind = golden.facts["cases"][name].get("prompt_type", "none")
    return [{"none": [], "src": ids[1:], "prev_output": ids[1:-1]}[kind] for ids in unpadded(source)]


def unpadded(rows: torch.Tensor) -> list[list[int]]:
    return [row[row != PAD].tolist() for row in rows]


def runtime(golden: Any, models: Any, bpe: Tokenizer, **changes: Any) -> Runtime:
    config = replace(read_config(models.bundle(golden).path("config.json")), **changes)
    return Runtime(models.model(golden), bpe, config, CPU)


def frames_of(golden: Any, images: list[int]) -> list[Frame]:
    return [Frame(golden.arrays[f"images/{i}"], FrameSource(f"1.2.{i}", "1.2", f"1.3.{i}"), "DX") for i in images]


def trie_searches(golden: Any) -> list[str]:
    return sorted(name for name, case in cases_with(golden, "hypotheses") if case.get("trie"))


def joined(text: str) -> str:
    """HF's tokenizer puts spaces about a code or location, fairseq's does not."""
    return re.sub(r" ?(<(?:code|bin)_\d+>) ?", r"\1", text)
