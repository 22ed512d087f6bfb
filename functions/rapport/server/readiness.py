"""Whether the functions can work: the database is reachable, knows the keys and has the schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from rapport.errors import RapportError
from rapport.log import described, log_crash, logger

# seconds: strangers who ask all the time cause no more calls of the database
KEPT = 2.0


class Readiness:
    """Makes checks, each by the name of what it is about; one that fails raises a RapportError.

    Answers are kept for two seconds, and callers who come at the same time share one.
    """

    def __init__(self, checks: dict[str, Callable[[], object]]) -> None:
        self._checks = checks
        self._lock = asyncio.Lock()
        self._problems: list[str] = []
        self._asked_at: float | None = None

    async def problems(self) -> list[str]:
        """What is wrong and what to do, in sentences without secrets; none if all is well."""
        async with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at > KEPT:
                found = await asyncio.gather(
                    *(run_in_threadpool(_problem, name, run) for name, run in self._checks.items())
                )
                self._problems = [one for one in found if one is not None]
                self._asked_at = time.monotonic()
            return self._problems


def _problem(name: str, check: Callable[[], object]) -> str | None:
    try:
        check()
    except RapportError as error:
        logger.warning("not ready", check=name, extra=described(error))
        return f"{name}: {error}"
    except Exception as error:  # noqa: BLE001 - its words stay in the process
        log_crash(error, check=name)
        return f"{name}: {type(error).__name__}."
    return None
