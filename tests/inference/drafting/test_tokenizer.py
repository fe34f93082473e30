"""Text to ids and back: the reference's examples, any text at all, and damaged files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.drafting.tokenizer import Tokenizer, read_bpe, write_bpe
from inference.errors import BundleError
from inference.phantoms.bpe import learn_bpe


@pytest.fixture(scope="module")
def published(golden_root: Path) -> Tokenizer:
    return Tokenizer.load(golden_root / "biomedgpt" / "bpe", codes=8192, bins=1000)


@pytest.fixture(scope="module")
def examples(golden_root: Path) -> dict:
    return json.loads((golden_root / "biomedgpt" / "bpe" / "examples.json").read_text("utf-8"))


def test_golden_vocabulary(published: Tokenizer, examples: dict) -> None:
    assert len(published) == examples["vocab_size"]
    assert list(published.symbols[:20]) == examples["first_20_symbols"]
    assert {symbol: published.symbols.index(symbol) for symbol in examples["special"]} == examples["special"]
    assert hashlib.sha256("\n".join(published.symbols).encode()).hexdigest() == examples["symbols_sha256"]


def test_golden_examples(published: Tokenizer, examples: dict) -> None:
    """All examples of the dictionary and the BPE; those of how tasks clean their text belong to the tasks."""
    checks = {
        "encode_text": lambda e: (
            (" ".join(published.numbers(e["text"])), published.encode(e["text"]), published.decode(e["ids"]))
            == (e["bpe"], e["ids"], e["decoded"])
        ),
        "encode_text_no_bpe": lambda e: published.encode_symbols(e["text"]) == e["ids"],
        "encode_text_length": lambda e: published.encode(e["text"], limit=e["length"]) == e["ids"],
        "decode_fn": lambda e: published.decode(e["ids"]) == e["out"],
    }
    of_tasks = {"pre_question", "pre_caption", "fix_tokenization"}
    assert {e["kind"] for e in examples["examples"]} == set(checks) | of_tasks
    wrong = [e for e in examples["examples"] if e["kind"] not in of_tasks and not checks[e["kind"]](e)]
    assert wrong == []


def test_golden_files_survive_being_written(golden_root: Path, tmp_path: Path) -> None:
    files = read_bpe(golden_root / "biomedgpt" / "bpe")
    write_bpe(files, tmp_path)
    assert read_bpe(tmp_path) == files


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(tokenizer.is_text(token) for token in ids)


@given(st.lists(st.integers(0, 300)))
def test_any_ids_have_a_text(tokenizer: Tokenizer, ids: list[int]) -> None:
    tokenizer.decode([token % len(tokenizer) for token in ids])


def test_words_of_the_training_text_are_one_token_each(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode([t]) for t in tokenizer.encode(" small left pneumothorax.")] == [
        " small",
        " left",
        " pneumothorax",
        ".",
    ]


def test_only_text_is_text(tokenizer: Tokenizer) -> None:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<code_0>", "<bin_2>"]
    assert [tokenizer.is_text(tokenizer.symbols.index(name)) for name in names] == [False] * len(names)


def test_learning_is_repeatable() -> None:
    texts = (" no pneumothorax. no effusion.", " left pneumothorax.")
    assert learn_bpe(texts) == learn_bpe(reversed(texts))


DAMAGE = {
    "no dictionary": ("dict.txt", None, "no dict.txt"),
    "no encoder": ("encoder.json", None, "no encoder.json"),
    "no merges": ("vocab.bpe", None, "no vocab.bpe"),
    "encoder is no JSON": ("encoder.json", "{", "damaged"),
    "encoder is a list": ("encoder.json", "[]", "one object"),
    "encoder has words for numbers": ("encoder.json", '{"a": "b"}', "whole numbers"),
    "encoder of another model": ("encoder.json", '{"a": 1}', "no number for"),
    "merge of three": ("vocab.bpe", "a b c\n", "damaged"),
    "symbol twice": ("dict.txt", "13 5\n13 4\n", "twice"),
}


@pytest.mark.parametrize(("name", "content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(tokenizer_folder: Path, tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "bpe")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content, "utf-8")
    with pytest.raises(BundleError, match=message):
        Tokenizer.load(folder, codes=1, bins=1)
