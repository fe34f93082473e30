"""`wetread models pull`: bring the needed files of a model from the hub, at one commit, ready to be imported.

What has arrived lies in a folder beside the bundle's (``<out>.download``) until the import is done, with a record of the
commit: a pull that broke off goes on with that commit, whatever ``main`` is by then.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import PeerRefused, PeerUnavailable, SettingsError, StorageError
from dicom_node.models_known import FAIRSEQ_ONLY, MODELS, KnownModel, Repository, copy_help, fairseq_only_help, folder_name
from dicom_node.remote.hub import COMMIT, HubFile, Snapshot, fetch, look_up
from dicom_node.terminal import console

RECORD: Final = "pull.json"
_INDEX: Final = ".index.json"
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Pulled:
    """Folders with the files of a model; ``source``: its repository and commit, for the bundle's card."""

    kind: str
    folder: Path
    text_tower: Path | None
    source: str
    download: Path

    def remove(self) -> None:
        shutil.rmtree(self.download)


def chosen(name: str, out: Path, repository: str | None) -> KnownModel:
    """What ``name`` is, from the repository of the user's choice where one is given. Raises SettingsError."""
    if name in FAIRSEQ_ONLY and not repository:
        raise SettingsError(fairseq_only_help(name, out))
    model = MODELS.get(name) or (MODELS["biomedgpt-base"] if name in FAIRSEQ_ONLY else None)
    if model is None:
        raise SettingsError(f"model {name!r}: allowed: {', '.join((*MODELS, *FAIRSEQ_ONLY))}")
    if not repository:
        return model
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository):
        raise SettingsError(f"--repository {repository}: must be OWNER/NAME")
    return replace(model, repository=replace(model.repository, name=repository, commit=""))


def download(name: str, model: KnownModel, out: Path, revision: str | None) -> Pulled:
    """Bring the files. ``revision`` (commit, branch or tag) of the model's repository; else the recorded pin; else ``main``.

    Raises SettingsError, PeerRefused or PeerUnavailable; the last says what to copy to a machine without internet.
    """
    staging = out.with_name(out.name + ".download")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        snapshots = _snapshots(model, staging, revision)
        for repository, snapshot in zip(model.repositories(), snapshots, strict=True):
            _bring(repository, snapshot, staging / folder_name(repository))
    except OSError as error:
        raise StorageError(f"{staging}: cannot be written ({error})") from error
    except PeerUnavailable as error:
        told = f"{error}.\nWhat has arrived is kept: the same command goes on.\n{copy_help(name, model, out)}"
        raise PeerUnavailable(told) from error
    tower = staging / folder_name(model.text_tower) if model.text_tower else None
    source = f"{snapshots[0].repository}@{snapshots[0].commit}"
    return Pulled(model.kind, staging / folder_name(model.repository), tower, source, staging)


def _snapshots(model: KnownModel, staging: Path, revision: str | None) -> list[Snapshot]:
    record = staging / RECORD
    recorded = _read_record(record)
    snapshots = []
    for repository in model.repositories():
        wish = revision if repository is model.repository else None
        snapshot = look_up(repository.name, _revision(repository, recorded, wish, record))
        console().print(f"{snapshot.repository} at commit {snapshot.commit}", markup=False, soft_wrap=True)
        snapshots.append(snapshot)
    part = record.with_suffix(".part")
    part.write_text(json.dumps({s.repository: s.commit for s in snapshots}, indent=2) + "\n", "utf-8")
    part.replace(record)
    return snapshots


def _revision(repository: Repository, recorded: dict[str, str], wish: str | None, record: Path) -> str:
    """A pull under way keeps its commit; a user's wish comes before the pin of this version of WetRead."""
    begun = recorded.get(repository.name)
    if begun and wish and COMMIT.fullmatch(wish) and wish != begun:
        raise SettingsError(f"{record}: a pull of commit {begun} is under way; finish it, or remove {record.parent} first")
    return begun or wish or repository.commit or "main"


def _read_record(record: Path) -> dict[str, str]:
    try:
        data: Any = json.loads(record.read_text("utf-8"))
        commits = {str(name): str(commit) for name, commit in data.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise SettingsError(f"{record}: damaged; remove {record.parent} and pull again") from error
    wrong = [commit for commit in commits.values() if not COMMIT.fullmatch(commit)]
    if wrong:
        raise SettingsError(f"{record}: {wrong[0]!r} is no commit; remove {record.parent} and pull again")
    return commits


def _bring(repository: Repository, snapshot: Snapshot, folder: Path) -> None:
    needed = _needed(repository, snapshot)
    for file in needed:
        _bring_one(snapshot, file, folder)
        if file.name.endswith(_INDEX):
            for shard in _shards(folder / file.name, snapshot):
                _bring_one(snapshot, shard, folder)


def _bring_one(snapshot: Snapshot, file: HubFile, folder: Path) -> None:
    path = fetch(snapshot, file, folder)
    size = f"{path.stat().st_size / _MEGABYTE:.1f} MB"
    checked = "sha256 as the hub says" if file.sha256 else "checksum as the hub says" if file.git_sha1 else "size checked"
    console().print(f"  {file.name}  {size}, {checked}", markup=False, soft_wrap=True)


def _needed(repository: Repository, snapshot: Snapshot) -> list[HubFile]:
    found = [snapshot.file(name) for name in repository.files]
    lacks = [name for name, file in zip(repository.files, found, strict=True) if file is None]
    if repository.weights:
        whole_or_index = (name + suffix for name in repository.weights for suffix in ("", _INDEX))
        weights = next((file for name in whole_or_index if (file := snapshot.file(name))), None)
        found.append(weights)
        lacks += [] if weights else [" or ".join(repository.weights)]
    if lacks:
        held = ", ".join(file.name for file in snapshot.files[:30])
        raise PeerRefused(f"{snapshot.repository} at {snapshot.commit} lacks {', '.join(lacks)}; it holds: {held}")
    return [file for file in (*found, *(snapshot.file(name) for name in repository.optional)) if file is not None]


def _shards(index: Path, snapshot: Snapshot) -> Iterator[HubFile]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PeerRefused(f"{snapshot.repository}: {index.name} is not an index of shards") from error
    for name in names:
        file = snapshot.file(name) if isinstance(name, str) and Path(name).name == name else None
        if file is None:
            raise PeerRefused(f"{snapshot.repository}: {index.name} names the shard {name!r}, which the hub does not list")
        yield file
