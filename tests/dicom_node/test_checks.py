"""`wetread check`: each item fails, warns or passes for the reason it names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_node import checks, site_checks
from dicom_node.checks import Item, State
from dicom_node.remote.fhir_plan import KINDS
from dicom_node.settings import defaults_folder
from dicom_node.storage.database import Database
from inference.bundles import BundleCard, write_manifest
from inference.reading import UseMode
from tests.dicom_node.remote.record import WRITES, Record, serving

LEAKY_PEER = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)  # pynetdicom


def _bundle(folder: Path, kind: str, *, phantom: bool = False, modes: tuple[UseMode, ...] = tuple(UseMode)) -> None:
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(kind.encode())
    write_manifest(folder, BundleCard(f"Test {kind}", kind, "1", "here", "MIT", "tests", modes, phantom))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two bundles; settings are written into it by ``_items``. Its clock follows NTP."""
    monkeypatch.setattr(site_checks, "synchronised", lambda: True)
    _bundle(tmp_path / "clip", "biomedclip")
    _bundle(tmp_path / "gpt", "biomedgpt")
    return tmp_path


def _items(site: Path, **changes: object) -> dict[str, list[Item]]:
    tree: dict[str, object] = {
        "listener": {"port": 0, "watermark_mb": 1, "allowed": [{"ae_title": "PACS", "hosts": ["127.0.0.1"]}]},
        "readings": {"chest": {"triage": "clip", "drafting": "gpt", "catalogue": "chest_xray"}},
        "destinations": {"out": {"kind": "folder", "path": "out"}},
    }
    (site / "node.yaml").write_text(yaml.safe_dump({**tree, **changes}), "utf-8")
    found: dict[str, list[Item]] = {}
    for item in checks.items(site / "node.yaml"):
        found.setdefault(item.name, []).append(item)
    return found


def _only(items: dict[str, list[Item]], name: str) -> Item:
    (item,) = items[name]
    return item


def test_a_good_site_is_all_ok_and_nothing_is_made(site: Path) -> None:
    before = sorted(site.iterdir())
    items = _items(site)
    assert {item.state for found in items.values() for item in found} == {State.OK}
    assert list(items) == [
        "settings", "routes", "clock", "disk", "retention", "database", "reading chest", "listener", "senders",
        "destination out",
    ]  # fmt: skip
    assert sorted(site.iterdir()) == sorted([*before, site / "node.yaml"])


