"""The command `rapport replay`: parses stored webhooks again with the present parser."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rapport.commands.project import store_settings
from rapport.errors import RapportError
from rapport.local.errors import StackError
from rapport.store.webhooks import EventSpan, WebhookStore
from rapport.whatsapp.replay import Replayed
from rapport.whatsapp.replay import replay as replay_events

# failed events that are named
_NAMED = 10


@dataclass
class ReplaySummary:
    """The counts of a replay so far."""

    events: int = 0
    applied: int = 0
    corrected: int = 0
    rejected: int = 0
    failures: list[Replayed] = field(default_factory=list)

    def add(self, replayed: Replayed) -> None:
        self.events += 1
        self.applied += replayed.applied
        self.corrected += replayed.corrected
        self.rejected += replayed.rejected
        if replayed.failure:
            self.failures.append(replayed)


def replay(*, since: datetime, until: datetime | None, dry_run: bool) -> bool:
    """Replays the webhooks from `since` to before `until`, with a progress bar.

    Times without a zone are UTC. Returns False where an event failed.

    Raises StackError when it can't continue; its changes so far stay.
    """
    console = Console()
    settings = store_settings()
    since, until = _utc(since), until and _utc(until)
    summary = ReplaySummary()
    try:
        with closing(WebhookStore(settings)) as store:
            span = store.span_of_webhook_events(since, until)
            console.print(
                f"\n  {span.events} webhooks since {since:%Y-%m-%d %H:%M} UTC"
                f" in {settings.supabase_url}\n",
                highlight=False,
                soft_wrap=True,
            )
            _run(store, span, summary, since=since, until=until, dry_run=dry_run)
    except RapportError as error:
        raise StackError(
            f"{error} {summary.events} webhooks were replayed before that."
            " Run the command again for the rest."
        ) from error
    _show(summary, console, dry_run=dry_run)
    return not summary.failures


def _run(
    store: WebhookStore,
    span: EventSpan,
    summary: ReplaySummary,
    *,
    since: datetime,
    until: datetime | None,
    dry_run: bool,
) -> None:
    if span.first_id is None or span.last_id is None:
        return
    columns = (TextColumn("  "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replay", total=span.events)
        for replayed in replay_events(
            store,
            since=since,
            until=until,
            first_id=span.first_id,
            last_id=span.last_id,
            dry_run=dry_run,
        ):
            summary.add(replayed)
            progress.advance(task)


def _show(summary: ReplaySummary, console: Console, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    lines = [
        f"{summary.events:8} replayed",
        f"{summary.applied:8} updates {would}added",
        f"{summary.corrected:8} messages {would}corrected",
        f"{summary.rejected:8} updates still not applied",
        f"{len(summary.failures):8} failed",
    ]
    lines += [f"         {one.event_id}: {one.failure}" for one in summary.failures[:_NAMED]]
    for line in lines:
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
    if dry_run:
        console.print("\n  Nothing was changed.", highlight=False)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
