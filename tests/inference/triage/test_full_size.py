"""BiomedCLIP and CLIP ViT-B/16 at their full size, with random weights, in every form they are published in.

The references are open_clip's and transformers' own models and transforms, made without a line of the product.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from inference.bundles import Bundle
from inference.phantoms.clip_form import write_form
from inference.triage.checkpoints import import_biomedclip, import_clip
from inference.triage.clip_vocabulary import MERGES
from inference.triage.open_clip_folder import ContrastiveModel, open_folder
from tests.inference.triage.clip_models import randomise, write_hf_vocabulary

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
TEXTS = ["small left pneumothorax", "no pleural effusion", "chest radiograph, PA view, 3.5 cm mass."]
COSINE = 0.999999
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# ViT-B/16, its head, BERT base, its two-layer projection, the scale
BIOMEDCLIP_PARAMETERS = (85_798_656, 393_216, 108_891_648, 819_200, 1)
BIOMEDCLIP: dict[str, Any] = {  # the hub's open_clip_config.json
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    },
    "preprocess_cfg": {"mean": MEAN, "std": STD},
}
CLIP: dict[str, Any] = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


def images() -> list[Image.Image]:
    """Grey and RGB, odd sizes, tall, wide, smaller than the model's, and its own size."""
    rng = np.random.default_rng(7)
    sizes = [(512, 400), (301, 223), (1024, 130), (97, 640), (5, 7), (1, 1), (224, 224), (225, 224)]
    grey = [Image.fromarray(rng.integers(0, 256, size, np.uint8)) for size in sizes]
    return grey + [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def cosines(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(ours.double(), theirs.double(), dim=1)


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """As near as wished, of as long vectors, and of inputs that do not all look alike to the model."""
    assert ours.shape == theirs.shape
    assert cosines(ours, theirs).min() >= COSINE
    torch.testing.assert_close(ours.norm(dim=1), theirs.norm(dim=1), rtol=1e-4, atol=1e-5)
    assert cosines(theirs[:1], theirs[1:]).max() < 0.95


def assert_answers_alike(model: ContrastiveModel, pictures: torch.Tensor, theirs: tuple[torch.Tensor, torch.Tensor]) -> None:
    with torch.inference_mode():
        assert_same(model.net.encode_image(pictures), theirs[0])
        assert_same(model.net.encode_text(model.tokenize(TEXTS)), theirs[1])


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """A batch as the models take it: (3, 3, 224, 224)."""
    return torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(11))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("full")
    yield folder
    shutil.rmtree(folder)  # gigabytes


@pytest.fixture(scope="module")
def bert(work: Path) -> Path:
    """The text tower's repository: configuration of BERT base, and a WordPiece vocabulary of its size."""
    folder = work / "BiomedNLP-BiomedBERT-base-uncased-abstract"
    folder.mkdir()
    write_form(folder, TEXTS)
    (folder / "open_clip_config.json").unlink()
    config = {"architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12}
    config |= {"num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512, "vocab_size": 30522}
    config |= {"type_vocab_size": 2, "pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture(scope="module")
def biomedclip(bert: Path) -> Any:
    """open_clip's own model, not opened by the product."""
    text = BIOMEDCLIP["model_cfg"]["text_cfg"] | {"hf_model_name": str(bert), "hf_model_pretrained": False}
    net = open_clip.CustomTextCLIP(**(BIOMEDCLIP["model_cfg"] | {"text_cfg": text}))
    randomise(net, 1)
    return net


@pytest.fixture(scope="module")
def hub_folder(work: Path, biomedclip: Any, bert: Path) -> Path:
    """As the hub holds it: configuration and weights; the text tower is elsewhere."""
    folder = work / "hub"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(BIOMEDCLIP), "utf-8")
    torch.save(biomedclip.state_dict(), folder / "open_clip_pytorch_model.bin")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(bert / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def biomedclip_bundle(work: Path, hub_folder: Path, bert: Path) -> Bundle:
    return import_biomedclip(hub_folder, work / "biomedclip", text_tower=bert)


@pytest.fixture(scope="module")
def biomedclip_answers(biomedclip: Any, bert: Path, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of open_clip; its texts cut by transformers' own tokenizer to 256 tokens."""
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(bert)(
        TEXTS, padding="max_length", max_length=256, truncation=True, return_tensors="pt"
    )["input_ids"]
    with torch.inference_mode():
        return biomedclip.encode_image(pictures), biomedclip.encode_text(tokens)


def test_biomedclip_at_full_size_equals_open_clip(
    biomedclip_bundle: Bundle, biomedclip_answers: tuple[torch.Tensor, torch.Tensor], pictures: torch.Tensor
) -> None:
    model = open_folder(biomedclip_bundle.folder, CPU)
    assert sum(p.numel() for p in model.net.parameters()) == sum(BIOMEDCLIP_PARAMETERS)
    assert model.tokenize(TEXTS).shape == (len(TEXTS), 256)
    assert_answers_alike(model, pictures, biomedclip_answers)
    for picture in images():
        assert torch.equal(model.transform(picture), by_hand(picture))


def test_the_older_spelling_is_the_same_model(
    work: Path,
    biomedclip_bundle: Bundle,
    biomedclip_answers: tuple[torch.Tensor, torch.Tensor],
    pictures: torch.Tensor,
) -> None:
    folder = work / "older"
    shutil.copytree(biomedclip_bundle.folder, folder, copy_function=os.link)
    config = json.loads(json.dumps(BIOMEDCLIP))
    text = config["model_cfg"]["text_cfg"]
    text["proj"], text["pooler_type"] = text.pop("hf_proj_type"), text.pop("hf_pooler_type")
    (folder / "open_clip_config.json").unlink()
    (folder / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
    assert_answers_alike(open_folder(folder, CPU), pictures, biomedclip_answers)


def by_hand(picture: Image.Image) -> torch.Tensor:
    """open_clip's evaluation transform, by its own making and not through a model."""
    transform: Callable[[Image.Image], torch.Tensor] = open_clip.image_transform(
        224, is_train=False, mean=MEAN, std=STD, interpolation="bicubic", resize_mode="shortest"
    )
    return transform(picture)


@pytest.fixture(scope="module")
def hf_clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    net = CLIPModel(CLIPConfig(vision_config={"patch_size": 16}))
    randomise(net, 2)
    return net


@pytest.fixture(scope="module")
def hf_folder(work: Path, hf_clip: Any) -> Path:
    """As openai/clip-vit-base-patch16 is: pickled weights, HF's spelling of the vocabulary."""
    folder = work / "clip-vit-base-patch16"
    folder.mkdir()
    hf_clip.config.save_pretrained(folder)
    torch.save(hf_clip.state_dict(), folder / "pytorch_model.bin")
    write_hf_vocabulary(folder)
    steps = {"do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "crop_size": 224, "size": 224}
    (folder / "preprocessor_config.json").write_text(json.dumps(steps | {"image_mean": MEAN, "image_std": STD}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def clip_answers(hf_clip: Any, hf_folder: Path, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of transformers, with its own tokenizer."""
    from transformers import CLIPTokenizer

    tokens = CLIPTokenizer.from_pretrained(hf_folder)(TEXTS, padding="max_length", max_length=77, return_tensors="pt")
    with torch.inference_mode():
        answers = (hf_clip.get_image_features(pixel_values=pictures), hf_clip.get_text_features(**tokens))
    image, text = (getattr(answer, "pooler_output", answer) for answer in answers)
    return image, text


@pytest.fixture(scope="module")
def clip_bundle(work: Path, hf_folder: Path) -> Bundle:
    return import_clip(hf_folder, work / "clip")


def test_clip_of_transformers_at_full_size_equals_transformers(
    clip_bundle: Bundle, clip_answers: tuple[torch.Tensor, torch.Tensor], pictures: torch.Tensor
) -> None:
    assert MERGES in dict(clip_bundle.files)
    model = open_folder(clip_bundle.folder, CPU)
    assert sum(p.numel() for p in model.net.parameters()) == 149_620_737  # as OpenAI's ViT-B/16
    assert_answers_alike(model, pictures, clip_answers)
    for picture in images():
        assert torch.equal(model.transform(picture), by_hand(picture))


def test_it_fits_open_clips_own_class(
    clip_bundle: Bundle, clip_answers: tuple[torch.Tensor, torch.Tensor], pictures: torch.Tensor
) -> None:
    """As made of OpenAI's published configuration."""
    net = open_clip.CLIP(**CLIP).eval()
    net.load_state_dict(load_file(clip_bundle.path("open_clip_model.safetensors")))
    with torch.inference_mode():
        assert_same(net.encode_image(pictures), clip_answers[0])


def test_the_preprocessing_of_transformers_differs_by_what_is_stated(clip_bundle: Bundle, hf_folder: Path) -> None:
    """Pillow's processor makes the very bytes that open_clip's transform does, but for how odd sizes are rounded and cropped;
    the one on tensors resizes in floats, which moves single values by up to a few 8-bit steps.
    """
    from transformers import CLIPImageProcessor

    model, processor = open_folder(clip_bundle.folder, CPU), CLIPImageProcessor.from_pretrained(hf_folder)
    step = 1 / 255 / min(STD)
    rng = np.random.default_rng(5)
    smooth = Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8)).resize((500, 600), Image.Resampling.BICUBIC)
    theirs = processor(smooth, return_tensors="pt")["pixel_values"][0]
    assert theirs.shape == (3, 224, 224)
    assert (model.transform(smooth) - theirs).abs().max() <= 4 * step


OFFLINE = """
import os, socket, sys
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import torch
from pathlib import Path
from inference.triage.open_clip_folder import open_folder
for folder in sys.argv[1:]:
    model = open_folder(Path(folder), torch.device("cpu"))
    with torch.inference_mode():
        print(model.net.encode_text(model.tokenize(["no pneumothorax"])).shape[1])
"""


def test_both_load_with_no_network(biomedclip_bundle: Bundle, clip_bundle: Bundle, tmp_path: Path) -> None:
    """In a process that may open no connection, with no word to the libraries that they are offline, and an empty cache."""
    environment = {name: value for name, value in os.environ.items() if not re.match("HF_|TRANSFORMERS_|HUGGINGFACE", name)}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OFFLINE, str(biomedclip_bundle.folder), str(clip_bundle.folder)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["512", "512"]
