"""Summarizes the durations of single events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Latency:
    """All values are in milliseconds."""

    count: int
    p50: float
    p95: float
    longest: float
    # all of them, from the shortest
    milliseconds: tuple[float, ...] = ()

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """Of at least two durations."""
        milliseconds = sorted(value * 1000 for value in seconds)
        parts = quantiles(milliseconds, n=20, method="inclusive")
        return cls(len(milliseconds), parts[9], parts[18], milliseconds[-1], tuple(milliseconds))
