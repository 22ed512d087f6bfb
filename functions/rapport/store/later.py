"""Work that has a time: scheduled messages, reminders, and the end of snoozes."""

from __future__ import annotations

from pydantic import AwareDatetime, JsonValue

from rapport.deferred import Deferred
from rapport.store.postgrest import Store, understood


class Sent(Deferred):
    """The counts of one call, and the time of the next message."""

    sent: int
    failed: int = 0
    # reminders that were due but reach nobody
    dropped: int = 0
    # to the end of the quiet hours
    moved: int = 0
    is_done: bool
    next_at: AwareDatetime | None = None
    # of reminders: where the next call goes on
    after: JsonValue = None


class LaterStore(Store):
    """A batch at a time; every call may be repeated, and raises as `Store` says."""

    def send_scheduled(self, batch: int) -> Sent:
        """Posts up to `batch` messages whose time has come."""
        return understood(Sent, self._call("send_scheduled", {"batch": batch}))

    def send_reminders(self, batch: int, after: JsonValue = None) -> Sent:
        """Looks at up to `batch` reminders that are due, after those of the call before: sends
        them, or drops those that reach nobody.
        """
        return understood(Sent, self._call("send_reminders", {"batch": batch, "after": after}))

    def end_snoozes(self, batch: int) -> int:
        """Ends up to `batch` snoozes whose time has come; 0 means that none is left."""
        return understood(int, self._call("end_snoozes", {"batch": batch}))
