"""The troubles of accounts, as the functions find and note them."""

from __future__ import annotations

from rapport.deferred import Deferred
from rapport.store.postgrest import Store, understood


class Figures(Deferred):
    """Of all accounts together; ages in seconds."""

    oldest_outbound_seconds: int
    stopped_numbers: int
    failing_syncs: int


class HealthStore(Store):
    """Each call may be repeated, and raises as `Store` says."""

    def sweep_health(self) -> int:
        """Writes the present troubles of all accounts; returns the number of changed rows."""
        return understood(int, self._call("sweep_health", {}))

    def figures(self) -> Figures:
        """Figures for alarms, as of now."""
        return understood(Figures, self._call("figures", {}))

    def note_refused_signatures(self, count: int) -> None:
        """Counts webhooks that were refused because of a wrong signature."""
        self._call("note_refused_signatures", {"count": count})
