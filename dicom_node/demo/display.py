"""Progress: redrawn in place on a terminal, a line per change elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dicom_node.demo.studies import DemoStudy
from dicom_node.demo.watch import Seen, Stage

Progress = Mapping[DemoStudy, Seen]
_COLOURS = {
    Stage.WAITING: "dim",
    Stage.RECEIVED: "cyan",
    Stage.READING: "yellow",
    Stage.DELIVERING: "magenta",
    Stage.DELIVERED: "green",
    Stage.FAILED: "bold red",
}
_STEPS = (Stage.RECEIVED, Stage.READING, Stage.DELIVERING, Stage.DELIVERED)


@contextmanager
def busy(console: Console, words: str) -> Iterator[None]:
    """Say what is going on while the body runs, and how long it took."""
    started = monotonic()
    if console.is_terminal:
        with console.status(words):
            yield
    else:
        yield
    console.print(f"{words} [green]done[/] [dim]({monotonic() - started:.1f} s)[/]", highlight=False)


@contextmanager
def progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A function that shows the newest progress."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=12) as live:
            yield lambda seen: live.update(_table(seen))
    else:
        yield _Lines(console).show


class _Lines:
    """One line for each change of a study's stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[DemoStudy, Stage] = {}

    def show(self, seen: Progress) -> None:
        for study, now in seen.items():
            if self._last.get(study) is not now.stage and now.stage is not Stage.WAITING:
                self._console.print(f"  {study.title}: {now.words}", highlight=False, markup=False, soft_wrap=True)
            self._last[study] = now.stage


def _table(seen: Progress) -> Table:
    table = Table(box=None, padding=(0, 2), show_header=False)
    for study, now in seen.items():
        ended = Text("✓", "green") if now.stage is Stage.DELIVERED else Text("✗", "red")
        table.add_row(
            ended if now.ended else Spinner("dots"), study.title, _bar(now.stage), Text(now.words, _COLOURS[now.stage])
        )
    return table


def _bar(stage: Stage) -> Text:
    bar = Text()
    for step in _STEPS:
        bar.append("━━━━", _COLOURS[step] if stage >= step and stage is not Stage.FAILED else "dim")
    return bar
