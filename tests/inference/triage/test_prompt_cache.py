"""Embeddings of prompts that are kept: the text tower runs once, and a file that was touched is made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.bundles import Bundle
from inference.cache_files import read_checked, write_checked
from inference.errors import BundleError
from inference.triage import prompt_cache
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.prompt_cache import PromptCache

CPU = torch.device("cpu")


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with the file of model "a", which knows two texts."""
    PromptCache(tmp_path, "a").add({"one": unit(1, 2), "two": unit(3, 4)})
    return tmp_path


def file_in(folder: Path) -> Path:
    (path,) = folder.glob("*.prompts")
    return path


def test_the_second_start_needs_no_text_tower(tmp_path: Path, judges_all: Bundle, catalogue: FindingsCatalogue) -> None:
    folder, cache = tmp_path / "bundle", tmp_path / "cache"
    shutil.copytree(judges_all.folder, folder)
    bundle = replace(judges_all, folder=folder)
    first = Triage.load(bundle, catalogue, CPU, cache=cache)
    for name in ("config.json", "tokenizer.json", "vocab.txt"):
        (folder / name).unlink()  # with these gone, the text tower cannot be opened any more
    second = Triage.load(bundle, catalogue, CPU, cache=cache)
    np.testing.assert_array_equal(second.contrasts, first.contrasts)
    with pytest.raises(BundleError, match=r"config\.json"):
        second.embed_texts(["a text that nobody asked before"])


def test_a_text_asked_later_is_embedded_as_in_one_go(tmp_path: Path, judges_all: Bundle, catalogue: FindingsCatalogue) -> None:
    cached = Triage.load(judges_all, catalogue, CPU, cache=tmp_path)
    plain = Triage.load(judges_all, catalogue, CPU)
    texts = ["a rib fracture", catalogue.all_texts[0], "a rib fracture"]
    np.testing.assert_allclose(cached.embed_texts(texts), plain.embed_texts(texts), atol=1e-6)
    assert Triage.load(judges_all, catalogue, CPU, cache=tmp_path).embed_texts(texts).shape == (3, 64)


def test_known_texts_come_back(kept: Path) -> None:
    cache = PromptCache(kept, "a")
    np.testing.assert_array_equal(cache.get("two"), unit(3, 4))
    assert cache.get("three") is None
    assert PromptCache(kept, "b").get("two") is None  # another model
    assert PromptCache(None, "a").get("two") is None


def test_texts_are_not_written_in_the_clear(tmp_path: Path) -> None:
    PromptCache(tmp_path, "a").add({"a text of somebody's search": unit(1, 0)})
    assert b"somebody" not in file_in(tmp_path).read_bytes()


def test_two_writers_keep_what_both_know(kept: Path) -> None:
    early, late = PromptCache(kept, "a"), PromptCache(kept, "a")
    early.add({"three": unit(1, 0)})
    late.add({"four": unit(0, 1)})
    again = PromptCache(kept, "a")
    assert all(again.get(text) is not None for text in ("one", "two", "three", "four"))


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "MOST", 3)
    cache = PromptCache(tmp_path, "a")
    for number in range(5):
        cache.add({str(number): unit(number, 1)})
    again = PromptCache(tmp_path, "a")
    assert [again.get(str(number)) is not None for number in range(5)] == [False, False, True, True, True]


def _flip(path: Path) -> None:
    written = bytearray(path.read_bytes())
    written[-1] ^= 1
    path.write_bytes(written)


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A change of the content behind a digest that is right: what a faulty writer would leave."""

    def write(path: Path) -> None:
        content = read_checked(path)
        assert content is not None
        write_checked(path, change(content))

    return write


def _table(numbers: NDArray[np.float32]) -> Callable[[bytes], bytes]:
    return lambda content: content.partition(b"\n")[0] + b"\n" + numbers.astype("<f4").tobytes()


def _head(**changed: object) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        head, _, body = content.partition(b"\n")
        return json.dumps(json.loads(head) | changed).encode() + b"\n" + body

    return change


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_flip, id="a bit"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-4]), id="cut"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(_rewrite(lambda _: b"\xff\xfe"), id="no JSON"),
        pytest.param(_rewrite(lambda _: b"[]\n"), id="a list"),
        pytest.param(_rewrite(lambda content: content[:-4]), id="a number short"),
        pytest.param(_rewrite(_table(np.array([[1, 0], [np.nan, 0]], np.float32))), id="not a number"),
        pytest.param(_rewrite(_table(np.array([[1, 0], [1, 1]], np.float32))), id="not unit"),
        pytest.param(_rewrite(_head(identity={"model": "b"})), id="of another model"),
        pytest.param(_rewrite(_head(width=1)), id="other width"),
        pytest.param(_rewrite(_head(texts=["x"])), id="fewer texts"),
    ],
)
def test_a_damaged_file_is_absent_and_made_anew(kept: Path, damage: Callable[[Path], None]) -> None:
    damage(file_in(kept))
    cache = PromptCache(kept, "a")
    assert cache.get("one") is None
    cache.add({"one": unit(1, 2)})
    np.testing.assert_array_equal(PromptCache(kept, "a").get("one"), unit(1, 2))
