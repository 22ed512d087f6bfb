"""The measured rows as a table, as JSON, and as a page with charts that needs nothing else."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from math import log10
from pathlib import Path

import psutil
import psycopg
from pydantic import JsonValue
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rapport.commands.bench.rows import Point, Row
from rapport.local.errors import StackError
from rapport.local.stack.running import Stack

_BARS = 24
_WIDTH, _HEIGHT = 360, 120


@dataclass(frozen=True)
class Machine:
    """Where and how it was measured."""

    at: str
    processors: int
    memory_gb: float
    system: str
    python: str
    # how many processes wanted a processor in the last minute, at the beginning
    load: float
    is_quick: bool
    # of the stack's Postgres
    fsync: str
    synchronous_commit: str

    @classmethod
    def of(cls, stack: Stack, *, is_quick: bool) -> Machine:
        """This machine, with the running stack's settings.

        Raises StackError where Postgres would not keep what it has acknowledged.
        """
        with psycopg.connect(stack.db_url()) as owner:
            row = owner.execute(
                "select current_setting('fsync'), current_setting('synchronous_commit')"
            ).fetchone()
        fsync, synchronous_commit = row or ("", "")
        if (fsync, synchronous_commit) != ("on", "on"):
            raise StackError(
                f"fsync is {fsync} and synchronous_commit {synchronous_commit}: the figures would"
                " mean nothing. Both must be on."
            )
        return cls(
            datetime.now(UTC).isoformat(timespec="seconds"),
            os.cpu_count() or 1,
            round(psutil.virtual_memory().total / 1e9, 1),
            f"{platform.system()} {platform.machine()}",
            platform.python_version(),
            round(os.getloadavg()[0], 1),
            is_quick,
            fsync,
            synchronous_commit,
        )

    def __str__(self) -> str:
        quick = ", few rounds" if self.is_quick else ""
        return f"{self.processors} processors, load {self.load:.1f}{quick}"


def show(console: Console, machine: Machine, rows: Sequence[Row]) -> None:
    """Prints the rows."""
    table = Table(title=str(machine), title_justify="left", box=box.SIMPLE)
    # a terminal of 80 columns shows all of it
    table.add_column("Row", min_width=20)
    for name in ("Ours", "Baseline", "Floor", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Wanted", min_width=20)
    for row in rows:
        table.add_row(
            Text.assemble(row.name, ("\n" + row.title, "dim")),
            _value(row.ours, row),
            _ratio(row.ratio_to_baseline),
            _ratio(row.ratio_to_floor),
            f"{row.latency.p95:.3g}" if row.latency else "",
            _wanted(row),
        )
    console.print(table)
    console.print("Baseline and floor: ours as a multiple of them.")


def write_json(file: Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Writes what a program compares."""
    told: dict[str, JsonValue] = {
        "machine": asdict(machine),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "unit": row.unit,
                "ours": row.ours,
                "baseline": row.baseline.value if row.baseline else None,
                "floor": row.floor.value if row.floor else None,
                "ratio_to_baseline": row.ratio_to_baseline,
                "ratio_to_floor": row.ratio_to_floor,
                "p50": row.latency.p50 if row.latency else None,
                "p95": row.latency.p95 if row.latency else None,
                "wanted": [str(wanted) for wanted in row.wanted],
                "holds": row.holds,
                "curve": [
                    {"of": one.of, "size": one.size, "value": one.value} for one in row.curve
                ],
            }
            for row in rows
        ],
    }
    file.write_text(json.dumps(told, indent=2) + "\n")


