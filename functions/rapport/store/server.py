"""What a server that runs beside the project asks the database: its schedules, and its address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from rapport.deferred import Deferred
from rapport.errors import StoreError
from rapport.release import VERSION, fit
from rapport.store.postgrest import Store, understood


class ScheduleKey(NamedTuple):
    """A schedule: its function, and its rate in seconds."""

    function: str
    every: int


class ClaimedRun(Deferred):
    """A run that is due, and that this server alone makes."""

    function: str
    every: int
    run: UUID


class Claim(Deferred):
    """The runs to make now, and the seconds until there are others."""

    claimed: list[ClaimedRun]
    next_in: float | None = None


class ServerStore(Store):
    """Each call raises as `Store` says."""

    def require_schema(self) -> None:
        """Raises where the functions can't call the database, or its schema is of a release that
        they don't go with; it is asked once.
        """
        schema = understood(str, self._backend.call("release", {}, repeat=False))
        found = fit(schema)
        if found.is_far:
            raise StoreError(
                f"The schema is of release {schema}, and the functions are of {VERSION}."
                f" {found.value}"
            )

    def claim_runs(self, schedules: Iterable[ScheduleKey], running: Iterable[UUID]) -> Claim:
        """Begins the runs that are due, and says which others this server makes.

        It is asked once: if the answer gets lost, its runs count as dead after 30 seconds.
        """
        asked = {
            "schedules": [one._asdict() for one in schedules],
            "running": [str(run) for run in running],
        }
        return understood(Claim, self._backend.call("claim_scheduled_runs", asked, repeat=False))

    def end_run(self, run: UUID, *, succeeded: bool) -> None:
        """Ends a claimed run."""
        self._call("end_scheduled_run", {"run": str(run), "succeeded": succeeded})

    def set_doorbell(self, url: str, secret: str) -> None:
        """Tells the database where to wake workers; and each minute, where it has pg_cron, the
        schedules.
        """
        self._call("set_doorbell", {"url": url, "secret": secret, "each_minute": True})