def test_exit_status_and_lines(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _items(site)
    assert checks.run(site / "node.yaml") == 0
    (site / "clip" / "weights.safetensors").write_bytes(b"other")
    assert checks.run(site / "node.yaml") == 1
    out = capsys.readouterr().out
    assert "FAILED  reading chest: " in out
    assert "weights.safetensors differs from its sha256" in out


def test_settings_that_cannot_be_read_are_the_only_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node.yaml").write_text("listner: {}\n", "utf-8")
    assert checks.run(tmp_path / "node.yaml") == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("FAILED  settings: ")
    assert "listener" in line


@pytest.mark.parametrize(
    ("changes", "name", "state", "said"),
    [
        pytest.param({"routes": "none.yaml"}, "routes", State.FAILED, "no such routes file", id="routes missing"),
        pytest.param({"destinations": {}}, "routes", State.WARNING, "reach nobody", id="no destination"),
        pytest.param({"destinations": {}, "mode": "research"}, "routes", State.OK, "everything", id="none needed"),
        pytest.param({"listener": {"port": 0}}, "senders", State.WARNING, "nobody may send", id="nobody allowed"),
        pytest.param({"listener": {"port": 0, "allow_any": True}}, "senders", State.WARNING, "every caller", id="all allowed"),
        pytest.param(
            {"listener": {"port": 0, "watermark_mb": 10**9}},
            "disk",
            State.FAILED,
            "every image will be refused",
            id="disk full",
        ),
        pytest.param({"acknowledgements": {"Tset": "me"}}, "acknowledgements", State.WARNING, "name of no bundle", id="typo"),
        pytest.param(
            {"destinations": {"out": {"kind": "folder", "path": "node.yaml/out"}}},
            "destination out",
            State.FAILED,
            "cannot be written",
            id="destination below a file",
        ),
        pytest.param({"data": "node.yaml"}, "disk", State.FAILED, "is a file", id="data is a file"),
        pytest.param(
            {"readings": {"chest": {"triage": "none", "catalogue": "chest_xray"}}},
            "reading chest",
            State.FAILED,
            "no model bundle here",
            id="no bundle",
        ),
        pytest.param(
            {"readings": {"chest": {"triage": "gpt", "catalogue": "chest_xray"}}},
            "reading chest",
            State.FAILED,
            "this is a biomedgpt bundle",
            id="wrong kind",
        ),
    ],
)
def test_one_thing_wrong(site: Path, changes: dict[str, object], name: str, state: State, said: str) -> None:
    item = _only(_items(site, **changes), name)
    assert (item.state, said in item.text) == (state, True), item


def test_phantom_models_are_told_loudly_where_results_leave(site: Path) -> None:
    shutil.rmtree(site / "clip")
    _bundle(site / "clip", "biomedclip", phantom=True)
    phantom, *_ = _items(site)["reading chest"]
    assert phantom.state is State.WARNING
    assert "PHANTOM MODEL, NOT FOR PATIENTS" in phantom.text
    quiet, *_ = _items(site, mode="research")["reading chest"]
    assert quiet.state is State.OK


def test_a_licence_that_forbids_the_mode_fails_until_acknowledged(site: Path) -> None:
    shutil.rmtree(site / "gpt")
    _bundle(site / "gpt", "biomedgpt", modes=(UseMode.RESEARCH,))
    assert _only(_items(site), "reading chest").state is State.FAILED
    permitted = _items(site, acknowledgements={"Test biomedgpt": "Dr A, 2026-11-02"})["reading chest"]
    assert {item.state for item in permitted} == {State.OK}


def test_no_drafting_model_is_told(site: Path) -> None:
    reading = {"chest": {"triage": "clip", "drafting": None, "catalogue": str(defaults_folder() / "findings/chest_xray.yaml")}}
    *_, last = _items(site, readings=reading)["reading chest"]
    assert (last.state, "no draft" in last.text) == (State.WARNING, True)


def test_a_database_that_is_none(site: Path) -> None:
    (site / "wetread-data").mkdir()
    (site / "wetread-data" / "wetread.sqlite").write_bytes(b"not a database at all" * 100)
    item = _only(_items(site), "database")
    assert item.state is State.FAILED
    assert "not a database" in item.text


def test_a_clock_that_was_set_under_a_running_node(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Database.open(site / "wetread-data" / "wetread.sqlite")) as node:
        set_forward = node.now() + 7200
        monkeypatch.setattr(time, "time", lambda: set_forward)
        item = _only(_items(site), "database")
    assert item.state is State.WARNING
    assert "behind the clock" in item.text
    assert "stop the node for a minute" in item.text


def test_a_file_that_has_gone_meanwhile_is_no_fault(site: Path) -> None:
    """As a name that leads nowhere, which raises the same."""
    folder = site / "wetread-data"
    folder.mkdir()
    (folder / "wetread.sqlite-wal").symlink_to(folder / "gone")
    assert _only(_items(site), "clock").state is State.OK


def test_files_from_the_future_tell_of_a_clock_set_back(site: Path) -> None:
    (site / "wetread-data").mkdir()
    (site / "wetread-data" / "file").touch()
    later = time.time() + 3600
    os.utime(site / "wetread-data" / "file", (later, later))
    assert _only(_items(site), "clock").state is State.WARNING


def _hang_up(server: socket.socket) -> None:
    server.accept()[0].close()


def test_a_port_held_by_something_else(site: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        Thread(target=_hang_up, args=(other,), daemon=True).start()
        item = _only(_items(site, listener={"port": port}), "listener")
    assert item.state is State.FAILED
    assert str(port) in item.text


@pytest.fixture
def peer() -> Iterator[int]:
    """A DICOM node WETREAD that answers C-ECHO; its port."""
    entity = AE(ae_title="WETREAD")
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    server = entity.start_server(("127.0.0.1", 0), block=False)
    yield server.socket.getsockname()[1]
    entity.shutdown()


@LEAKY_PEER
def test_a_port_held_by_the_running_node(site: Path, peer: int) -> None:
    item = _only(_items(site, listener={"port": peer}), "listener")
    assert (item.state, "this one, running" in item.text) == (State.OK, True)


@LEAKY_PEER
def test_a_dicom_peer_is_asked_by_c_echo(site: Path, peer: int) -> None:
    pacs = {"kind": "dicom", "host": "127.0.0.1", "port": peer, "ae_title": "WETREAD"}
    wrong = {**pacs, "ae_title": "OTHER"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = {**pacs, "port": free.getsockname()[1]}
        items = _items(site, destinations={"pacs": pacs, "wrong": wrong, "gone": gone})
    assert _only(items, "destination pacs") == Item("destination pacs", State.OK, f"WETREAD@127.0.0.1:{peer} answers C-ECHO")
    assert "rejected the association" in _only(items, "destination wrong").text
    assert [_only(items, f"destination {name}").state for name in ("wrong", "gone")] == [State.FAILED] * 2


class _Fhir(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        version = "4.0.1" if self.path == "/r4/metadata" else "5.0.0"
        body = json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": version}).encode()
        self.send_response(200 if self.path.endswith("/metadata") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_fhir_server_is_asked_for_its_metadata(site: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Fhir) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        urls = {"good": f"{base}/r4", "newer": f"{base}/r5"}
        items = _items(site, destinations={name: {"kind": "fhir", "url": url} for name, url in urls.items()})
        server.shutdown()
    assert _only(items, "destination good") == Item("destination good", State.OK, f"{base}/r4 answers, FHIR 4.0.1")
    newer = _only(items, "destination newer")
    assert newer.state is State.FAILED
    assert "FHIR 5.0.0, the document is R4: set documents.fhir_version: R5" in newer.text


SAID_OF_THE_RECORD = {
    "nothing": (Record(statement=False), State.WARNING, "it tells nothing of itself"),
    "everything": (Record(), State.OK, "FHIR 4.0.1"),
    "no transaction": (Record(transaction=False), State.WARNING, "one after the other"),
    "no Provenance": (
        Record(types=dict.fromkeys(KINDS[:-1], WRITES)),
        State.WARNING,
        "only named by their identifiers (Provenance)",
    ),
    "no report": (Record(types={"Patient": WRITES}), State.FAILED, "nothing of a result can be written there"),
}


@pytest.mark.parametrize(("record", "state", "said"), SAID_OF_THE_RECORD.values(), ids=SAID_OF_THE_RECORD)
def test_what_a_fhir_server_will_not_do_is_said(site: Path, record: Record, state: State, said: str) -> None:
    with serving(record) as url:
        item = _only(_items(site, destinations={"record": {"kind": "fhir", "url": url}}), "destination record")
    assert item.state is state
    assert said in item.text


def test_a_login_over_plain_http_is_warned_of(site: Path) -> None:
    (site / "token").write_text("secret")
    with serving(Record()) as url:
        destination = {"kind": "fhir", "url": url, "token_file": "token"}
        item = _only(_items(site, destinations={"record": destination}), "destination record")
    assert (item.state, "sent unencrypted" in item.text, "secret" in item.text) == (State.WARNING, True, False)


class _Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path.startswith("/dicom-web/studies") else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def do_OPTIONS(self) -> None:
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_each_further_kind_of_destination_is_tried_and_nothing_is_stored(site: Path) -> None:
    (site / "secret").write_text("a secret that both sides know")
    (site / "login").write_text("me:mine")
    with HTTPServer(("127.0.0.1", 0), _Web) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        web = {"kind": "stow", "url": f"{base}/dicom-web"}
        hook = {"kind": "webhook", "url": f"{base}/hook", "secret_file": "secret"}
        found = _items(
            site,
            destinations={
                "web": web,
                "open": {**web, "basic_file": "login"},
                "lost": {**web, "url": f"{base}/elsewhere"},
                "hook": hook,
                "unsigned": {**hook, "secret_file": "none"},
                "store": {"kind": "fsspec", "url": "memory://checked"},
                "nosuch": {"kind": "fsspec", "url": "nosuch://checked"},
            },
        )
        server.shutdown()
    names = ("web", "open", "lost", "hook", "unsigned", "store", "nosuch")
    states = {name: _only(found, f"destination {name}") for name in names}
    assert {name: item.state.value for name, item in states.items()} == {
        "web": "ok", "open": "warning", "lost": "FAILED", "hook": "ok", "unsigned": "FAILED", "store": "ok", "nosuch": "FAILED",
    }  # fmt: skip
    assert "login is sent unencrypted" in states["open"].text
    assert "HTTP 404" in states["lost"].text
    assert "secret file" in states["unsigned"].text


@LEAKY_PEER
def test_a_peer_asked_for_commitment_must_offer_it(site: Path, peer: int) -> None:
    pacs = {"kind": "dicom", "host": "127.0.0.1", "port": peer, "ae_title": "WETREAD", "commitment": True}
    item = _only(_items(site, destinations={"pacs": pacs}), "destination pacs")
    assert (item.state, "accepts none of the presentation contexts" in item.text) == (State.FAILED, True)
