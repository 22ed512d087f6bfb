"""The troubles of accounts, as the functions find and note them."""

from __future__ import annotations

from rapport.store.postgrest import Store, understood


class HealthStore(Store):
    """Each call may be repeated, and raises as `Store` says."""

    def sweep_health(self) -> int:
        """Writes the present troubles of all accounts; returns the number of changed rows."""
        return understood(int, self._call("sweep_health", {}))

    def note_refused_signatures(self, count: int) -> None:
        """Counts webhooks that were refused because of a wrong signature."""
        self._call("note_refused_signatures", {"count": count})
