"""The model hub, reached by huggingface_hub: which files a repository holds at a commit, and their contents, checked.

The address, a token and a proxy come from the environment as huggingface_hub reads it (HF_ENDPOINT, HF_TOKEN, HTTPS_PROXY).
Usage reports to the hub are off.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import NodeError, PeerRefused, PeerUnavailable, SettingsError

_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_BLOCK: Final = 1 << 20
_TIMEOUT: Final = 30.0  # seconds for the list of files


@dataclass(frozen=True, slots=True)
class HubFile:
    """``size`` in bytes, below 0 where not told; ``sha256`` of its contents, which the hub knows of large files; of others
    ``git_sha1``, git's name for a blob.
    """

    name: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one commit (40 hexadecimal digits)."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]

    def file(self, name: str) -> HubFile | None:
        return next((file for file in self.files if file.name == name), None)


def look_up(repository: str, revision: str) -> Snapshot:
    """What a repository holds at a revision (commit, branch or tag).

    Raises SettingsError where there is no such repository or revision, or it asks for a login; PeerUnavailable where the hub
    cannot be reached.
    """
    client = _client()
    with _translated(repository, revision):
        hub = client.HfApi(endpoint=_endpoint())
        info = hub.model_info(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    files = tuple(_hub_file(sibling) for sibling in info.siblings or ())
    if not COMMIT.fullmatch(info.sha or "") or not files:
        raise PeerRefused(f"{repository}: the hub names no commit or no files of it at {revision}")
    if COMMIT.fullmatch(revision) and info.sha != revision:
        raise PeerRefused(f"{repository}: asked for commit {revision}, the hub answers with {info.sha}")
    return Snapshot(repository, info.sha, files)


def fetch(snapshot: Snapshot, file: HubFile, folder: Path) -> Path:
    """Bring one file into ``folder``; what an earlier try has brought is continued. Its size and hash are checked.

    Raises PeerUnavailable where the hub cannot be reached, the transfer breaks off, or what came is not the file that the hub
    described (it is then removed): the same call may work later; OSError where the disk cannot take the file.
    """
    path = folder / file.name
    if _is_whole(path, file):
        return path
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with _translated(snapshot.repository, snapshot.commit):
        _continue(snapshot, file, part)
    if not _is_whole(part, file):
        part.unlink(missing_ok=True)
        raise PeerUnavailable(
            f"{snapshot.repository}: {file.name} did not arrive as the hub describes it (size or checksum differ) and was "
            "removed. Run the same command again; if it happens again, a proxy on the way changes downloads"
        )
    part.replace(path)
    return path


def _continue(snapshot: Snapshot, file: HubFile, part: Path) -> None:
    """By the client's own transfer (retries, redirects, token, progress), into a file of ours: its own are thrown away when
    the process ends.
    """
    client = _client()
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    address = client.hf_hub_url(snapshot.repository, file.name, revision=snapshot.commit, endpoint=_endpoint())
    size = file.size if file.size >= 0 else None
    with part.open("ab") as opened:
        if size is not None and opened.tell() > size:
            opened.truncate(0)
            opened.seek(0)
        http_get(address, opened, resume_size=opened.tell(), headers=build_hf_headers(), expected_size=size)


def _client() -> Any:
    """huggingface_hub, which reads its environment once, when it is imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import huggingface_hub

    return huggingface_hub


def _endpoint() -> str | None:
    """A mirror of the hub, where the environment names one; None: the hub itself."""
    return os.environ.get("HF_ENDPOINT") or None


def _hub_file(sibling: Any) -> HubFile:
    large = sibling.lfs
    return HubFile(
        sibling.rfilename,
        int(sibling.size if sibling.size is not None else -1),
        str(large.sha256) if large else "",
        "" if large else str(sibling.blob_id or ""),
    )


def _is_whole(path: Path, file: HubFile) -> bool:
    if not path.is_file() or (size := path.stat().st_size) != (file.size if file.size >= 0 else size):
        return False
    if file.sha256:
        return _digest(path, hashlib.sha256()) == file.sha256
    blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    return not file.git_sha1 or _digest(path, blob) == file.git_sha1


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


@contextmanager
def _translated(repository: str, revision: str) -> Iterator[None]:
    """Errors of the client, of whichever HTTP library it uses, as ours."""
    from huggingface_hub import errors

    try:
        yield
    except NodeError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise SettingsError("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, so nothing is downloaded; unset it") from error
    except errors.GatedRepoError as error:
        raise SettingsError(f"{repository}: its owner wants a consent; give it on the hub, then set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise SettingsError(f"{repository}: the hub has no revision {revision!r} of it") from error
    except errors.RepositoryNotFoundError as error:
        raise SettingsError(
            f"{repository}: the hub has no such repository, or it asks for a login (then set HF_TOKEN)"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise _failed(repository, error) from error
    except errors.EntryNotFoundError as error:
        raise PeerRefused(f"{repository}: a file that the hub lists at {revision} is not there") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise _failed(repository, error) from error


def _failed(repository: str, error: Exception) -> NodeError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return SettingsError(f"{repository}: the hub refuses access (HTTP {status}); set HF_TOKEN to a token that may read it")
    why = f"HTTP {status}" if status else type(error).__name__
    return PeerUnavailable(f"{repository}: the model hub cannot be reached, or the transfer broke off ({why})")
