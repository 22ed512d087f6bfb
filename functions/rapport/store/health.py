"""What is wrong with accounts, as the functions find it."""

from __future__ import annotations

from rapport.store.postgrest import Store, understood


class HealthStore(Store):
    """Each call may be repeated, and raises as `Store` says."""

    def sweep_health(self) -> int:
        """Writes what is wrong with each account now; returns how many rows have changed."""
        return understood(int, self._call("sweep_health", {}))

    def note_refused_signatures(self, count: int) -> None:
        """Counts webhooks that were refused since their signature is wrong."""
        self._call("note_refused_signatures", {"count": count})
