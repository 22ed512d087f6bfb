"""The command line. A command imports its module when it runs, so that each starts fast."""

from __future__ import annotations

import os
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def rapport() -> None:
    """One truth about a customer in Postgres on Supabase, shown live."""
    if os.name == "nt":
        typer.echo("rapport: Postgres' binaries are not for Windows. Use WSL 2.", err=True)
        raise typer.Exit(1)


@app.command()
def up(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when everything is ready.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the stack's data and secrets first.")
    ] = False,
) -> None:
    """Start the whole system on this machine, until Ctrl-C."""
    from rapport.local.up import up

    up(as_json=as_json, fresh=fresh)


@app.command()
def demo() -> None:
    """Send one WhatsApp message through the system and watch it arrive."""
    from rapport.local.demo import demo

    demo()


@app.command()
def bench() -> None:
    """Measure speed and memory on a stack of its own."""
    from rapport.local.bench.command import bench

    bench()


@app.command()
def doctor() -> None:
    """Check whether this machine can run the system."""
    from rich.console import Console

    from rapport.local.doctor import examine, show

    findings = examine()
    show(findings, Console())
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Runs a command; what keeps it from working is one sentence on stderr and status 1."""
    from rapport.local.errors import StackError

    try:
        app()
    except (StackError, OSError) as error:
        typer.echo(f"rapport: {error}", err=True)
        raise SystemExit(1) from None
