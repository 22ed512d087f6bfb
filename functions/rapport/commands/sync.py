"""The command `rapport sync`, against the stack or a hosted project."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from uuid import uuid4

from pydantic import JsonValue
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rapport.commands.project import metakocka_settings, store_settings
from rapport.errors import ConfigError, NotFound
from rapport.log import logger
from rapport.metakocka.endpoints import busy
from rapport.metakocka.sync.preview import Difference, FieldChange, Preview
from rapport.metakocka.sync.progress import Outcome
from rapport.metakocka.sync.run import Report, Sync
from rapport.parameters import secret_source
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import Connection, Counts, Direction, SyncRequest

INTERRUPTED = 130
_DIRECTIONS: dict[str, Direction] = {
    "both": "both",
    "to": "to_metakocka",
    "from": "from_metakocka",
}
_ENTRY = ("name", "email", "street", "post_number", "place")
_SIDES = {"crm": "contact", "metakocka": "Metakocka", None: "undecided"}


def sync(account: str, direction: str, *, dry_run: bool) -> int:
    """Runs with a progress bar and a summary, or shows what a run would do.

    Returns the process's status: 0, 1 when something failed, 130 after Ctrl-C.

    Raises:
        RapportError: An option or a setting is wrong, or one of the two sides is not there.
    """
    if direction not in _DIRECTIONS:
        raise ConfigError(f"--direction is one of {', '.join(_DIRECTIONS)}.")
    # failures are shown below, and are in sync_errors
    logger.setLevel(logging.CRITICAL)
    output = Console()
    settings = metakocka_settings()
    with closing(MetakockaStore(store_settings())) as store:
        try:
            connection = store.connection(account)
        except NotFound:
            raise NotFound(
                f"There is no account {account!r} with an active connection to Metakocka.",
                hint=f"Connect it: rapport connect metakocka {account} --company-id … `rapport"
                " account list` shows all accounts.",
            ) from None
        worker = Sync(
            store,
            secret_source(settings),
            settings,
            worker=f"cli-{uuid4()}",
            remaining=lambda: float("inf"),
        )
        act = _show if dry_run else _run
        return act(output, worker, connection, _DIRECTIONS[direction])


def _run(output: Console, worker: Sync, connection: Connection, direction: Direction) -> int:
    try:
        with _counting(output) as watch:
            report = replace(worker, watch=watch).run(
                connection.account_id, direction, "cli", request=SyncRequest()
            )
    except KeyboardInterrupt:
        output.print(
            "Interrupted. The counted contacts are done; the next run continues from there."
        )
        return INTERRUPTED
    if report is None:
        at_work = worker.store.sync_at_work(connection.account_id)
        output.print(
            str(busy(at_work)) if at_work else "This account is no longer connected to Metakocka."
        )
        return 1
    _summarize(output, report)
    _tell_blocked(output, worker.store.blocked_contacts(connection.account_id))
    return 0 if report.state == "done" and not report.counts.failed else 1


def _summarize(output: Console, report: Report) -> None:
    counts = report.counts
    output.print(
        f"{report.state}: {counts.done:,} looked at, {counts.succeeded:,} synchronized,"
        f" {counts.unchanged:,} unchanged, {counts.waiting:,} waiting, {counts.failed:,} failed."
    )
    for kind, number in sorted(counts.errors.items()):
        output.print(f"  {number:,} {kind.replace('_', ' ')}")
    if report.error:
        output.print(f"  {escape(str(report.error))}")
    if report.paused_until:
        until = f"{report.paused_until.astimezone():%Y-%m-%d %H:%M:%S}"
        output.print(f"  No calls go to Metakocka until {until}; the run continues then.")
    for one in report.troubles:
        output.print(f"  {one.status} {escape(_of(one))}", highlight=False)
    if counts.errors:
        output.print("  sync_errors explains each failure.")
    if counts.waiting:
        output.print(
            "  Waiting contacts are tried again, or need resolve_sync_conflict: see sync_conflicts."
        )


def _of(outcome: Outcome) -> str:
    ids = {"contact": outcome.contact_id, "partner": outcome.metakocka_id}
    whose = ", ".join(f"{what} {id_}" for what, id_ in ids.items() if id_)
    return f"{whose or outcome.id}: {outcome.message}"


def _show(output: Console, worker: Sync, connection: Connection, direction: Direction) -> int:
    kinds: Counter[str] = Counter()
    with worker.client(connection.account_id, connection) as client:
        preview = Preview(worker.store, client, connection, worker.terms(connection))
        for difference in preview.differences(direction):
            kinds[difference.kind] += 1
            _print(output, difference)
    told = ", ".join(
        f"{number:,} {_plural(kind, number)}" for kind, number in sorted(kinds.items())
    )
    output.print(f"Nothing was written. {told or 'There is nothing to do'}.")
    waiting, failed = kinds["question"], kinds["blocked"]
    if told:
        output.print(
            f"A run would have {kinds.total() - waiting - failed:,} synchronized,"
            f" {waiting:,} waiting, {failed:,} failed."
        )
    _tell_blocked(output, failed + worker.store.blocked_contacts(connection.account_id))
    return 0


def _tell_blocked(output: Console, number: int) -> None:
    if number:
        contacts = "1 contact waits" if number == 1 else f"{number:,} contacts wait"
        output.print(f"{contacts} for missing fields: metakocka_partners shows which.")


def _print(output: Console, difference: Difference) -> None:
    name = escape(difference.name or "without a name")
    metakocka_id = f" ({difference.metakocka_id})" if difference.metakocka_id else ""
    reason = f" {escape(difference.reason)}" if difference.reason else ""
    output.print(f"[bold]{difference.kind}[/bold] {name}{metakocka_id}{reason}", highlight=False)
    for change in difference.changes:
        output.print(f"  {escape(_line(change))}", highlight=False)


def _line(change: FieldChange) -> str:
    side, before, after = _SIDES[change.side], _value(change.before), _value(change.after)
    if change.side is None:
        return f"{side}  {change.field}: {before} here, {after} at Metakocka"
    # a new value has no old one
    values = after if change.before in (None, []) else f"{before} → {after}"
    return f"{side}  {change.field}: {values}"


def _value(value: JsonValue) -> str:
    match value:
        case None | []:
            return "—"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_value(one) for one in value)
        case dict():
            # a person is shown by name, an address by its street
            shown = [value[name] for name in _ENTRY if value.get(name)]
            return " ".join(str(one) for one in shown) or "an empty entry"
    return str(value)


def _plural(kind: str, number: int) -> str:
    return kind if number == 1 or kind == "blocked" else f"{kind}s"


@contextmanager
def _counting(output: Console) -> Iterator[Callable[[Counts], object]]:
    """A progress bar, on stderr where a program reads stdout; its length comes later."""
    console = output if output.is_terminal else Console(stderr=True)
    columns = (TextColumn("Contacts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, redirect_stdout=False, redirect_stderr=False, transient=True
    ) as progress:
        task = progress.add_task("contacts", total=None)
        yield lambda counts: progress.update(task, completed=counts.done, total=counts.total)