def write_html(file: Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Writes one page; its charts are drawn in it."""
    told = escape(
        f"{machine.at}, {machine}, {machine.memory_gb} GB, {machine.system}, Python"
        f" {machine.python}; fsync {machine.fsync}, synchronous_commit {machine.synchronous_commit}"
    )
    parts = "\n".join(_section(row) for row in rows)
    file.write_text(
        "<!doctype html>\n"
        '<html lang="en"><meta charset="utf-8"><title>Rapport: measured</title>\n'
        f"<style>{_STYLE}</style>\n<h1>Rapport: measured</h1>\n<p>{told}</p>\n{parts}\n</html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "section{border-top:1px solid #ccc;padding:1rem 0;display:grid;gap:.5rem}"
    "h2{font-size:1rem;margin:0}p{margin:0;color:#555}svg{max-width:100%;height:auto}"
    "text{font:12px system-ui,sans-serif;fill:#333}.bad{color:#b00020}.good{color:#1a7f37}"
)
_COLOURS = ("#2563eb", "#c2410c", "#15803d", "#7c3aed", "#0e7490", "#a16207")


def _section(row: Row) -> str:
    verdict = {True: '<p class="good">', False: '<p class="bad">', None: "<p>"}[row.holds]
    charts = [_bars(row)]
    if len(row.samples) > 1:
        charts.append(_distribution(row))
    if row.curve:
        charts += [
            _curves(title, list(points))
            for title, points in groupby(
                sorted(row.curve, key=lambda one: one.of.rpartition(", ")[2]),
                key=lambda one: one.of.rpartition(", ")[2],
            )
        ]
    return (
        f"<section><h2>{escape(row.name)}: {escape(row.title)}</h2>"
        f"{verdict}{escape(_value(row.ours, row))} {escape(_wanted(row))}</p>"
        f"{''.join(charts)}</section>"
    )


def _bars(row: Row) -> str:
    """Ours, beside the baseline and the floor."""
    bars = [("ours", row.ours)]
    bars += [(beside.what, beside.value) for beside in (row.baseline, row.floor) if beside]
    longest = max(value for _, value in bars) or 1
    drawn = "".join(
        f'<rect x="0" y="{place * 34 + 16}" height="14" fill="{_COLOURS[place]}"'
        f' width="{max(value / longest * 560, 1):.1f}"/>'
        f'<text x="0" y="{place * 34 + 12}">{escape(what)}: {escape(_value(value, row))}</text>'
        for place, (what, value) in enumerate(bars)
    )
    return f'<svg width="600" height="{len(bars) * 34}" role="img">{drawn}</svg>'


def _distribution(row: Row) -> str:
    """How often which values were measured."""
    low, high = min(row.samples), max(row.samples)
    step = (high - low) / _BARS or 1
    counts = [0] * _BARS
    for value in row.samples:
        counts[min(int((value - low) / step), _BARS - 1)] += 1
    wide = _WIDTH / _BARS
    drawn = "".join(
        f'<rect x="{place * wide:.1f}" width="{wide - 1:.1f}" fill="{_COLOURS[0]}"'
        f' y="{_HEIGHT - number / max(counts) * _HEIGHT:.1f}"'
        f' height="{number / max(counts) * _HEIGHT:.1f}"/>'
        for place, number in enumerate(counts)
    )
    ends = (
        f'<text x="0" y="{_HEIGHT + 14}">{escape(_value(low, row))}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">'
        f"{escape(_value(high, row))}</text>"
    )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT + 18}" role="img">{drawn}{ends}</svg>'


def _curves(unit: str, points: Sequence[Point]) -> str:
    """Lines over sizes, which stand at equal distances where they grow by the same factor; or over
    minutes.
    """
    sizes = sorted({one.size for one in points})
    highest = max(one.value for one in points) or 1
    # minutes begin near 0
    scale: Callable[[float], float] = log10 if sizes[0] >= 1 else float
    first, last = scale(sizes[0]), scale(sizes[-1])

    def place(one: Point) -> str:
        x = (scale(one.size) - first) / ((last - first) or 1) * _WIDTH
        return f"{x:.1f},{_HEIGHT - one.value / highest * _HEIGHT:.1f}"

    lines = ""
    for number, (of, line) in enumerate(groupby(points, key=lambda one: one.of)):
        colour = _COLOURS[number % len(_COLOURS)]
        lines += (
            f'<polyline fill="none" stroke="{colour}" stroke-width="2"'
            f' points="{" ".join(place(one) for one in line)}"/>'
            f'<text x="{_WIDTH + 10}" y="{number * 18 + 12}" style="fill:{colour}">'
            f"{escape(of)}</text>"
        )
    ends = "".join(
        f'<text x="{x}" y="{_HEIGHT + 14}" text-anchor="{anchor}">{size:,.0f}</text>'
        for x, anchor, size in ((0, "start", sizes[0]), (_WIDTH, "end", sizes[-1]))
    )
    top = f'<text x="0" y="12">{highest:.3g} {escape(unit)}</text>'
    height = max(_HEIGHT, len({one.of for one in points}) * 18) + 18
    return f'<svg width="{_WIDTH + 300}" height="{height}" role="img">{lines}{ends}{top}</svg>'


def _value(value: float, row: Row) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number}{row.unit}" if row.unit == "/s" else f"{number} {row.unit}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _wanted(row: Row) -> str:
    mark = {True: "", False: " (missed)", None: ""}[row.holds]
    return ", ".join(map(str, row.wanted)) + mark
