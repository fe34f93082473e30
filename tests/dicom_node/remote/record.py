"""A FHIR server in memory whose abilities a test chooses: what it says of itself is what it does."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]
ALL = ("Patient", "Endpoint", "ImagingStudy", "Organization", "Device", "Observation", "DiagnosticReport", "Provenance")
WRITES = ("read", "create", "update", "search-type")


@dataclass
class Record:
    """``types``: interactions by resource type. ``held``: what was written, by address. ``asked``: each request's line."""

    version: str = "4.0.1"
    transaction: bool = True
    conditional_create: bool | None = True
    update_create: bool | None = True
    types: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(ALL, WRITES))
    statement: bool = True
    filters: bool = True  # False: passes over search parameters and answers with everything of the type
    location: bool = True
    slow_s: float = 0  # how long an answer takes
    broken: str = ""  # a type whose next write breaks the connection
    held: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        return Counter(address.split("/")[0] for address in self.held)

    def of(self, kind: str) -> list[Json]:
        return [resource for address, resource in self.held.items() if address.startswith(f"{kind}/")]

    def capabilities(self) -> Json:
        resources = []
        for kind, interactions in self.types.items():
            one: Json = {"type": kind, "interaction": [{"code": code} for code in interactions]}
            for name, flag in (("conditionalCreate", self.conditional_create), ("updateCreate", self.update_create)):
                if flag is not None:
                    one[name] = flag
            resources.append({**one, "searchParam": [{"name": "identifier", "type": "token"}]})
        system = ["transaction", "batch"] if self.transaction else ["batch"]
        rest = {"mode": "server", "resource": resources, "interaction": [{"code": code} for code in system]}
        return {"resourceType": "CapabilityStatement", "fhirVersion": self.version, "format": ["json", "xml"], "rest": [rest]}

    def answer(self, method: str, path: str, query: str, content: bytes, condition: str) -> tuple[int, Json, str]:
        """Status, body and Location."""
        kind, _, own = path.strip("/").partition("/")
        if method == "GET" and kind == "metadata":
            return (200, self.capabilities(), "") if self.statement else (404, {"resourceType": "OperationOutcome"}, "")
        if not kind:
            return self._transaction(json.loads(content))
        if method == "GET":
            found = [{"resource": self.held[one]} for one in self._found(kind, query)]
            return 200, {"resourceType": "Bundle", "type": "searchset", "entry": found}, ""
        return self._write(method, kind, own, json.loads(content), condition)

    def _transaction(self, bundle: Json) -> tuple[int, Json, str]:
        if not self.transaction:
            return 405, {"resourceType": "OperationOutcome"}, ""
        before, known, answers = dict(self.held), {}, []
        for entry in bundle["entry"]:
            request = entry["request"]
            kind, _, own = request["url"].partition("/")
            resource = json.loads(_referring(json.dumps(entry["resource"]), known))
            status, body, place = self._write(request["method"], kind, own, resource, request.get("ifNoneExist", ""))
            if status >= 400:
                self.held = before
                return status, body, ""
            known[entry["fullUrl"]] = place
            answers.append({"response": {"status": str(status), "location": place}})
        return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}, ""

    def _write(self, method: str, kind: str, own: str, resource: Json, condition: str) -> tuple[int, Json, str]:
        need = "update" if method == "PUT" else "create"
        address = f"{kind}/{own or uuid.uuid4()}"
        if need not in self.types.get(kind, ()) or (need == "update" and not self.update_create and address not in self.held):
            return 405, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-supported"}]}, ""
        missing = [one for one in re.findall(r'"reference": "([^"]+)"', json.dumps(resource)) if one not in self.held]
        if missing:
            return 422, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]}, ""
        if method == "POST" and condition and self.conditional_create:
            found = self._found(kind, condition)
            if len(found) > 1:
                return 412, {"resourceType": "OperationOutcome"}, ""
            if found:
                return 200, {}, found[0] if self.location else ""
        status = 200 if address in self.held else 201
        self.held[address] = {**resource, "id": address.split("/")[1]}
        return status, {}, address if self.location or method == "PUT" else ""

    def _found(self, kind: str, query: str) -> list[str]:
        ((name, wanted),) = parse_qsl(query, strict_parsing=True)
        system, _, value = re.sub(r"\\(.)", r"\1", wanted).partition("|")
        every = [address for address in self.held if address.startswith(f"{kind}/")]
        return [one for one in every if not self.filters or _carries(self.held[one], name, system, value)]


def _carries(resource: Json, name: str, system: str, value: str) -> bool:
    if name == "identifier":
        return any((one["system"], one["value"]) == (system, value) for one in resource.get("identifier", ()))
    return any((one["system"], one["code"]) == (system, value) for one in resource.get("meta", {}).get("tag", ()))


def _referring(text: str, known: dict[str, str]) -> str:
    for url, place in known.items():
        text = text.replace(f'"{url}"', f'"{place}"')
    return text


@contextmanager
def serving(record: Record, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The base address of ``record``, over HTTPS where ``tls`` says how."""

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1  # head and body in one packet, or the peer waits 40 ms for the second

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            record.asked.append(f"{self.command} {parts.path}")
            if record.broken and f'"resourceType": "{record.broken}"'.encode() in content:
                record.broken = ""
                self.close_connection = True
                self.connection.close()
                return
            time.sleep(record.slow_s)
            condition = self.headers.get("If-None-Exist", "")
            status, body, place = record.answer(self.command, parts.path.removeprefix("/fhir"), parts.query, content, condition)
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            if place:
                self.send_header("Location", f"http://{self.headers['Host']}/fhir/{place}/_history/1")
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/fhir"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
