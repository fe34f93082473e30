"""A process of its own for the memory figures of ``triage.py``: ``triage_memory.py FOLDER make|both|first|second``.

make: a BiomedCLIP bundle of full size with random weights in FOLDER. both: image and text tower held, as open_clip opens them.
first, second: ``Triage.load`` without and with the embeddings of the prompts already in its cache, in bfloat16.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from safetensors.torch import save_file  # noqa: E402

from inference.bundles import BundleCard, open_bundle, write_manifest  # noqa: E402
from inference.phantoms.clip_form import write_form  # noqa: E402
from inference.reading import UseMode  # noqa: E402
from inference.triage.catalogue import load_catalogue  # noqa: E402
from inference.triage.contrastive import Triage  # noqa: E402
from inference.triage.open_clip_folder import WEIGHTS, open_folder  # noqa: E402

CPU: Final = torch.device("cpu")
CATALOGUE: Final = ROOT / "config" / "findings" / "chest_xray.yaml"
_BERT: Final = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_MORE_BERT: Final = {"intermediate_size": 3072, "max_position_embeddings": 512}


def make(folder: Path) -> None:
    """Of the phantom's form, with every size made BiomedCLIP's."""
    write_form(folder, load_catalogue(CATALOGUE).all_texts)
    _change(folder / "config.json", lambda said: said.update(_BERT | _MORE_BERT))
    _change(folder / "open_clip_config.json", _grow)
    net = open_folder(folder, CPU, weights=False).net
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / WEIGHTS)
    write_manifest(folder, BundleCard("random", "biomedclip", "1", "made here", "none", "benchmark", (UseMode.RESEARCH,)))


def _grow(said: dict[str, Any]) -> None:
    said["model_cfg"]["embed_dim"] = 512
    said["model_cfg"]["vision_cfg"] |= {"timm_model_name": "vit_base_patch16_224", "image_size": 224}
    said["model_cfg"]["text_cfg"]["context_length"] = 256


def _change(path: Path, change: Any) -> None:
    said = json.loads(path.read_text("utf-8"))
    change(said)
    path.write_text(json.dumps(said), "utf-8")


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def main() -> None:
    folder, what = Path(sys.argv[1]) / "bundle", sys.argv[2]
    torch.set_num_threads(1)
    if what == "make":
        folder.mkdir()
        make(folder)
        return
    before, started = resident_mb(), time.perf_counter()
    if what == "both":
        held: Any = open_folder(folder, CPU)
    else:
        cache = folder.parent / "cache"
        held = Triage.load(open_bundle(folder), load_catalogue(CATALOGUE), CPU, precision="bfloat16", cache=cache)
    seconds = round(time.perf_counter() - started, 1)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps({"resident": resident_mb(), "before": before, "peak": peak, "seconds": seconds}))
    del held


if __name__ == "__main__":
    main()
