"""The table at the end of the demo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.demo.collect import CameBack
from inference.reading import Decision, Finding, Reading
from reporting.wording import DISCLAIMER, PHANTOM_MARK

SHOWN = 4  # findings of a film in the table, the likeliest first; the documents hold all


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Positive before negative, then by probability; what was not assessable last."""
    return sorted(
        findings, key=lambda f: (f.decision is not Decision.POSITIVE, -(f.probability if f.probability is not None else -1))
    )


def decision_words(reading: Reading) -> str:
    """The whole reading's decision in a word or two."""
    if not reading.assessed:
        return "not assessable"
    if not reading.positives:
        return "nothing marked"
    return f"{min(reading.positives, key=_urgency).urgency.value} finding"


def print_summary(console: Console, came: Sequence[CameBack]) -> None:
    table = Table(title="What came back", title_justify="left", title_style="bold", show_lines=True)
    table.add_column("Study", min_width=9)
    table.add_column("Findings", no_wrap=True, overflow="ellipsis", max_width=36 if console.width >= 100 else 22)
    table.add_column("Decision", min_width=10)
    table.add_column("Draft", overflow="fold")
    table.add_column("Latency", justify="right", no_wrap=True)
    for one in came:
        decision = Text(decision_words(one.reading), _style(one.reading))
        table.add_row(one.study.title, _findings(one.reading), decision, _draft(one.reading), f"{one.latency_s:.1f} s")
    console.print(table)
    console.print("[dim]Latency: from the last image on the disk to the last document delivered, quiet time included.[/]")
    console.print(Text(f"{DISCLAIMER} {_mark(came)}".strip(), "bold yellow"))


def _mark(came: Sequence[CameBack]) -> str:
    return f"Models: {PHANTOM_MARK}." if any(one.reading.phantom for one in came) else ""


def _findings(reading: Reading) -> Text:
    if not reading.assessed:
        return Text(f"{len(reading.findings)} asked, none assessable", "dim")
    lines = Text()
    for finding in ranked(reading.findings)[:SHOWN]:
        positive = finding.decision is Decision.POSITIVE
        chance = "  –  " if finding.probability is None else f"{100 * finding.probability:4.0f} %"
        lines.append(f"{chance}  {finding.code.meaning}\n", "bold red" if positive else "dim")
    lines.rstrip()
    return lines


def _draft(reading: Reading) -> Text:
    return Text(reading.draft.text) if reading.draft.text else Text(reading.draft.reason or reading.reason, "dim")


def _style(reading: Reading) -> str:
    return "bold red" if reading.positives else "yellow" if not reading.assessed else "blue"


def _urgency(finding: Finding) -> int:
    return list(type(finding.urgency)).index(finding.urgency)
