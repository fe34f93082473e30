"""What a run comes to, for the person at the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.research.files import RunFolder
from dicom_node.research.manifest import Counts


def show(console: Console, folder: RunFolder, counts: Counts) -> None:
    table = Table(title=Text(f"Research run {folder.root.name}"), title_justify="left", show_header=False)
    for name, value in _rows(counts):
        table.add_row(name, value)
    console.print(table)
    told = [f"{folder.results}: a row per study and finding; drafts, errors and manifest beside it"]
    if counts.failed:
        told.append("Failed studies stand in errors.jsonl; the same command tries them again.")
    console.print("\n".join(told), highlight=False, markup=False, soft_wrap=True)


def _rows(counts: Counts) -> list[tuple[str, str]]:
    gone = [("studies no longer in the source, left out", str(counts.gone))] if counts.gone else []
    return [
        ("files", str(counts.files)),
        ("files of no study (errors.jsonl)", str(counts.files_of_no_study)),
        ("studies", str(counts.studies)),
        ("  assessed", str(counts.assessed)),
        ("  not assessable (errors.jsonl)", str(counts.not_assessable)),
        ("  failed (errors.jsonl)", str(counts.failed)),
        *gone,
        *((f"positive: {name}", str(number)) for name, number in counts.positive.items()),
    ]
