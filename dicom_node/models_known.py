"""Which models can be pulled, from which repository of the model hub, at which commit, and which of its files are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Repository:
    """Files of one repository. ``weights``: in order of preference, whole or in shards; the first that is there is taken.

    ``commit``: the revision this version of WetRead was made for; empty where none is on record, and then the pull records the
    commit that ``main`` stood at.
    """

    name: str
    files: tuple[str, ...]
    weights: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    commit: str = ""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """``kind``: of the bundle; ``tokenizer`` for one that gives only the tokenizer files of a model."""

    kind: str
    repository: Repository
    text_tower: Repository | None = None

    def repositories(self) -> tuple[Repository, ...]:
        return (self.repository, *((self.text_tower,) if self.text_tower else ()))


TOKENIZER_KIND: Final = "tokenizer"
_SHARED: Final = ("model.safetensors", "pytorch_model.bin")
_BERT_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_GPT2_FILES: Final = ("vocab.json", "merges.txt")
_GPT: Final = Repository("PanaceaAI/BiomedGPT-Base-Pretrained", ("config.json", *_GPT2_FILES), _SHARED)

MODELS: Final[Mapping[str, KnownModel]] = MappingProxyType(
    {
        "biomedclip": KnownModel(
            "biomedclip",
            Repository(
                "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
                ("open_clip_config.json",),
                ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
                _BERT_FILES,
                "9f341de24bfb00180f1b847274256e9b65a3a32e",
            ),
            Repository(
                "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                ("config.json", "vocab.txt"),
                commit="d673b8835373c6fa116d6d8006b33d48734e305d",
            ),
        ),
        "clip-vit-b16": KnownModel(
            "clip",
            Repository(
                "openai/clip-vit-base-patch16",
                ("config.json", *_GPT2_FILES),
                _SHARED,
                ("preprocessor_config.json",),
                "57c216476eefef5ab752ec549e440a49ae4ae5f3",
            ),
        ),
        "biomedgpt-base": KnownModel("biomedgpt", _GPT),
        "biomedgpt-instruct": KnownModel("biomedgpt", replace(_GPT, name="PanaceaAI/instruct-biomedgpt-base")),
        "biomedgpt-bpe": KnownModel(TOKENIZER_KIND, replace(_GPT, files=_GPT2_FILES, weights=())),
    }
)
# Published as fairseq files only, as far as is known; the hub form of another size can be named with --repository.
FAIRSEQ_ONLY: Final = ("biomedgpt-tiny", "biomedgpt-medium", "biomedgpt-large")


def fairseq_only_help(name: str, out: Path) -> str:
    """How to come by a size that is on no hub."""
    scale = name.removeprefix("biomedgpt-")
    return (
        f"{name}: no repository of the model hub is known to hold the {scale} model; its authors publish it as a fairseq file "
        f"(biomedgpt_{scale}.pt; see the checkpoints in the README of taokz/BiomedGPT). Download that file, then:\n"
        "  wetread models pull biomedgpt-bpe --out biomedgpt-bpe\n"
        f"  wetread models import biomedgpt biomedgpt_{scale}.pt --bpe biomedgpt-bpe --out {out}\n"
        f"If you know a repository that holds it in Hugging Face form: wetread models pull {name} --repository OWNER/NAME "
        f"--out {out}"
    )


def copy_help(name: str, model: KnownModel, out: Path) -> str:
    """What to copy to a machine without internet, file by file, where to put it, and the commands."""
    return "\n".join(_copy_lines(name, model, out))


def folder_name(repository: Repository) -> str:
    """The folder that holds the files of a repository while they are on their way: its name without the owner."""
    return repository.name.rpartition("/")[2]


def _copy_lines(name: str, model: KnownModel, out: Path) -> Iterator[str]:
    yield f"For a machine without internet, run on one that has it: wetread models pull {name} --out {out}"
    yield f"then copy the whole folder {out} and check it there: wetread models verify {out}"
    yield "Or, without WetRead where there is internet, download these files of the model hub and copy them:"
    for repository in model.repositories():
        yield f"  into a folder {folder_name(repository)}/, from {repository.name} at {_revision(repository)}:"
        yield from (f"    {line}" for line in _file_lines(repository))
    yield f"then, beside {' and '.join(f'{folder_name(r)}/' for r in model.repositories())}: {_import_command(model, out)}"


def _file_lines(repository: Repository) -> Iterator[str]:
    yield from repository.files
    if repository.weights:
        yield f"{' or '.join(repository.weights)} (the first that is there; in shards: its .index.json and every shard)"
    if repository.optional:
        yield f"{', '.join(repository.optional)} (those that are there)"


def _revision(repository: Repository) -> str:
    return f"commit {repository.commit}" if repository.commit else "one commit, noted (`main` moves)"


def _import_command(model: KnownModel, out: Path) -> str:
    folder = folder_name(model.repository)
    if model.kind == TOKENIZER_KIND:
        return f"give that folder with --bpe {folder} to `wetread models import biomedgpt`"
    tower = f" --text-tower {folder_name(model.text_tower)}" if model.text_tower else ""
    return f"wetread models import {model.kind} {folder}{tower} --out {out}"
