"""`wetread check`: all that the node needs, tried one after the other, each with a plain reason and what to do.

Nothing is changed: what is not there yet and would be made at the first start is said to be so.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from pynetdicom import AE
from pynetdicom.sop_class import Verification
from rich.console import Console
from rich.text import Text

from dicom_node import app, site_checks
from dicom_node.check_item import PEER_LIMIT_S, nearest_existing
from dicom_node.check_item import Item as Item
from dicom_node.check_item import State as State
from dicom_node.choices import engine_options
from dicom_node.completion import asker
from dicom_node.destination_checks import check_destination
from dicom_node.errors import NodeError, SettingsError
from dicom_node.settings import ListenerSettings, Settings, load_settings
from dicom_node.storage.database import Database
from dicom_node.storage.jobs import list_jobs
from dicom_node.storage.migrations import HEAD
from dicom_node.terminal import console
from inference.bundles import Bundle, verify_bundle
from inference.errors import InferenceError
from inference.options import check_options, heads_of
from inference.reading import UseMode

_FIRST_CREDIBLE_TIME: Final = 1_767_225_600.0  # 2026-01-01: before this software was made
_SKEW_S: Final = 120.0
_SLOW_MS: Final = 250.0


def run(config: Path, *, as_json: bool = False) -> int:
    """Check and print a line per item, or one JSON object.

    Returns 0 when none failed, else 1; 2 where the settings cannot be read.
    """
    out = console()
    found: list[Item] = []
    for item in items(config):
        found.append(item)
        if not as_json:
            _print(out, item)
    failed = [item for item in found if item.state is State.FAILED]
    if as_json:
        plain = [{"name": item.name, "state": item.state.value.lower(), "text": item.text} for item in found]
        print(json.dumps({"ok": not failed, "items": plain}, indent=2))
    return 2 if failed and failed[0].name == "settings" else int(bool(failed))


def items(config: Path) -> Iterator[Item]:
    """Every item, as it is found; only the first where the settings cannot be read."""
    try:
        settings = load_settings(config)
    except SettingsError as error:
        yield Item("settings", State.FAILED, str(error))
        return
    yield Item("settings", State.OK, f"{config} can be used; mode {settings.mode.value}")
    yield _guarded("routes", lambda: _routes(settings))
    yield _clock(settings)
    yield from site_checks.clock_offset(settings)
    yield _guarded("disk", lambda: _disk(settings))
    yield from filter(None, [site_checks.disk_writes(settings.data_folder)])
    yield _guarded("retention", lambda: site_checks.retention(settings))
    yield _guarded("database", lambda: _database(settings))
    for check in (site_checks.secrets, site_checks.certificates, site_checks.titles, site_checks.ports, site_checks.audit):
        yield from check(settings)
    for name in settings.readings:
        yield from _reading(settings, name)
    yield from _acknowledgements(settings)
    yield _guarded("listener", lambda: _listener(settings.listener))
    yield from _senders(settings.listener)
    yield from _archive(settings)
    yield from site_checks.archives(settings)
    yield from site_checks.addresses(settings)
    yield from _destinations(settings)


def _guarded(name: str, check: Callable[[], Item]) -> Item:
    """The item, or a FAILED one with the reason of the package's own errors."""
    try:
        return check()
    except (NodeError, InferenceError) as error:
        return Item(name, State.FAILED, str(error))


def _routes(settings: Settings) -> Item:
    loaded = app.routes_of(settings)
    routes = loaded.routes
    used = loaded.used_destinations()
    unused = sorted(set(settings.destinations) - used)
    if settings.mode is UseMode.ASSIST and not used:
        return Item("routes", State.WARNING, "no route names a destination: results stay on the node and reach nobody")
    if unused:
        return Item("routes", State.WARNING, f"no route sends to {', '.join(unused)}; name it in a route or remove it")
    return Item("routes", State.OK, f"{len(routes)}: {', '.join(route.name for route in routes)}")


def _archive(settings: Settings) -> Iterator[Item]:
    """Asked for a study that nobody has."""
    ask = asker(settings)
    if ask is not None:
        yield _guarded(
            "archive", lambda: Item("archive", State.OK, f"asked for a study it cannot have, it counts {ask('2.25.1')}")
        )


def _clock(settings: Settings) -> Item:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _FIRST_CREDIBLE_TIME:
        return Item("clock", State.FAILED, f"{shown} is in the past; documents would carry wrong dates. Set the clock (NTP)")
    if _newest(settings.data_folder) > now + _SKEW_S:
        return Item("clock", State.WARNING, f"{shown} is before the newest file of {settings.data}; was the clock set back?")
    return Item("clock", State.OK, shown)


def _newest(folder: Path) -> float:
    times = [0.0]
    for path in folder.glob("*"):
        with suppress(OSError):  # of a node that runs: here a moment ago
            times.append(path.lstat().st_mtime)
    return max(times)


