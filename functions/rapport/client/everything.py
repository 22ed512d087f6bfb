"""Everything that a customer's portal shows, as one object."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypedDict

from rapport.client.callbacks import Called
from rapport.client.portal_subscriptions import (
    LoyaltySubscription,
    MessageSubscription,
    OnMessage,
    OnTransaction,
    ProfileSubscription,
)
from rapport.client.rows import Invoice, Job, Profile
from rapport.client.subscription import Subscription


class EverythingCallbacks(TypedDict, total=False):
    """The callbacks of all five subscriptions."""

    on_job_insert: Callable[[Job], Called] | None
    on_job_update: Callable[[Job, Job | None], Called] | None
    on_job_delete: Callable[[Job], Called] | None
    on_invoice_insert: Callable[[Invoice], Called] | None
    on_invoice_update: Callable[[Invoice, Invoice | None], Called] | None
    on_invoice_delete: Callable[[Invoice], Called] | None
    on_new_message: OnMessage | None
    on_message_read: OnMessage | None
    on_message_deleted: OnMessage | None
    on_points_earned: OnTransaction | None
    on_points_redeemed: OnTransaction | None
    on_profile_update: Callable[[Profile, Profile | None], Called] | None


class Everything:
    """Five subscriptions over one topic, whose rows change together: the changes of one
    transaction are never seen apart. Each can also be used alone.
    """

    def __init__(
        self,
        jobs: Subscription[Job],
        invoices: Subscription[Invoice],
        messages: MessageSubscription,
        loyalty: LoyaltySubscription,
        profile: ProfileSubscription,
    ) -> None:
        self.jobs = jobs
        self.invoices = invoices
        self.messages = messages
        self.loyalty = loyalty
        self.profile = profile
        self._parts = (jobs, invoices, messages, loyalty, profile)

    @property
    def active_subscriptions(self) -> int:
        """How many of the five subscriptions are connected."""
        return sum(part.is_connected for part in self._parts)

    @property
    def is_connected(self) -> bool:
        """Whether all five subscriptions are connected."""
        return self.active_subscriptions == len(self._parts)

    @property
    def error(self) -> Exception | None:
        """The first current error of a subscription; None if there is none."""
        return next((part.error for part in self._parts if part.error), None)

    async def ready(self) -> None:
        """Waits until the rows of all five subscriptions are read."""
        for part in self._parts:
            await part.ready()

    async def close(self) -> None:
        """Ends all five subscriptions."""
        for part in self._parts:
            await part.close()

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
