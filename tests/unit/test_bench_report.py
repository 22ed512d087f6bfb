"""The rows of `rapport bench`, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from rich.console import Console

from rapport.commands.bench.command import bench
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.measurements import EVERY
from rapport.commands.bench.report import Machine, write_html, write_json
from rapport.commands.bench.rows import Beside, Point, Row, Wanted

MACHINE = Machine("2026-11-30T00:00:00+00:00", 2, 24.0, "Linux", "3.13", 0.5, False, "on", "on")


def row(*wanted: Wanted, ours: float = 4, baseline: float = 2) -> Row:
    return Row("a.b", "<b>A row</b>", "ms", ours, Beside(baseline, "x < y"), wanted=wanted)


def test_a_row_keeps_its_limits_or_not() -> None:
    assert row().holds is None
    assert row(Wanted("ours", 4)).holds
    assert not row(Wanted("ours", 3.9)).holds
    assert row(Wanted("ratio_to_baseline", 2, at_least=True)).holds
    assert not row(Wanted("ours", 4), Wanted("ratio_to_baseline", 1.9)).holds
    # a limit of something that is not measured is kept by nobody
    with pytest.raises(ValueError, match=r"a\.b has no p95"):
        assert row(Wanted("p95", 1)).holds
    latency = Latency.of([0.001, 0.002, 0.003])
    assert Row.of_latency("a", "A", latency, wanted=[Wanted("p50", 2), Wanted("p95", 3)]).holds


def test_no_two_measurements_give_the_same_row() -> None:
    names = [name for one in EVERY for name in one.rows]
    assert len(names) == len(set(names))


def test_a_name_that_no_row_has_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match=r"There is no row ingest\.x.*ingest\.single"):
        bench(["ingest.x"], is_quick=False, as_json=None, as_html=None, console=Console())


def test_the_files_have_every_row(tmp_path: Path) -> None:
    curve = tuple(Point(of, size, size / 7) for of in ("a, ms", "b, ms") for size in (10, 1_000))
    rows = [
        row(Wanted("ours", 3)),
        Row("c", "C", "/s", 1_234_567, samples=(1, 2, 2, 3), curve=curve),
    ]
    write_json(tmp_path / "rows.json", MACHINE, rows)
    told = json.loads((tmp_path / "rows.json").read_text())
    assert told["machine"]["fsync"] == "on"
    first, second = told["rows"]
    assert (first["ratio_to_baseline"], first["holds"], first["wanted"]) == (2, False, ["≤ 3"])
    assert (second["ours"], second["baseline"], second["holds"]) == (1_234_567, None, None)
    assert len(second["curve"]) == 4

    write_html(tmp_path / "rows.html", MACHINE, rows)
    page = (tmp_path / "rows.html").read_text()
    assert "&lt;b&gt;A row" in page
    assert "<b>" not in page
    assert "1,234,567/s" in page
    assert page.count("<polyline") == 2
    # nothing is asked of another host
    assert "http" not in page
