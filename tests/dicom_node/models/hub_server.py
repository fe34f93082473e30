"""A model hub on the loopback, as huggingface_hub's client sees it: the list of a repository's files, and the files.

Large files (``lfs``) answer as the hub's do, with their sha256 as ETag; ranges are served; faults can be planted per file.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".bin", ".safetensors")


@dataclass
class Repo:
    commit: str
    files: dict[str, bytes]
    branches: dict[str, str] = field(default_factory=dict)  # other names, also older commits; "main" is always the commit
    refuse: tuple[int, str] = (0, "")  # HTTP status and X-Error-Code for everything

    def knows(self, revision: str) -> bool:
        return revision in ("main", self.commit, *self.branches)


@dataclass
class Hub:
    """``cut``: file → bytes after which each connection drops; ``end``: file → its byte at which every connection drops;
    ``spoilt``: files that come with another content.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    agents: list[str] = field(default_factory=list)
    address: str = ""

    def downloads(self, name: str) -> list[str]:
        """The Range of each GET of a file ("" for the whole)."""
        return [span for method, path, span in self.requests if method == "GET" and path.endswith(f"/{name}")]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            hub.requests.append(("POST", self.path, ""))
            self._fail(404, "")

        def _answer(self, *, body: bool) -> None:
            path, span = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
            hub.requests.append((self.command, path, span))
            hub.agents.append(self.headers.get("User-Agent", ""))
            listing = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            content = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            found = listing or content
            repo = hub.repos.get(found[1]) if found else None
            if found is None or repo is None:
                self._fail(404, "RepoNotFound")
            elif repo.refuse[0]:
                self._fail(*repo.refuse)
            elif not repo.knows(found[2] or "main"):
                self._fail(404, "RevisionNotFound")
            elif listing:
                self._send(
                    200, json.dumps(_listing(found[1], repo, found[2] or "main")).encode(), {"Content-Type": "application/json"}
                )
            elif found[3] not in repo.files:
                self._fail(404, "EntryNotFound")
            else:
                self._file(repo, found[2], found[3], span, body=body)

        def _file(self, repo: Repo, revision: str, name: str, span: str, *, body: bool) -> None:
            content = repo.files[name]
            tag = hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else _blob(content)
            if name in hub.spoilt:
                content = bytes([content[0] ^ 1]) + content[1:]
            start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
            headers = {"ETag": f'"{tag}"', "X-Repo-Commit": repo.branches.get(revision, repo.commit), "Accept-Ranges": "bytes"}
            if name.endswith(LARGE):
                headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
            if span:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            most = max(0, hub.end[name] - start) if name in hub.end else hub.cut.get(name)
            self._send(206 if span else 200, content[start:], headers, body=body, most=most)

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True, most: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content[:most])
                self.close_connection = most is not None and most < len(content)

        def _fail(self, status: int, code: str) -> None:
            self._send(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"}, body=self.command != "HEAD")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listing(name: str, repo: Repo, revision: str) -> dict[str, object]:
    return {
        "_id": "0" * 24,
        "id": name,
        "modelId": name,
        "sha": repo.branches.get(revision, repo.commit),
        "private": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [_sibling(file, content) for file, content in repo.files.items()],
    }


def _sibling(name: str, content: bytes) -> dict[str, object]:
    known: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _blob(content)}
    if name.endswith(LARGE):
        known["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return known


def _blob(content: bytes) -> str:
    """git's name for the contents of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
