"""`wetread web` and `wetread users`: the pages, and who may see them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who may see the pages: people and programs.")

Config = Annotated[Path, typer.Option("--config", "-c", help="The node's settings.")]
Name = Annotated[str, typer.Argument(help="Letters, digits, . _ @ and -, at most 64.")]
PersonsRole = Annotated[str, typer.Option("--role", help="viewer · operator")]
RoleName = Annotated[str, typer.Option("--role", help="viewer · operator · metrics · dicomweb")]


def web(config: Config = Path("node.yaml"), parent: Annotated[int, typer.Option("--parent", hidden=True)] = 0) -> None:
    """Only serve pages, health and metrics. `serve` starts this itself where `web.enabled`."""
    from dicom_node.app import showing

    raise typer.Exit(showing.web(config, parent))


@app.command("set")
def set_user(
    name: Name,
    role: PersonsRole = "viewer",
    config: Config = Path("node.yaml"),
    password_file: Annotated[Path | None, typer.Option(help="Takes the password from a file; else it is asked for.")] = None,
) -> None:
    """Make a person, or give one another password or role."""
    from dicom_node import users

    if password_file is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = users.read_password(password_file)
    typer.echo(users.set_user(config, name, role, password))


@app.command("key")
def make_key(name: Name, role: RoleName = "metrics", config: Config = Path("node.yaml")) -> None:
    """Make a key for a program and print it, once; a key of the same name is replaced."""
    from dicom_node import users

    typer.echo(users.make_key(config, name, role))


@app.command("remove")
def remove(name: Name, config: Config = Path("node.yaml")) -> None:
    """Take a person or a key out; who is logged in is out with the next page."""
    from dicom_node import users

    typer.echo(users.remove(config, name))


@app.command("list")
def show(config: Config = Path("node.yaml")) -> None:
    """List people and keys with their roles."""
    from dicom_node import users

    for line in users.listed(config):
        typer.echo(line)
