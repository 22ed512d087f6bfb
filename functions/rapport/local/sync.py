"""The command `rapport sync`, against the stack or a hosted project."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

from pydantic import HttpUrl, JsonValue, SecretStr
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rapport.errors import ConfigError, NotFound
from rapport.local import state
from rapport.local.proxy import without_proxy
from rapport.log import logger
from rapport.metakocka.preview import Change, Difference, Preview
from rapport.metakocka.secrets import secret_source
from rapport.metakocka.sync import Report, Sync
from rapport.metakocka_rows import Connection, Counts, Direction, Request
from rapport.metakocka_store import MetakockaStore
from rapport.settings import MetakockaSettings, StoreSettings

INTERRUPTED = 130
_DIRECTIONS: dict[str, Direction] = {
    "both": "both",
    "to": "to_metakocka",
    "from": "from_metakocka",
}
_SIDES = {"crm": "contact", "metakocka": "Metakocka", None: "undecided"}


def sync(account: str, direction: str, *, dry_run: bool) -> int:
    """Runs with a progress bar and a summary, or shows what a run would do.

    Returns the process's status: 0, 1 when something failed, 130 after Ctrl-C.

    Raises:
        RapportError: An option or a setting is wrong, or one of the two sides is not there.
    """
    if direction not in _DIRECTIONS:
        raise ConfigError(f"--direction is one of {', '.join(_DIRECTIONS)}.")
    # what went wrong is told below, and in sync_errors
    logger.setLevel(logging.CRITICAL)
    output = Console()
    with _store() as (store, settings):
        try:
            connection = store.connection(account)
        except NotFound:
            raise NotFound(
                f"There is no account {account!r} with an active connection to Metakocka."
            ) from None
        with _counting(output) as watch:
            worker = Sync(
                store,
                secret_source(settings),
                settings,
                worker=f"cli-{uuid4()}",
                remaining=lambda: float("inf"),
                watch=watch,
            )
            if not dry_run:
                return _run(output, worker, connection, _DIRECTIONS[direction])
        return _show(output, worker, connection, _DIRECTIONS[direction])


def _run(output: Console, worker: Sync, connection: Connection, direction: Direction) -> int:
    try:
        report = worker.run(connection.account_id, direction, "cli", request=Request())
    except KeyboardInterrupt:
        output.print("Interrupted. What is counted is done, and the next run goes on from there.")
        return INTERRUPTED
    if report is None:
        output.print("Another run is at work for this account: try again when it has ended.")
        return 1
    _summarize(output, report)
    return 0 if report.state == "done" and not report.counts.failed else 1


def _summarize(output: Console, report: Report) -> None:
    counts = report.counts
    output.print(
        f"{report.state}: {counts.done:,} looked at, {counts.succeeded:,} synchronized,"
        f" {counts.unchanged:,} unchanged, {counts.failed:,} failed."
    )
    for kind, number in sorted(counts.errors.items()):
        output.print(f"  {number:,} {kind.replace('_', ' ')}")
    if report.error:
        output.print(f"  {escape(str(report.error))}")
    if counts.errors:
        output.print("  sync_errors and sync_conflicts tell of each.")


def _show(output: Console, worker: Sync, connection: Connection, direction: Direction) -> int:
    kinds: Counter[str] = Counter()
    with worker.client(connection.account_id, connection) as client:
        preview = Preview(worker.store, client, connection, worker.terms(connection))
        for difference in preview.differences(direction):
            kinds[difference.kind] += 1
            _print(output, difference)
    told = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))
    output.print(f"Nothing was written. {told or 'Both sides agree'}.")
    return 0


def _print(output: Console, difference: Difference) -> None:
    name = escape(difference.name or "without a name")
    metakocka_id = f" ({difference.metakocka_id})" if difference.metakocka_id else ""
    reason = f" {escape(difference.reason)}" if difference.reason else ""
    output.print(f"[bold]{difference.kind}[/bold] {name}{metakocka_id}{reason}", highlight=False)
    for change in difference.changes:
        output.print(f"  {escape(_line(change))}", highlight=False)


def _line(change: Change) -> str:
    side, before, after = _SIDES[change.side], _value(change.before), _value(change.after)
    if change.side is None:
        return f"{side}  {change.field}: {before} here, {after} at Metakocka"
    return f"{side}  {change.field}: {before} → {after}"


def _value(value: JsonValue) -> str:
    if isinstance(value, list):
        return f"{len(value)} entries"
    return "—" if value is None else str(value)


@contextmanager
def _store() -> Iterator[tuple[MetakockaStore, MetakockaSettings]]:
    """The project that the environment names, or the stack that runs on this machine."""
    if any(os.environ.get(name) for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")):
        settings, metakocka = StoreSettings.load(), MetakockaSettings.load()
    elif stack := state.running_stack(state.folder()):
        os.environ.update(without_proxy(stack.host))
        settings = StoreSettings(
            supabase_url=HttpUrl(stack.url),
            supabase_service_role_key=SecretStr(stack.service_role_key),
        )
        metakocka = MetakockaSettings(
            metakocka_url=HttpUrl(stack.metakocka_url),
            metakocka_secret_key=SecretStr(stack.metakocka_secret_key),
        )
    else:
        raise ConfigError(
            "There is no database to talk to: start `rapport up`, or set SUPABASE_URL and"
            " SUPABASE_SERVICE_ROLE_KEY."
        )
    store = MetakockaStore(settings)
    try:
        yield store, metakocka
    finally:
        store.close()


@contextmanager
def _counting(output: Console) -> Iterator[Callable[[Counts], object]]:
    """A bar, on stderr where stdout is read by a program; of no length until that is known."""
    console = output if output.is_terminal else Console(stderr=True)
    columns = (TextColumn("Contacts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, redirect_stdout=False, redirect_stderr=False, transient=True
    ) as progress:
        task = progress.add_task("contacts", total=None)
        yield lambda counts: progress.update(task, completed=counts.done, total=counts.total)
