"""The demo from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from rich.console import Console

from dicom_node.demo.collect import CameBack, collect
from dicom_node.demo.display import Progress, busy, progress
from dicom_node.demo.node import TICK_S, DemoError, Node, running_node, send
from dicom_node.demo.place import Place, make_place
from dicom_node.demo.sheet import draw_sheet
from dicom_node.demo.studies import DemoStudy, fault, write_studies
from dicom_node.demo.summary import print_summary
from dicom_node.demo.watch import Stage, failed_attempts, look
from dicom_node.errors import RemoteError, StorageError
from dicom_node.settings import load_settings
from dicom_node.storage.database import Database
from dicom_node.terminal import console as make_console

READ_LIMIT_S: Final = 120.0
LOG_WIDTH: Final = 120  # characters, where there is no terminal to ask
SHEET: Final = "contact-sheet.png"


def run(out: Path) -> int:
    """See ``dicom_node.demo.run``."""
    console = make_console(LOG_WIDTH)
    place = make_place(out)
    try:
        came = _through_a_node(console, place)
    except (DemoError, StorageError, RemoteError) as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        return 1
    print_summary(console, came)
    return _verdict(console, place, came)


def _through_a_node(console: Console, place: Place) -> list[CameBack]:
    with busy(console, "Drawing films of nobody"):
        studies = write_studies(place.films)
    with ExitStack() as stack:
        with busy(console, "Starting the node and loading its models"):
            node = stack.enter_context(running_node(place))
        with busy(console, f"Sending {sum(len(s.files) for s in studies)} images by C-STORE to {node.peer}"):
            send(node, place.films)
        came = _wait_and_collect(console, place, node, studies)
    draw_sheet(place.root / SHEET, came)
    return came


def _wait_and_collect(console: Console, place: Place, node: Node, studies: tuple[DemoStudy, ...]) -> list[CameBack]:
    settings = load_settings(place.settings)
    with closing(Database.open(settings.database_url)) as db:
        with progress(console) as show:
            _wait(db, node, studies, show)
        return [collect(db, place.root / "node" / "delivered", place.root, study) for study in studies]


def _wait(db: Database, node: Node, studies: tuple[DemoStudy, ...], show: Callable[[Progress], None]) -> None:
    """Until every study is delivered. Raises DemoError where one fails, the node ends, or it takes too long."""
    deadline = time.monotonic() + READ_LIMIT_S
    while time.monotonic() < deadline:
        seen = {study: look(db, study) for study in studies}
        show(seen)
        node.check()
        if all(now.ended for now in seen.values()):
            _raise_failed(seen)
            return
        time.sleep(TICK_S)
    why = "; ".join(failed_attempts(db, studies)) or f"see the node's log {node.log}"
    raise DemoError(f"not every study came back within {READ_LIMIT_S:g} s: {why}")


def _raise_failed(seen: Progress) -> None:
    failed = [f"{study.title}: {now.error}" for study, now in seen.items() if now.stage is Stage.FAILED]
    if failed:
        raise DemoError("; ".join(failed))


def _verdict(console: Console, place: Place, came: list[CameBack]) -> int:
    console.print(
        f"Results: {place.root} (structured reports .dcm and .txt, FHIR .json, {SHEET})", markup=False, soft_wrap=True
    )
    faults = [
        f"{one.study.title}: {why}" for one in came for why in (*one.faults, fault(one.study.expected, one.reading)) if why
    ]
    for why in faults:
        console.print(f"Not as expected: {why}", style="bold red", markup=False, soft_wrap=True)
    return 1 if faults else 0
