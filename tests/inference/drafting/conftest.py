"""Golden sets of BiomedGPT, found by walking $WETREAD_GOLDEN, and a tiny model for tests that need no golden set."""

from __future__ import annotations

import json
import lzma
import os
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundles import Bundle
from inference.drafting.config import DraftingConfig, Preprocess, Summarisation, Vqa, read_config
from inference.drafting.drafter import load_model
from inference.drafting.generation import GenerationSettings
from inference.drafting.importing import import_biomedgpt
from inference.drafting.layers import OfaConfig
from inference.drafting.model import Encoded, Ofa
from inference.drafting.results import Task
from inference.drafting.runtime import Runtime
from inference.drafting.tokenizer import Tokenizer, write_bpe
from inference.phantoms.bpe import learn_bpe
from inference.phantoms.fairseq_form import save_fairseq

ROOT = Path(os.environ.get("WETREAD_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
NO_GOLDEN = f"no golden sets under {ROOT}; set WETREAD_GOLDEN to the folder that holds biomedgpt/"
PAD = 1
CODES = BINS = 3


@dataclass(frozen=True)
class GoldenSet:
    """One folder with a checkpoint and what the reference computed with it. The HF form shares its inputs with another set."""

    folder: Path

    @property
    def is_hf(self) -> bool:
        return "source_checkpoint_set" in self.facts

    @cached_property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "golden.json").read_text("utf-8"))
        return facts

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "golden.npz"))

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        source = self.facts.get("source_checkpoint_set")
        return dict(np.load(ROOT / "biomedgpt" / source / "golden.npz")) if source else self.arrays

    def tensor(self, name: str) -> torch.Tensor | None:
        """An input or output by name; integers as int64."""
        found = self.arrays.get(name, self.inputs.get(name))
        if found is None:
            return None
        tensor = torch.from_numpy(found)
        return tensor.long() if tensor.dtype == torch.int32 else tensor

    def given(self, case: str, name: str) -> torch.Tensor | None:
        """An input of a case; "caption_masked" has the images and words of "caption"."""
        found = self.tensor(f"{case}/{name}")
        if found is None and case == "caption_masked":
            found = self.tensor(f"caption/{name}")
        if found is None and case == "caption_hi" and name == "patch_images":
            return self._large_image()
        return found

    def _large_image(self) -> torch.Tensor:
        """The one input the set does not hold, as large as it is: made from its image."""
        from inference.drafting.config import Preprocess
        from inference.drafting.images import prepare

        size = self.facts["cases"]["caption_hi"]["patch_image_size"]
        return prepare(self.arrays["images/0"], Preprocess(size))[None]

    def __str__(self) -> str:
        return f"{self.folder.parent.name}-{self.folder.name}"


def sets() -> list[GoldenSet]:
    return [GoldenSet(path.parent) for path in sorted(ROOT.rglob("golden.json")) if list(path.parent.glob("*.xz"))]


def forward_cases(golden: GoldenSet) -> list[str]:
    """Cases with logits of a teacher-forced pass."""
    names = {name.split("/")[0] for name in golden.arrays if name.endswith("/logits_logsumexp")}
    return sorted(names)


