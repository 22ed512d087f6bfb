"""Notifications on users' devices: pushes are claimed and settled, each by one worker."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from rapport.deferred import Deferred
from rapport.store.postgrest import Store, understood


class PushJob(BaseModel):
    """A notification for one device."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    push_id: UUID
    account_id: UUID
    # a holder of the three can push to the device
    endpoint: str = Field(repr=False)
    p256dh: str = Field(repr=False)
    auth: str = Field(repr=False)
    kind: str
    # the row that the notification's link opens: a conversation, or another row
    subject_id: UUID
    title: str = Field(repr=False)
    body: str = Field(repr=False)


class PushClaim(Deferred):
    """Pushes leased to one worker, and when there may be others."""

    claimed: list[PushJob]
    next_at: datetime | None


class PushStore(Store):
    """Each call raises as `Store` says."""

    def set_push_key(self, public_key: str, *, allows_loopback: bool) -> None:
        """Tells browsers the key with which they subscribe."""
        self._call("set_push_key", {"public_key": public_key, "allows_loopback": allows_loopback})

    def claim_pushes(self, worker: str, batch: int) -> PushClaim:
        """Leases up to `batch` pushes for two minutes, one for a device, to `worker`."""
        answer = self._call("claim_pushes", {"worker": worker, "batch": batch})
        return understood(PushClaim, answer)

    def settle_push(self, push_id: UUID, worker: str, outcome: str, retry_after: int | None) -> str:
        """Notes what became of a push; answers what follows. Repeating it changes nothing."""
        return understood(
            str,
            self._call(
                "settle_push",
                {
                    "push_id": str(push_id),
                    "worker": worker,
                    "outcome": outcome,
                    "retry_after": retry_after,
                },
            ),
        )
