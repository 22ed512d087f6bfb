"""The rows of the report: our figure, beside another way to the same end and beside the least that
the parts allow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rapport.commands.bench.latency import Latency

Unit = Literal["ms", "s", "MB", "/s", "calls", "rows", "KB", "tasks", "bubbles", "connections", "%"]
# what a limit is about
Measure = Literal["ours", "p50", "p95", "ratio_to_baseline", "ratio_to_floor"]


class Beside(NamedTuple):
    """Another figure in the unit of ours, and what it is of."""

    value: float
    what: str


class Wanted(NamedTuple):
    """A limit of one of the measures."""

    of: Measure
    limit: float
    # where more is better
    at_least: bool = False

    def __str__(self) -> str:
        name = {
            "ours": "",
            "ratio_to_baseline": "of baseline ",
            "ratio_to_floor": "of floor ",
        }
        sign = "≥" if self.at_least else "≤"
        return f"{name.get(self.of, self.of + ' ')}{sign} {self.limit:g}"


class Point(NamedTuple):
    """What was measured at a size, such as a number of messages."""

    of: str
    size: float
    value: float


@dataclass(frozen=True)
class Row:
    """One row: `baseline` is what a user would do otherwise, `floor` what the parts alone take."""

    name: str
    title: str
    unit: Unit
    ours: float
    baseline: Beside | None = None
    floor: Beside | None = None
    latency: Latency | None = None
    wanted: tuple[Wanted, ...] = ()
    # single measurements in the row's unit, and a curve, for the charts
    samples: tuple[float, ...] = ()
    curve: tuple[Point, ...] = ()

    @classmethod
    def of_latency(
        cls,
        name: str,
        title: str,
        latency: Latency,
        *,
        baseline: Beside | None = None,
        floor: Beside | None = None,
        wanted: Iterable[Wanted] = (),
    ) -> Row:
        """A row in milliseconds whose own figure is the median."""
        return cls(
            name,
            title,
            "ms",
            latency.p50,
            baseline,
            floor,
            latency,
            tuple(wanted),
            latency.milliseconds,
        )

    @property
    def ratio_to_baseline(self) -> float | None:
        return self.ours / self.baseline.value if self.baseline else None

    @property
    def ratio_to_floor(self) -> float | None:
        return self.ours / self.floor.value if self.floor else None

    @property
    def holds(self) -> bool | None:
        """Whether all limits are kept; None where there is none."""
        if not self.wanted:
            return None
        return all(self._keeps(wanted) for wanted in self.wanted)

    def _keeps(self, wanted: Wanted) -> bool:
        value = {
            "ours": self.ours,
            "p50": self.latency.p50 if self.latency else None,
            "p95": self.latency.p95 if self.latency else None,
            "ratio_to_baseline": self.ratio_to_baseline,
            "ratio_to_floor": self.ratio_to_floor,
        }[wanted.of]
        if value is None:
            raise ValueError(f"{self.name} has no {wanted.of}.")
        return value >= wanted.limit if wanted.at_least else value <= wanted.limit
