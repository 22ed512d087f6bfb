"""The command `rapport after-restore`: what a database that was restored must not do by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing

import typer
from rich.console import Console

from rapport.commands.project import store_settings
from rapport.errors import ConfigError
from rapport.store.operations import OperationsStore, Restored


def after_restore(*, dry_run: bool, yes: bool, console: Console) -> None:
    """Shows what the restored database held, and holds it once a person has said yes."""
    settings = store_settings()
    with closing(OperationsStore(settings)) as store:
        found = store.after_restore(dry_run=True)
        console.print(f"\n  In {settings.supabase_url}\n", highlight=False, soft_wrap=True)
        _show(_found(found), console)
        if dry_run:
            console.print("\n  Nothing was changed.\n", highlight=False)
            return
        if not yes:
            if not sys.stdin.isatty():
                raise ConfigError("Nobody is here to confirm it. --yes holds without a question.")
            typer.confirm(
                "\n  Hold all of it? On a database in use it stops what waits", abort=True
            )
        held = store.after_restore(dry_run=False)
    console.print()
    _show(_to_do(held), console)
    console.print()


def _show(lines: Iterator[str], console: Console) -> None:
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _found(found: Restored) -> Iterator[str]:
    latest = found.latest_webhook_at
    yield (
        f"The latest webhook is of {latest:%Y-%m-%d %H:%M} UTC."
        if latest
        else "There is no webhook in it."
    )
    yield f"{found.messages:8} messages waited to be sent"
    yield f"{found.scheduled_messages:8} scheduled messages whose time is over"
    yield f"{found.reminder_rules:8} rules that send reminders"
    yield f"{found.notifications:8} notifications"
    yield f"{found.files:8} files that a worker was fetching"
    yield f"{found.partner_calls:8} calls to Metakocka that had not ended"
    yield f"{found.sync_runs:8} runs of the sync that had not ended"
    yield f"         doorbell: {found.doorbell or 'none'}"


def _to_do(held: Restored) -> Iterator[str]:
    yield (
        f"{held.messages} messages are unknown now. Statuses of WhatsApp settle some; of the others"
        " a person sends or drops each, or `rapport redrive --all --uncertain` sends all."
    )
    yield f"{held.scheduled_messages} scheduled messages have failed: write them anew where needed."
    yield "Reminders that were due are left out, and notifications forgotten."
    yield (
        f"{held.partner_calls} calls to Metakocka count as unknown: the partner is looked for"
        " before another call. Open runs read all partners anew."
    )
    yield "All clients read everything again."
    if held.latest_webhook_at:
        yield (
            f"What WhatsApp delivered after {held.latest_webhook_at:%Y-%m-%d %H:%M} UTC is not in"
            " this database, and WhatsApp does not deliver it again: look at the phones."
        )
    yield (
        f"The doorbell ({held.doorbell}) was taken off. Give it this deployment's own address:"
        " `rapport connect functions`. Until then schedules find the work."
        if held.doorbell
        else "There was no doorbell."
    )
