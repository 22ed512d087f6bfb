"""The command `rapport bench`: figures of a stack of its own, beside what they should be."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from rapport.local import launch
from rapport.local.bench import ingest, live, metakocka
from rapport.local.stack import Stack
from rapport.local.up import TerminalProgress, interrupt_on_signals

SETTLED_S = 3.0


@dataclass(frozen=True)
class Figure:
    """One line of the table; `limit` says in words what is asked of it."""

    name: str
    value: str
    limit: str = ""


def bench() -> None:
    """Starts a stack in a temporary folder, measures it, and prints a table."""
    interrupt_on_signals()
    progress = TerminalProgress(Console(stderr=True))
    folder = Path(tempfile.mkdtemp(prefix="rapport-bench-"))
    try:
        # the first start makes the database; the second is what a developer waits for
        with launch.running(folder, progress):
            pass
        before = time.perf_counter()
        with launch.running(folder, progress) as running:
            figures = [
                Figure("Warm start", f"{time.perf_counter() - before:.1f} s", "≤ 6 s"),
                _memory(),
                *_live(running.stack, progress),
            ]
        # nothing else takes part in this one
        with launch.running(folder, progress, only={"postgrest"}) as running:
            figures += _ingest(running.stack, progress)
    finally:
        shutil.rmtree(folder)
    _show(figures)


def bench_metakocka() -> None:
    """Starts a stack in a temporary folder, and imports partners into it from the stand-in."""
    interrupt_on_signals()
    progress = TerminalProgress(Console(stderr=True))
    folder = Path(tempfile.mkdtemp(prefix="rapport-bench-"))
    try:
        with (
            launch.running(folder, progress, only={"postgrest", "gateway"}) as running,
            progress.step(f"Importing {metakocka.PARTNERS:,} partners"),
        ):
            measured = metakocka.measure(running.stack)
    finally:
        shutil.rmtree(folder)
    _show(
        [
            Figure("First import", f"{measured.first_s:.1f} s, {measured.per_second:.0f}/s"),
            Figure("… beside one by one", f"{measured.times_one_by_one:.1f} times as fast", "≥ 5"),
            Figure("… in the database", f"{measured.first_cpu_s:.1f} s"),
            Figure("… beside COPY", f"{measured.times_copy:.2f} times as long", "≤ 4"),
            Figure("… events to those who follow", f"{measured.events}", "1"),
            Figure("Second run, 1 % changed", f"{measured.second_s:.1f} s"),
            Figure("… contacts written", f"{measured.second_writes}", f"{measured.changed}"),
        ]
    )


def _memory() -> Figure:
    """The proportional set size of this process and all that it has started."""
    # what a start takes is given back a moment later
    time.sleep(SETTLED_S)
    this = psutil.Process()
    processes = [this, *this.children(recursive=True)]
    total = sum(process.memory_full_info().pss for process in processes)
    return Figure("Memory, idle (PSS)", f"{total / 1e6:.0f} MB", "≤ 500 MB")


def _live(stack: Stack, progress: TerminalProgress) -> list[Figure]:
    with progress.step(f"Sending {live.MESSAGES} messages, one at a time"):
        figures = live.measure(stack)
    return [
        Figure(
            f"Webhook to {name}",
            f"p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms",
            limit,
        )
        for name, latency, limit in (
            ("its answer", figures.answer, ""),
            ("broadcast callback", figures.broadcast, "p50 ≤ 60 ms, p95 ≤ 150 ms"),
            ("postgres_changes callback", figures.postgres_changes, ""),
        )
    ]


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
