"""Daily jobs: retention, overdue invoices, expired points, and how much accounts keep."""

from __future__ import annotations

from rapport.deferred import Deferred
from rapport.store.postgrest import Store, understood


class Pruned(Deferred):
    """The number of deleted rows of each kind."""

    changes: int
    webhook_events: int
    erased_messages: int
    sync: int
    sent_reminders: int
    scheduled_messages: int
    notifications: int

    @classmethod
    def nothing(cls) -> Pruned:
        """Before the first call."""
        return cls(**dict.fromkeys(cls.model_fields, 0))

    def __add__(self, other: Pruned) -> Pruned:
        """Both together."""
        return Pruned(**{kind: count + getattr(other, kind) for kind, count in self})

    def __bool__(self) -> bool:
        """Whether there was anything to delete."""
        return any(count for _, count in self)


class Kept(Deferred):
    """The number of deleted messages and files, and whether nothing is due any more."""

    messages: int
    files: int
    is_done: bool


class DailyStore(Store):
    """A batch of each at a time; every call may be repeated, and raises as `Store` says."""

    def prune(self, batch: int) -> Pruned:
        """Deletes up to `batch` rows of each kind whose time is over."""
        return understood(Pruned, self._call("prune", {"batch": batch}))

    def mark_overdue_invoices(self, batch: int) -> int:
        """Makes up to `batch` invoices overdue whose last day is over; returns the number."""
        answer = self._call("mark_overdue_invoices", {"batch": batch})
        return understood(int, answer)

    def expire_points(self, batch: int) -> int:
        """Writes off expired points of up to `batch` customers; returns the number of customers."""
        answer = self._call("expire_points", {"batch": batch})
        return understood(int, answer)

    def count_usage(self, batch: int) -> int:
        """Counts what up to `batch` accounts keep; returns the number of accounts."""
        return understood(int, self._call("count_usage", {"batch": batch}))

    def prune_kept(self, batch: int) -> Kept:
        """Deletes up to `batch` messages and files that accounts do not keep any longer."""
        return understood(Kept, self._call("prune_kept", {"batch": batch}))

    def files_to_delete(self, batch: int) -> list[str]:
        """The keys of up to `batch` files to delete from the bucket now."""
        return understood(list[str], self._call("files_to_delete", {"batch": batch}))

    def settle_file_deletions(self, object_keys: list[str]) -> None:
        """Notes that the bucket no longer has these files."""
        self._call("settle_file_deletions", {"object_keys": object_keys})
