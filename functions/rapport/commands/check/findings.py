"""What a check has found: fine, to be looked at, or wrong; and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from rapport.errors import RapportError

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """The result of one check; the remedy is empty where there is nothing to do."""

    check: str
    state: State
    # what was found, with figures
    found: str
    remedy: str = ""


def fine(check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """The deployment works, but not as it could."""
    return Finding(check, "warning", found, remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(check, "wrong", found, remedy)


def gathered(check: str, findings: Iterable[Finding], remedy: str) -> Iterator[Finding]:
    """The findings of one part. An error that ends it is the last, with its remedy if it has one.

    So one part that can't be asked does not keep the others from being looked at.
    """
    try:
        yield from findings
    except RapportError as error:
        yield wrong(check, str(error), error.hint or remedy)


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names with commas between them; beyond `most`, how many more there are."""
    every = list(names)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest


def lasting(seconds: float) -> str:
    """A time in words: 40 seconds, 12 minutes, 5 hours, 3 days."""
    seconds = max(seconds, 0)
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"