def _disk(settings: Settings) -> Item:
    folder = settings.data_folder
    existing = nearest_existing(folder)
    if not existing.is_dir():
        return Item("disk", State.FAILED, f"{existing} is a file; `data` must name a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Item("disk", State.FAILED, f"{existing} cannot be written; give the node's user the right, or change `data`")
    free, watermark = shutil.disk_usage(existing).free >> 20, settings.listener.watermark_mb
    found = f"{folder}: {free} MiB free, watermark {watermark} MiB"
    if free < watermark:
        return Item(
            "disk", State.FAILED, f"{found}: every image will be refused (0xA700). Free room, or lower `listener.watermark_mb`"
        )
    return Item("disk", State.WARNING if free < 2 * watermark else State.OK, found)


def _database(settings: Settings) -> Item:
    file = settings.data_folder / "wetread.sqlite"
    if not settings.database and not file.exists():
        return Item("database", State.OK, f"{file} will be made at the first start")
    with closing(Database.open(settings.database_url, password=settings.database_password(), busy_timeout_s=5)) as db:
        began = time.monotonic()
        newest = max((job.created_at for job in list_jobs(db, limit=1)), default=0.0)
        took = 1000 * (time.monotonic() - began)
        if newest > time.time() + _SKEW_S:
            return Item("database", State.WARNING, f"{db.name} opens, but its newest job is from the future: check the clock")
        apart = db.now() - time.time()
        if db.one_machine and abs(apart) > _SKEW_S:
            told = f"the node's time is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the clock, which was set"
            return Item("database", State.WARNING, f"{told}; it follows slowly; to end that, stop the node for a minute")
        slow = "; every step of every study waits for it" if took > _SLOW_MS else ""
        state = State.WARNING if slow else State.OK
        return Item("database", state, f"{db.name} opens, revision {HEAD}; a query takes {took:.0f} ms{slow}")


def _reading(settings: Settings, name: str) -> Iterator[Item]:
    """The models and the catalogue of one reading; licence and use mode are judged by ``check_options``."""
    label = f"reading {name}"
    options = engine_options(settings, name)
    try:
        triage, drafting, catalogue = check_options(options)
        heads = heads_of(options, triage, catalogue)
    except (InferenceError, SettingsError) as error:
        yield Item(label, State.FAILED, str(error))
        return
    for bundle in filter(None, (triage, drafting)):
        yield _guarded(label, lambda bundle=bundle: _bundle(label, bundle, settings.mode))  # type: ignore[misc]
    yield Item(label, State.OK, f"catalogue {catalogue.identity.name} {catalogue.identity.version}")
    for text in heads.words:
        yield Item(label, State.OK, text)
    if drafting is None:
        yield Item(label, State.WARNING, "no drafting model: documents will hold findings and no draft")


def _bundle(label: str, bundle: Bundle, mode: UseMode) -> Item:
    verify_bundle(bundle)
    card = bundle.card
    if card.phantom and mode is UseMode.ASSIST:
        advice = "import a model (`wetread models import`) before the node meets a patient, or set `mode: research`"
        return Item(
            label, State.WARNING, f"{card.name} is a PHANTOM MODEL, NOT FOR PATIENTS, and mode assist returns results: {advice}"
        )
    return Item(label, State.OK, f"{card.name} {card.version} ({card.kind}, licence {card.licence}): files verified")


def _acknowledgements(settings: Settings) -> Iterator[Item]:
    known = set()
    for name in settings.readings:
        try:
            triage, drafting, _ = check_options(engine_options(settings, name))
        except (InferenceError, SettingsError):
            return
        known |= {bundle.card.name for bundle in (triage, drafting) if bundle}
    for name in settings.acknowledgements:
        if name not in known:
            text = f"{name!r} is the name of no bundle in use; there are: {', '.join(sorted(known))}"
            yield Item("acknowledgements", State.WARNING, text)


def _listener(wished: ListenerSettings) -> Item:
    """Free to listen on, or held by a DICOM node, which is taken to be this one, running."""
    place = f"{wished.host} port {wished.port}"
    family = socket.AF_INET6 if ":" in wished.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((wished.host, wished.port))
            return Item("listener", State.OK, f"{place} is free")
        except OSError as error:
            reason = error.strerror
    if _answers(wished):
        return Item("listener", State.OK, f"{place} is held by a DICOM node that knows {wished.ae_title}: this one, running")
    return Item("listener", State.FAILED, f"cannot listen on {place} ({reason}): change `listener`, or stop what holds it")


def _answers(wished: ListenerSettings) -> bool:
    """Whether a DICOM node there accepts us, or rejects us in so many words."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(wished.host, wished.host)
    entity = AE(ae_title="WETREAD")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = PEER_LIMIT_S / 2
    entity.add_requested_context(Verification)
    association = entity.associate(host, wished.port, ae_title=wished.ae_title)
    if association.is_established:
        association.release()
        return True
    return bool(association.is_rejected)


def _senders(wished: ListenerSettings) -> Iterator[Item]:
    if wished.allow_any:
        yield Item("senders", State.WARNING, "`listener.allow_any` takes images of every caller; only for a closed network")
    elif not wished.allowed:
        yield Item("senders", State.WARNING, "nobody may send: name your PACS under `listener.allowed`")
    else:
        yield Item("senders", State.OK, ", ".join(peer.ae_title for peer in wished.allowed))


def _destinations(settings: Settings) -> Iterator[Item]:
    """All peers at once: one that does not answer holds up no other."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield from pool.map(lambda pair: check_destination(settings, *pair), settings.destinations.items())


def _print(out: Console, item: Item) -> None:
    style = {State.OK: "green", State.WARNING: "bold yellow", State.FAILED: "bold red"}[item.state]
    line = Text.assemble((f"{item.state.value:<8}", style), (f"{item.name}: ", "bold"), item.text)
    out.print(line, soft_wrap=True)