def search_cases(golden: GoldenSet) -> list[str]:
    """Searched cases, without those bound to a list of answers and those of HF's own generate()."""
    cases = golden.facts["cases"].items()
    return sorted(name for name, case in cases if "hypotheses" in case and not case.get("trie"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for golden_set (and golden_case or golden_search) runs once for each that is found."""
    if "golden_set" not in metafunc.fixturenames:
        return
    found = [s for s in sets() if not (s.is_hf and metafunc.definition.get_closest_marker("golden_fairseq"))]
    lists = {"golden_forward": forward_cases, "golden_searched": search_cases}
    marks = [mark.name for mark in metafunc.definition.iter_markers() if mark.name in lists]
    names = ["golden_set", "golden_name"] if marks else ["golden_set"]
    if not found:
        metafunc.parametrize(
            names, [pytest.param(*[None] * len(names), marks=pytest.mark.skip(reason=NO_GOLDEN))], ids=["absent"]
        )
        return
    rows = [(s, name) for s in found for name in lists[marks[0]](s)] if marks else [(s,) for s in found]
    metafunc.parametrize(names, rows, ids=["-".join(map(str, row)) for row in rows])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden_forward: once for each teacher-forced case of each golden set")
    config.addinivalue_line("markers", "golden_fairseq: only sets in fairseq's form, which hold what is asked for here")
    config.addinivalue_line("markers", "golden_searched: once for each searched case of each golden set")


@pytest.fixture(scope="session")
def golden_root() -> Path:
    if not sets():
        pytest.skip(NO_GOLDEN)
    return ROOT


class GoldenModels:
    """Each golden checkpoint, decompressed, imported into a bundle and loaded from it: the product's own path, once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, Ofa] = {}
        self._encoded: dict[tuple[str, str], Encoded] = {}

    def checkpoint(self, golden: GoldenSet) -> Path:
        """The checkpoint as it was published: a .pt, or a folder in HF form."""
        packed = next(golden.folder.glob("*.xz"))
        folder = self.folder / str(golden)
        target = folder / packed.stem
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with lzma.open(packed) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            if golden.is_hf:
                shutil.copyfile(golden.folder / "config.json", folder / "config.json")
        return folder if golden.is_hf else target

    def bundle(self, golden: GoldenSet) -> Bundle:
        out = self.folder / f"{golden}-bundle"
        if out.exists():
            from inference.bundles import open_bundle

            return open_bundle(out)
        return import_biomedgpt(self.checkpoint(golden), out, bpe=ROOT / "biomedgpt" / "bpe")

    def model(self, golden: GoldenSet) -> Ofa:
        if str(golden) not in self._models:
            bundle = self.bundle(golden)
            with torch.inference_mode(False):  # weights made in it could not be used outside
                self._models[str(golden)] = load_model(bundle, read_config(bundle.path("config.json")))
        return self._models[str(golden)]

    def encode(self, golden: GoldenSet, case: str) -> Encoded:
        """Of a case's inputs, once for all tests."""
        if (str(golden), case) not in self._encoded:
            self._encoded[str(golden), case] = self.encode_anew(golden, case)
        return self._encoded[str(golden), case]

    @torch.inference_mode()
    def encode_anew(self, golden: GoldenSet, case: str) -> Encoded:
        tokens = golden.given(case, "src_tokens")
        assert tokens is not None
        model = self.model(golden)
        return model.encode(tokens, golden.given(case, "patch_images"), golden.given(case, "patch_masks"))


@pytest.fixture(scope="session")
def golden_models(tmp_path_factory: pytest.TempPathFactory) -> GoldenModels:
    return GoldenModels(tmp_path_factory.mktemp("golden-models"))


@pytest.fixture(scope="session")
def bpe(golden_root: Path) -> Tokenizer:
    """The published vocabulary."""
    return Tokenizer.load(golden_root / "biomedgpt" / "bpe", codes=8192, bins=1000)


def settings_of(args: dict[str, Any]) -> GenerationSettings:
    """The reference's generation arguments, with its defaults, in our words."""
    return GenerationSettings(
        beam=args["beam"],
        max_length=args.get("max_len_b", 200),
        min_length=args.get("min_len", 1),
        no_repeat_ngram=args.get("no_repeat_ngram_size", 0),
        length_penalty=args.get("lenpen", 1.0),
        normalise=not args.get("unnormalized", False),
        temperature=args.get("temperature", 1.0),
        unknown_penalty=args.get("unkpen", 0.0),
    )


@pytest.fixture(scope="session")
def golden_settings() -> Any:
    return settings_of


CAPTIONS = (
    " what does the image describe?",
    " small left pneumothorax. no pleural effusion.",
    " clear lungs. normal heart size.",
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpe")
    write_bpe(learn_bpe(CAPTIONS, least=1), folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder, codes=CODES, bins=BINS)


@pytest.fixture(scope="session")
def tiny_config(tokenizer: Tokenizer) -> OfaConfig:
    return OfaConfig(
        vocabulary=len(tokenizer),
        width=16,
        feed_forward=24,
        heads=2,
        encoder_layers=2,
        decoder_layers=2,
        resnet_layers=(1, 1, 1),
        resnet_width=4,
        image_bucket=4,
        token_bucket=8,
        max_positions=40,
        code_window=2,
    )


@pytest.fixture
def tiny_model(tiny_config: OfaConfig) -> Ofa:
    """Random weights, exactly representable in half precision, with every bias and scale away from its neutral value."""
    torch.manual_seed(7)
    model = Ofa(tiny_config).eval()
    for parameter in model.parameters():
        parameter.data = (parameter + 0.3 * torch.randn_like(parameter)).half().float().detach()
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand_like(buffer).add(0.5).half())
    return model.requires_grad_(False)


@pytest.fixture
def tiny_checkpoint(tiny_model: Ofa, tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A fairseq .pt with its tokenizer beside it."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(tokenizer_folder, folder)
    save_fairseq(tiny_model, folder / "checkpoint_best.pt", image_size=64, codes=CODES, bins=BINS)
    return folder / "checkpoint_best.pt"


@pytest.fixture
def tiny_bundle(tiny_checkpoint: Path, tmp_path: Path) -> Bundle:
    return import_biomedgpt(tiny_checkpoint, tmp_path / "bundle")


@pytest.fixture
def tiny_drafting_config(tiny_bundle: Bundle) -> DraftingConfig:
    return read_config(tiny_bundle.path("config.json"))


@pytest.fixture(scope="session")
def roomy_model(tiny_config: OfaConfig) -> Ofa:
    """Random weights, with room for a prompt in the tiny vocabulary, whose pieces are short."""
    torch.manual_seed(11)
    model = Ofa(replace(tiny_config, max_positions=240)).eval()
    for parameter in model.parameters():
        parameter.data = parameter + 0.3 * torch.randn_like(parameter)
    return model.requires_grad_(False)


@pytest.fixture
def run(roomy_model: Ofa, tokenizer: Tokenizer) -> Runtime:
    config = DraftingConfig(
        roomy_model.config,
        codes=3,
        bins=3,
        preprocess=Preprocess(64),
        tasks=tuple(Task),
        vqa=Vqa(search=GenerationSettings(beam=2, max_length=90)),
        summary=Summarisation(search=GenerationSettings(beam=2, max_length=12)),
    )
    return Runtime(roomy_model, tokenizer, config, torch.device("cpu"))
