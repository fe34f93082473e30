"""The command `wetread`. Heavy libraries are imported inside the commands: `wetread --help` must be quick.

Exit status: 0 done · 1 something failed, as told · 2 the user must change something (configuration, arguments).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.commands import (
    archive,
    backup,
    compare,
    conformance,
    drift,
    findings,
    heads,
    keeping,
    models,
    priors,
    pull,
    questions,
    routes,
    statement,
    status,
    web,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the rich help pages cost half a second of imports
    help="A DICOM node that gives a wet read: triage findings and a draft report. Always a draft, never a diagnosis.",
)
jobs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the node's work: readings and deliveries.")
research = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read an archive, with no way to deliver.")
app.add_typer(jobs, name="jobs")
models.app.command("compare")(compare.compare)
app.add_typer(models.app, name="models")
app.add_typer(research, name="research")
app.add_typer(findings.app, name="findings")
app.add_typer(routes.app, name="routes")
app.add_typer(web.app, name="users")
app.add_typer(heads.probe, name="probe")
app.add_typer(drift.app, name="drift")

Config = Annotated[Path, typer.Option("--config", "-c", help="The settings file (see config/node.yaml).")]
Parent = Annotated[int, typer.Option("--parent", hidden=True)]


@app.command()
def serve(config: Config = Path("node.yaml")) -> None:
    """Run the node: listen, read, deliver. Stop it with SIGTERM or Ctrl-C."""
    from dicom_node.app import listening

    raise typer.Exit(listening.serve(config))


@app.command()
def listen(config: Config = Path("node.yaml"), parent: Parent = 0) -> None:
    """Only receive studies. Other processes read and deliver them; for several machines on one database."""
    from dicom_node.app import listening

    raise typer.Exit(listening.listen(config, parent))


@app.command()
def work(config: Config = Path("node.yaml"), parent: Parent = 0) -> None:
    """Only read studies. `serve` starts this itself."""
    from dicom_node.app import working

    raise typer.Exit(working.work(config, parent))


@app.command()
def deliver(config: Config = Path("node.yaml"), parent: Parent = 0) -> None:
    """Only deliver documents. `serve` starts this itself."""
    from dicom_node.app import delivering

    raise typer.Exit(delivering.deliver(config, parent))


app.command()(web.web)
app.command()(status.status)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made anew.")] = Path("demo-out"),
) -> None:
    """See it work on drawn films. Starts a node, sends it films by C-STORE, and shows what comes back."""
    from dicom_node import demo as show

    raise typer.Exit(show.run(out))


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.")],
    to: Annotated[str, typer.Option("--to", help="AETITLE@HOST:PORT, or a dicom destination of the settings.")],
    aet: Annotated[str, typer.Option("--aet", help="Our calling AE title.")] = "WETREAD",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings, where --to names a destination.")] = None,
) -> None:
    """Send DICOM files to a node or PACS by C-STORE."""
    from dicom_node import sender

    raise typer.Exit(sender.run(paths, to, aet, config))


@app.command()
def check(
    config: Config = Path("node.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
) -> None:
    """Find what is wrong before a study does. Tries settings, models, disk, database and every peer."""
    from dicom_node import checks

    raise typer.Exit(checks.run(config, as_json=as_json))


@app.command()
def events(
    config: Config = Path("node.yaml"),
    kind: Annotated[str | None, typer.Option(help="Such as 'refused instance', 'rejected association', 'conflict'.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """List refusals, conflicts and failures. Newest first, each with its reason."""
    from dicom_node import jobs_view

    raise typer.Exit(jobs_view.show_events(config, kind, limit))


@jobs.command("list")
def jobs_list(
    config: Config = Path("node.yaml"),
    state: Annotated[str | None, typer.Option(help="queued · leased · awaiting · done · dead")] = None,
    kind: Annotated[str | None, typer.Option(help="read · deliver")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """List jobs, newest first, after a count of each state."""
    from dicom_node import jobs_view

    raise typer.Exit(jobs_view.show_list(config, state, kind, limit))


@jobs.command("show")
def jobs_show(job: Annotated[int, typer.Argument(help="Job number.")], config: Config = Path("node.yaml")) -> None:
    """Show one job whole, with the result or document it is about and the events of its study."""
    from dicom_node import jobs_view

    raise typer.Exit(jobs_view.show_one(config, job))


@jobs.command("retry")
def jobs_retry(
    job: Annotated[list[int] | None, typer.Argument(help="Job numbers.")] = None,
    config: Config = Path("node.yaml"),
    destination: Annotated[str | None, typer.Option(help="All dead deliveries to this destination.")] = None,
) -> None:
    """Run dead, done or awaiting jobs again, at once."""
    from dicom_node import jobs_view

    raise typer.Exit(jobs_view.retry(config, job or [], destination))


@jobs.command("destinations")
def jobs_destinations(config: Config = Path("node.yaml")) -> None:
    """Show how each destination stands: what waits for it, whether it is held back, since when and why."""
    from dicom_node import jobs_view

    raise typer.Exit(jobs_view.show_destinations(config))


@research.command("run")
def research_run(
    source: Annotated[Path, typer.Option("--source", help="Folder of DICOM files, searched whole.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; the same again resumes it.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings; the shipped phantom models without.")] = None,
    reading: Annotated[str | None, typer.Option(help="A name under `readings` of the settings; default: the first.")] = None,
) -> None:
    """Read every study of a folder into results.parquet, drafts and errors; nothing is sent."""
    from dicom_node.research import run

    raise typer.Exit(run.run(source, out, config, reading))


for by_hand in (
    keeping.purge, backup.backup, backup.restore, pull.pull, priors.priors, conformance.conformance, questions.ask,
    questions.draft, questions.summarize, archive.embed, archive.search, heads.calibrate,
):  # fmt: skip
    app.command()(by_hand)
app.command("conformance-statement")(statement.conformance_statement)


def main() -> None:
    """Run a command; a user's mistake ends with a sentence on standard error, never a traceback."""
    try:
        app()
    except Exception as error:
        known = _known_errors()
        if not isinstance(error, known):
            raise
        from dicom_node.errors import RemoteError, StorageError

        print(f"wetread: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RemoteError | StorageError) else 2)


def _known_errors() -> tuple[type[Exception], ...]:
    from dicom_node.errors import NodeError
    from inference.errors import InferenceError
    from reporting.errors import ReportingError

    return (NodeError, InferenceError, ReportingError)


if __name__ == "__main__":
    main()
