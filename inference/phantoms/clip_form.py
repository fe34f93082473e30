"""The phantom BiomedCLIP before training: a folder of exactly the real model's form, only small."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from inference.triage.open_clip_folder import CONFIG, TEXT_CONFIG, TOKENIZER, VOCABULARY

IMAGE_SIZE: Final = 160  # timm's test_vit2 is made for it: 10 × 10 patches of 16
_CONTEXT: Final = 64
_WIDTH: Final = 64
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_OPEN_CLIP: Final[dict[str, Any]] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {
            "timm_model_name": "test_vit2",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": IMAGE_SIZE,
        },
        "text_cfg": {
            "hf_model_name": "wetread/phantom-bert",
            "hf_tokenizer_name": "wetread/phantom-bert",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": _CONTEXT,
        },
    },
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}


def write_form(folder: Path, texts: Iterable[str]) -> None:
    """Write configuration and tokenizer; the WordPiece vocabulary holds the words of ``texts`` and every letter."""
    words = _vocabulary(texts)
    vocabulary = {word: number for number, word in enumerate(words)}
    _write(folder / CONFIG, _OPEN_CLIP)
    _write(folder / TEXT_CONFIG, _bert(len(words)))
    _write(folder / "tokenizer_config.json", _tokenizer_config())
    _write(folder / "special_tokens_map.json", {f"{word.strip('[]').lower()}_token": word for word in _SPECIAL})
    (folder / VOCABULARY).write_text("".join(f"{word}\n" for word in words), "utf-8")
    _tokenizer(vocabulary).save(str(folder / TOKENIZER))


def _vocabulary(texts: Iterable[str]) -> list[str]:
    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 1})
    letters = string.ascii_lowercase + string.digits
    return [*_SPECIAL, *string.punctuation, *letters, *(f"##{letter}" for letter in letters), *words]


def _bert(vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * _WIDTH,
        "max_position_embeddings": _CONTEXT,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _tokenizer_config() -> dict[str, Any]:
    named = {f"{word.strip('[]').lower()}_token": word for word in _SPECIAL}
    return named | {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": _CONTEXT}


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
