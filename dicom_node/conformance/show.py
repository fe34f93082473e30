"""The verdicts for people (a table of rules for each file at fault) or for machines (one JSON object a line)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.conformance.verdict import Status, Verdict
from dicom_node.terminal import console
from reporting.context import Fault

_STYLES: Final = {
    Status.OK: ("ok", "green"),
    Status.FAULTY: ("FAULT", "bold red"),
    Status.SKIPPED: ("skipped", "dim"),
    Status.UNUSABLE: ("UNUSABLE", "bold yellow"),
}
_QUIET: Final = frozenset({Status.FAULTY, Status.UNUSABLE})


def show(verdicts: Sequence[Verdict], *, as_json: bool, quiet: bool) -> None:
    """Print the verdicts and a summary; with ``quiet`` only files at fault or unusable."""
    shown = [verdict for verdict in verdicts if not quiet or verdict.status in _QUIET]
    if as_json:
        for verdict in shown:
            typer.echo(json.dumps(_plain(verdict)))
        typer.echo(json.dumps({"summary": _counts(verdicts)}))
        return
    out = console()
    for verdict in shown:
        _print(out, verdict)
    out.print(_summary(verdicts), soft_wrap=True)


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "file": verdict.file,
        "status": verdict.status.value,
        "form": verdict.form,
        "what": verdict.what,
        "faults": [{"rule": fault.rule, "clause": fault.clause, "text": fault.text} for fault in verdict.faults],
        "notes": list(verdict.notes),
        "reason": verdict.reason,
    }


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    found = Counter(verdict.status for verdict in verdicts)
    return {
        "files": len(verdicts),
        **{status.value: found[status] for status in Status},
        "faults": sum(len(verdict.faults) for verdict in verdicts),
    }


def _summary(verdicts: Sequence[Verdict]) -> str:
    counts = _counts(verdicts)
    parts = [f"{counts['ok']} without fault", f"{counts['faulty']} at fault ({_count(counts['faults'], 'fault')})"]
    parts += [f"{counts[name]} {name}" for name in ("skipped", "unusable") if counts[name]]
    return f"{_count(counts['files'], 'file')}: {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _print(out: Console, verdict: Verdict) -> None:
    word, style = _STYLES[verdict.status]
    line = Text.assemble((f"{word:<9}", style), printable(verdict.file))
    if verdict.what or verdict.reason:
        line.append(f"  {verdict.reason or verdict.what}", "dim")
    out.print(line, soft_wrap=True)
    if verdict.faults:
        out.print(_table(verdict.faults))
    for note in verdict.notes:
        out.print(Text(f"{'':9}note: {note}", "dim"), soft_wrap=True)


def _table(faults: Sequence[Fault]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("rule", style="red", no_wrap=True)
    table.add_column("clause", style="cyan", max_width=48)
    table.add_column("what is wrong", overflow="fold")
    for fault in faults:
        table.add_row(*(Text(printable(part)) for part in (fault.rule, fault.clause, fault.text)))
    return table


def printable(text: str) -> str:
    """Without what would steer a terminal; bytes of a file name that are no text are shown as marks."""
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in readable)
