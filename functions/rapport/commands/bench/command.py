"""The command `rapport bench`: figures of temporary stacks, beside others and beside limits."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer
from rich.console import Console

from rapport.commands.bench import report, subscribers
from rapport.commands.bench.measurements import EVERY, Ground, Measurement
from rapport.commands.bench.rows import Row
from rapport.commands.up import TerminalProgress, interrupt_on_signals
from rapport.local.errors import StackError
from rapport.local.stack import launch


def bench(
    names: Sequence[str],
    *,
    is_quick: bool,
    as_json: Path | None,
    as_html: Path | None,
    console: Console,
) -> None:
    """Measures the rows of these names or beginnings of names, or all, and prints a table.

    What is measured is written to the files as it comes.

    Raises:
        typer.BadParameter: Nothing has such a name.
        StackError: A row could not be measured; the others were.
    """
    chosen = _chosen(names, is_quick=is_quick)
    interrupt_on_signals()
    progress = TerminalProgress(Console(stderr=True))
    subscribers.allow_sockets()
    rows: list[Row] = []
    failed: list[str] = []
    with _folder() as shared:
        # the first start creates the database; the second is the one that a developer waits for
        with launch.running(shared, progress) as running:
            machine = report.Machine.of(running.stack, is_quick=is_quick)
        for row in _measured(chosen, shared, progress, failed, is_quick=is_quick):
            if not _is_named(row.name, names):
                continue
            rows.append(row)
            # an interrupted run leaves what it has
            if as_json:
                report.write_json(as_json, machine, rows)
            if as_html:
                report.write_html(as_html, machine, rows)
    report.show(console, machine, rows)
    for file in filter(None, (as_json, as_html)):
        console.print(f"Written: {file}")
    if failed:
        raise StackError(f"Not measured: {', '.join(failed)}. Each failure stands above.")


def _chosen(names: Sequence[str], *, is_quick: bool) -> list[Measurement]:
    every = {name for one in EVERY for name in one.rows}
    for name in names:
        if not any(_is_named(row, [name]) for row in every):
            raise typer.BadParameter(
                f"There is no row {name}. There are: {', '.join(sorted(every))}.", param_hint="ROW"
            )
    return [
        one
        for one in EVERY
        # a row that is asked for by name is measured in full or not at all
        if (one.is_quick or not is_quick)
        and (names or not one.only_named)
        and any(_is_named(row, names) for row in one.rows)
    ]


def _is_named(row: str, names: Sequence[str]) -> bool:
    return not names or any(row == name or row.startswith(f"{name}.") for name in names)


def _measured(
    chosen: Iterable[Measurement],
    shared: Path,
    progress: TerminalProgress,
    failed: list[str],
    *,
    is_quick: bool,
) -> Iterator[Row]:
    waiting = list(chosen)
    while waiting:
        one = waiting[0]
        together = [one] if one.alone else _like(one, waiting)
        waiting = [each for each in waiting if each not in together]
        if one.parts == frozenset():
            yield from _each(together, Ground(is_quick, shared), progress, failed)
            continue
        with (
            _folder() if one.alone else nullcontext(shared) as folder,
            # without the other children, which would compete for the processor
            launch.running(folder, progress, only=one.parts) as running,
        ):
            ground = Ground(is_quick, folder, running.stack)
            yield from _each(together, ground, progress, failed)


def _like(one: Measurement, waiting: Iterable[Measurement]) -> list[Measurement]:
    """Those that can share its stack."""
    return [each for each in waiting if each.parts == one.parts and not each.alone]


def _each(
    measurements: Iterable[Measurement],
    ground: Ground,
    progress: TerminalProgress,
    failed: list[str],
) -> Iterator[Row]:
    for one in measurements:
        try:
            with progress.step(one.step):
                rows = list(one.measure(ground))
        except Exception:  # noqa: BLE001 - what one row meets takes none of the others away
            traceback.print_exc()
            failed += one.rows
        else:
            yield from rows


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rapport-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
