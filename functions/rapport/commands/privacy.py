"""The commands `rapport privacy …`: all that is known of one person, exported, erased or held."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import typer
from rich.console import Console

from rapport.commands.project import file_storage, store_settings
from rapport.errors import ConfigError, Conflict
from rapport.privacy.erasing import carry_out
from rapport.privacy.exporting import export
from rapport.store.privacy import Found, PrivacyAction, PrivacyStore

_STEPS = {
    "rows": "rows are erased",
    "partners": "the sync looks whether a call to Metakocka has made a partner",
    "files": "files are removed",
    "statistics": "the planner's samples are renewed",
    "search": "the whole database is searched for the person's words",
}


def export_contact(contact_id: UUID, file: Path | None) -> None:
    """Writes the zip, whole or not at all.

    Raises:
        RapportError: A setting is wrong, there is no such contact, the file is there already, or a
            server refuses.
        OSError: The file can't be written.
    """
    console = Console(stderr=True)
    path = file or Path(f"contact-{contact_id}.zip")
    if path.exists():
        raise ConfigError(f"{path} is there already. Name another file, or remove this one.")
    with closing(PrivacyStore(store_settings())) as store:
        storage = file_storage()
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w+b") as target:
                exported = export(store, storage, contact_id, target)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    console.print(
        f"  {exported.rows} rows of {exported.tables} tables and {exported.files} files: {path}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    if exported.left_out:
        console.print(
            f"  {exported.left_out} files are left out; manifest.json says why.", highlight=False
        )


def erase_contact(contact_id: UUID, *, yes: bool) -> bool:
    """Erases a contact, or goes on with an erasure that was cut off; False where it isn't finished.

    Raises:
        RapportError: A setting is wrong, there is no such contact, it is held, or a server refuses.
    """
    console = Console()
    with closing(PrivacyStore(store_settings())) as store:
        storage = file_storage()
        if not yes:
            _ask(store, contact_id, console)
        try:
            action = store.begin_erasure(contact_id)
        except Conflict as error:
            error.hint = _release(contact_id)
            raise
        is_repeated = action.state == "done"
        step = None

        def goes_on(now: PrivacyAction) -> bool:
            nonlocal step
            if now.step != step and now.step is not None:
                step = now.step
                console.print(f"  {_STEPS[step]} …", highlight=False)
            return True

        action = carry_out(store, storage, action.id, goes_on)
    _tell(action, console, is_repeated=is_repeated)
    return action.state == "done"


def _release(contact_id: UUID) -> str:
    return f"If the hold has ended: rapport privacy release {contact_id}"


def hold_contact(contact_id: UUID, reason: str) -> None:
    """Places a contact under a legal hold; raises as `erase_contact`."""
    with closing(PrivacyStore(store_settings())) as store:
        store.hold(contact_id, reason)
    Console().print("  Held: it is neither deleted nor erased until `rapport privacy release`.")


def release_contact(contact_id: UUID) -> None:
    """Ends the legal hold of a contact; raises as `erase_contact`."""
    with closing(PrivacyStore(store_settings())) as store:
        store.release(contact_id)
    Console().print("  Released.")


def show_log(account: str, since: datetime | None) -> None:
    """Prints an account's actions, one a line; raises as `erase_contact`."""
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    with closing(PrivacyStore(store_settings())) as store:
        for one in store.actions(account, since):
            who = one.user_id or "the service"
            rows = sum(one.counts.values())
            told = f"; {rows} rows and files, {one.state}" if one.action == "erase" else ""
            Console(soft_wrap=True).print(
                f"{one.created_at:%Y-%m-%d %H:%M} UTC  {one.action:7}  {one.contact_id}"
                f"  by {who}{told}",
                highlight=False,
                markup=False,
            )


def _ask(store: PrivacyStore, contact_id: UUID, console: Console) -> None:
    overview = store.overview(contact_id, is_logged=False)
    if overview.is_held:
        raise Conflict(
            "This contact is under a legal hold, and nothing of it may be deleted.",
            hint=_release(contact_id),
        )
    console.print(
        f"\n  {overview.account_name}, contact {contact_id}: this erases\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for table in overview.tables:
        if table.rows:
            console.print(f"{table.rows:10} {_words(table.table)}", highlight=False, markup=False)
    console.print(
        "\n  with the files, and the person's part of raw webhooks and broadcasts."
        "\n  Invoices that were sent stay, with their figures alone. Metakocka keeps its partner."
        "\n  It can't be taken back.\n",
        highlight=False,
        soft_wrap=True,
    )
    if not sys.stdin.isatty():
        raise ConfigError("Nobody is here to confirm it. --yes erases without a question.")
    typer.confirm("  Erase?", abort=True)


def _words(table: str) -> str:
    """A table as a person calls it."""
    if table.startswith("realtime.messages"):
        return "broadcasts"
    return table.rpartition(".")[2].replace("_", " ")


def _tell(action: PrivacyAction, console: Console, *, is_repeated: bool) -> None:
    for table, count in sorted(action.counts.items()):
        console.print(f"{count:10} {_words(table)}", highlight=False, markup=False)
    if action.state == "running":
        told = "\n  It isn't finished: the schedule `daily` goes on with it"
        if action.step == "partners":
            told += ", once the sync with Metakocka has settled its last call for the contact"
        if action.step == "files":
            told += ", since this command was not told where the files are (MEDIA_BUCKET)"
        console.print(f"{told}. This command can go on too.", highlight=False, soft_wrap=True)
        return
    left = [*action.remaining, *action.elsewhere]
    already = " already," if is_repeated else ""
    erased = f"\n  Erased{already} at {action.finished_at:%Y-%m-%d %H:%M} UTC."
    if not left:
        console.print(
            f"{erased} No word of the person is left in the database.",
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(
        f"{erased} Words of the person are in {len(left)} rows of others, which stay:",
        highlight=False,
        soft_wrap=True,
    )
    _list(left, console)


def _list(found: Sequence[Found], console: Console) -> None:
    for one in found:
        console.print(
            f"    {_words(one.table)} {one.id or ''}: {', '.join(one.kinds)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
