"""The command `rapport bench`: figures of a temporary stack, beside their limits."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from rapport.commands.bench import (
    away,
    batch,
    browser,
    cold_start,
    idle,
    ingest,
    live,
    metakocka,
    metakocka_edits,
    portal,
    stream,
    subscribers,
)
from rapport.commands.bench.latency import Latency
from rapport.commands.up import TerminalProgress, interrupt_on_signals
from rapport.local.stack import launch
from rapport.local.stack.running import Stack


@dataclass(frozen=True)
class Figure:
    """One line of the table; `limit` is the required value, in words."""

    name: str
    value: str
    limit: str = ""


def bench() -> None:
    """Starts a stack in a temporary folder, measures it, and prints a table."""
    interrupt_on_signals()
    progress = TerminalProgress(Console(stderr=True))
    folder = Path(tempfile.mkdtemp(prefix="rapport-bench-"))
    try:
        # the first start creates the database; the second is the one that a developer waits for
        with launch.running(folder, progress):
            pass
        figures = [*_cold_starts(progress), *_idle(folder, progress)]
        with launch.running(folder, progress) as running:
            figures += _live(running.stack, progress)
        # without the other children, which would compete for the processor
        with launch.running(folder, progress, only={"postgrest"}) as running:
            figures += [*_batch(running.stack, progress), *_ingest(running.stack, progress)]
    finally:
        shutil.rmtree(folder)
    _show(figures)


def bench_metakocka() -> None:
    """Edits contacts in one temporary stack, and imports partners into another, empty one."""
    interrupt_on_signals()
    progress = TerminalProgress(Console(stderr=True))
    folders = [Path(tempfile.mkdtemp(prefix="rapport-bench-")) for _ in range(2)]
    parts = {"postgrest", "gateway", "functions", "fakes", "net"}
    try:
        with (
            launch.running(folders[0], progress, only=parts) as running,
            progress.step(f"Editing a contact {metakocka_edits.ROUNDS} times"),
        ):
            edits = metakocka_edits.measure(running.stack)
        with (
            launch.running(folders[1], progress, only={"postgrest", "gateway"}) as running,
            progress.step(f"Importing {metakocka.PARTNERS:,} partners"),
        ):
            measured = metakocka.measure(running.stack)
    finally:
        for folder in folders:
            shutil.rmtree(folder)
    _show(
        [
            Figure(
                "Edit to partner, after the last edit",
                f"p50 {edits.latency.p50:.0f} ms, p95 {edits.latency.p95:.0f} ms",
                "≤ 2 s",
            ),
            Figure("… calls for them", f"{edits.pushes}", f"{edits.rounds}"),
            Figure("First import", f"{measured.first_s:.1f} s, {measured.per_second:.0f}/s"),
            Figure("… beside one by one", f"{measured.times_one_by_one:.1f} times as fast", "≥ 5"),
            Figure("… in the database", f"{measured.first_cpu_s:.1f} s"),
            Figure("… beside COPY", f"{measured.times_copy:.2f} times as long", "≤ 4"),
            Figure("… events to followers", f"{measured.events}", "1"),
            Figure("Second run, 1 % changed", f"{measured.second_s:.1f} s"),
            Figure("… contacts written", f"{measured.second_writes}", f"{measured.changed}"),
        ]
    )


def bench_portal() -> None:
    """Starts a stack in a temporary folder, and measures how fast live clients hear of changes."""
    interrupt_on_signals()
    progress = TerminalProgress(Console(stderr=True))
    subscribers.allow_sockets()
    folder = Path(tempfile.mkdtemp(prefix="rapport-bench-"))
    try:
        with launch.running(folder, progress, only={"postgrest", "gateway"}) as running:
            figures = [
                *_portal(running.stack, progress),
                *_subscribers(running.stack, progress),
                *_away(running.stack, progress),
                *_browser(running.stack, progress),
            ]
    finally:
        shutil.rmtree(folder)
    _show(figures)


def _idle(folder: Path, progress: TerminalProgress) -> list[Figure]:
    subscribers.allow_sockets()
    with progress.step(f"Starting `rapport up`, and {idle.SOCKETS:,} sockets that do nothing"):
        figures = idle.measure(folder)
    return [
        Figure("Warm start", f"{figures.start_s:.1f} s", "≤ 5 s"),
        Figure("Memory, idle (PSS)", f"{figures.memory / 1e6:.0f} MB", "≤ 462 MB"),
        Figure(
            f"… {idle.SOCKETS:,} idle sockets more", f"{figures.sockets / 1e6:.0f} MB", "≤ 40 MB"
        ),
        Figure(f"… {idle.CHANNELS:,} channels more", f"{figures.channels / 1e6:.0f} MB", "≤ 60 MB"),
    ]


def _cold_starts(progress: TerminalProgress) -> list[Figure]:
    with progress.step(f"Starting each function {cold_start.ROUNDS} times"):
        measured = cold_start.measure()
    webhook = "whatsapp_webhook"
    others = [name for name in measured.functions if name != webhook]
    slowest = max(others, key=measured.times)
    return [
        Figure("Cold start, supabase-py", f"{measured.supabase * 1000:.0f} ms"),
        Figure(f"… {webhook} beside it", f"{measured.times(webhook):.2f}", "≤ 0.45"),
        Figure(f"… {slowest}, the slowest", f"{measured.times(slowest):.2f}", "≤ 0.6"),
    ]


def _live(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step(f"Sending {live.MESSAGES} messages, one at a time"):
        figures = live.measure(stack)
    with progress.step(f"Sending {stream.MESSAGES} messages, {stream.PER_SECOND:.0f} a second"):
        steady = stream.measure(stack)
    return [
        Figure(f"Webhook to {name}", _times(latency), limit)
        for name, latency, limit in (
            ("its answer", figures.answer, ""),
            ("broadcast callback", figures.broadcast, "p50 ≤ 60 ms, p95 ≤ 150 ms"),
            ("postgres_changes callback", figures.postgres_changes, ""),
            (f"live client, {stream.PER_SECOND:.0f} a second", steady, "p95 ≤ 250 ms"),
        )
    ]


def _batch(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step(
        f"Taking in {batch.UPDATES:,} updates at once, of {batch.CONVERSATIONS} conversations"
    ):
        figures = batch.measure(stack)
    return [
        Figure(
            f"Webhook of {batch.UPDATES:,} {what}",
            f"{median(taken):.2f} ms each, least {min(taken):.2f}",
            "≤ 0.25 ms",
        )
        for what, taken in (("messages", figures.messages), ("statuses", figures.statuses))
    ]


def _portal(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    load = portal.PortalLoad()
    with progress.step(f"Changing {load.changes:,} appointments of {load.customers} customers"):
        figures = portal.measure(stack, load)
    return [
        Figure("Change to callback, one customer", _times(figures.alone), "p50 ≤ 60 ms"),
        Figure("… the slowest", f"{figures.alone.longest:.0f} ms", "< 500 ms"),
        Figure(
            f"… {load.customers} customers, {load.per_second:.0f} a second",
            _times(figures.together),
        ),
        Figure("… the slowest", f"{figures.together.longest:.0f} ms", "< 1000 ms"),
    ]


def _subscribers(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step(f"Changing what {subscribers.SUBSCRIBERS:,} sockets follow"):
        figures = subscribers.measure(stack)
    one, many = figures.with_one, figures.with_many
    return [
        Figure("Change in the database, 1 subscriber", f"{one.writing:.2f} ms"),
        Figure(f"… {figures.subscribers:,} subscribers", f"{many.writing:.2f} ms"),
        Figure("… beside one", f"{figures.times:.2f} times", "≤ 1.1"),
        Figure("… with what Realtime asks", f"{figures.times_all:.2f} times"),
    ]


def _away(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step(
        f"Making {away.CHANGES:,} changes for an absent client, {away.ROUNDS} times"
    ):
        figures = away.measure(stack)
    seconds = figures.seconds
    return [
        Figure(
            f"Catch-up after {figures.changes:,} changes",
            f"{median(seconds):.1f} s, least {min(seconds):.1f}",
            "≤ 2 s",
        )
    ]


def _browser(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step("Changing what a page in a browser follows"):
        figures = browser.measure(stack)
    live, official = figures.live, figures.official
    return [
        Figure("Change to callback in a browser", _times(live), "p50 ≤ 20 ms"),
        Figure("… with the official client alone", _times(official)),
        Figure("… the live client beside it", f"{live.p50 / official.p50:.2f} times"),
        Figure(
            f"Catch-up in a browser after {figures.missed:,} changes",
            f"{median(figures.seconds):.1f} s, least {min(figures.seconds):.1f}",
            "≤ 1 s",
        ),
    ]


def _times(latency: Latency) -> str:
    return f"p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms"


def _ingest(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step(f"Sending through PostgREST, {ingest.ROUNDS} rounds each"):
        measured = ingest.measure(stack)
    return [line for figures in measured for line in _ingest_lines(figures)]


def _ingest_lines(figures: ingest.IngestFigures) -> list[Figure]:
    rates = figures.per_second
    return [
        Figure(f"With {figures.connections} connections: empty RPC", f"{rates.empty_rpc:.0f}/s"),
        Figure("backend.ingest_whatsapp", f"{rates.ingest:.0f}/s"),
        Figure("Select, insert, update", f"{rates.select_insert_update:.0f}/s"),
        Figure("Ingest / empty RPC", f"{figures.of_empty_rpc:.2f}", "≥ 0.35"),
        Figure("Ingest / select, insert, update", f"{figures.times_baseline:.1f}", "≥ 4"),
    ]


def _show(figures: list[Figure]) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(title=f"{os.cpu_count()} processors, load {load}", title_justify="left")
    table.add_column("Figure")
    table.add_column("Measured", justify="right")
    table.add_column("Wanted")
    for figure in figures:
        table.add_row(figure.name, figure.value, figure.limit)
    Console().print(table)
