"""The subscriptions of messages, points and the profile, with callbacks of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypedDict, Unpack
from uuid import UUID

from pydantic import JsonValue, ValidationError

from rapport.client.callbacks import Called, bound, run
from rapport.client.catch_up import CatchUp
from rapport.client.events import Change, Event, Record
from rapport.client.rows import LoyaltyTransaction, Message, Profile
from rapport.client.server import Server
from rapport.client.sources import MessageSource, TableSource
from rapport.client.subscription import Subscription
from rapport.client.timing import Timing
from rapport.client.topics import Scope
from rapport.errors import NotFound, Unprocessable

# So often a mark is tried again that came too early: a broadcast may arrive a moment before the
# transaction that it tells of can be seen by others.
_EARLY = 3
_PACE = Timing()

OnMessage = Callable[[Message], Called]
OnTransaction = Callable[[LoyaltyTransaction], Called]


class MessageCallbacks(TypedDict, total=False):
    """`on_update` gets every change of a message, including reads and deletions.

    `on_message_read` is called when the other side has read a message, the user included.
    """

    on_new_message: OnMessage | None
    on_message_read: OnMessage | None
    on_message_deleted: OnMessage | None
    on_update: Callable[[Message, Message | None], Called] | None


class LoyaltyCallbacks(TypedDict, total=False):
    """`on_insert` gets every transaction, expired points included."""

    on_points_earned: OnTransaction | None
    on_points_redeemed: OnTransaction | None
    on_insert: OnTransaction | None


class ProfileCallbacks(TypedDict, total=False):
    """`on_shown` gets the profile with edits that are being saved, and again without them if they
    are refused.
    """

    on_update: Callable[[Profile, Profile | None], Called] | None
    on_shown: Callable[[Profile], Called] | None


class MessageSubscription(Subscription[Message]):
    """Messages; those of one conversation in the order of `seq`.

    A new message is told as new, even if it was changed or deleted meanwhile. Where a message
    existed before and was not loaded, the first change that shows it as read counts as its reading.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        server: Server,
        scope: Scope,
        booking_id: UUID | None = None,
        **callbacks: Unpack[MessageCallbacks],
    ) -> None:
        self._messages = MessageSource(scope, booking_id)
        self._server = server
        self._on_new_message = callbacks.get("on_new_message")
        self._on_message_read = callbacks.get("on_message_read")
        self._on_message_deleted = callbacks.get("on_message_deleted")
        super().__init__(catch_up, self._messages, scope, on_update=callbacks.get("on_update"))

    @property
    def unread_count(self) -> int:
        """How many of the `rows` are messages of the other side that the user has not read.

        If the user reads on another device, the number changes only after the next complete
        reading.
        """
        return self._messages.unread_count

    async def mark_read(self, conversation_id: UUID, up_to_seq: int) -> None:
        """Marks a conversation as read up to this seq. Raises NotFound where there is none."""
        for attempt in range(_EARLY + 1):
            reached = 0
            try:
                reached = await self._server.mark_read(conversation_id, up_to_seq)
                self._messages.move_marker(conversation_id, reached)
                self._tell_marker(conversation_id, reached)
            except NotFound:
                if attempt == _EARLY:
                    raise
            if reached >= up_to_seq or attempt == _EARLY:
                return
            await asyncio.sleep(_PACE.backoff(attempt))

    async def mark_unread(self, conversation_id: UUID) -> None:
        """Marks a conversation as unread from the last message of the other side on.

        Raises Conflict where the other side has not written.
        """
        reached = await self._server.mark_unread(conversation_id)
        self._messages.put_marker_back(conversation_id, reached)
        self._tell_marker(conversation_id, reached)

    def _tell_marker(self, conversation_id: UUID, reached: int) -> None:
        """Tells the inbox, which nobody else does."""
        moved = Event(
            table="read_markers", id=conversation_id, version=reached, operation="UPDATE", record={}
        )
        self._catch_up.take(moved)

    def _calls(self, change: Change[Message]) -> Iterable[Callable[[], Called]]:
        yield from super()._calls(change)
        new, old = change.new, change.old
        if new is None:
            if old is not None and old.revoked_at is None:
                yield from bound(self._on_message_deleted, old)
        elif change.operation == "INSERT":
            # old messages from the phone app's history are not new
            if not new.is_history:
                yield from bound(self._on_new_message, new)
        else:
            if new.status == "read" and (old is None or old.status != "read"):
                yield from bound(self._on_message_read, new)
            if new.revoked_at is not None and (old is None or old.revoked_at is None):
                yield from bound(self._on_message_deleted, new)


class LoyaltySubscription(Subscription[LoyaltyTransaction]):
    """Points of a customer as they are earned and redeemed."""

    def __init__(
        self, catch_up: CatchUp, scope: Scope, **callbacks: Unpack[LoyaltyCallbacks]
    ) -> None:
        self._on_points_earned = callbacks.get("on_points_earned")
        self._on_points_redeemed = callbacks.get("on_points_redeemed")
        source = TableSource("loyalty_transactions", LoyaltyTransaction, scope)
        super().__init__(catch_up, source, scope, on_insert=callbacks.get("on_insert"))

    @property
    def total_points(self) -> int:
        """The sum of all transactions."""
        return sum(transaction.points for transaction in self.rows.values())

    def _calls(self, change: Change[LoyaltyTransaction]) -> Iterable[Callable[[], Called]]:
        yield from super()._calls(change)
        if change.operation == "INSERT" and change.new is not None:
            if change.new.type in {"earned", "bonus"}:
                yield from bound(self._on_points_earned, change.new)
            elif change.new.type == "redeemed":
                yield from bound(self._on_points_redeemed, change.new)


class ProfileSubscription(Subscription[Profile]):
    """A customer's own profile, with edits that show at once."""

    def __init__(
        self,
        catch_up: CatchUp,
        server: Server,
        customer_id: UUID,
        **callbacks: Unpack[ProfileCallbacks],
    ) -> None:
        self._customer_id = customer_id
        self._server = server
        self._on_shown = callbacks.get("on_shown")
        # in the order of the calls
        self._edits: list[Record] = []
        scope = Scope("customer", customer_id)
        source = TableSource("customers", Profile, scope, owner="id")
        super().__init__(catch_up, source, scope, on_update=callbacks.get("on_update"))

    @property
    def profile(self) -> Profile | None:
        """The profile with the edits that are being saved; None before it is read."""
        profile = self.rows.get(self._customer_id)
        if profile is None or not self._edits:
            return profile
        fields = profile.model_dump()
        for edit in self._edits:
            fields |= edit
        return Profile.model_validate(fields)

    async def edit(self, **fields: JsonValue) -> None:
        """Saves name, phone, email or preferences. `profile` shows the edit at once.

        A refused edit is taken back and raised: Unprocessable, NotFound, Conflict,
        StoreUnavailable.
        """
        known = self.rows.get(self._customer_id)
        if known is not None:
            try:
                # a value of the wrong type could not be shown
                Profile.model_validate(known.model_dump() | fields)
            except ValidationError as error:
                named = ".".join(str(part) for part in error.errors()[0]["loc"])
                raise Unprocessable("A profile can't have this value.", field=named) from None
        self._edits.append(fields)
        try:
            await self._show()
            self._took(await self._server.edit_profile(self._customer_id, fields))
        finally:
            self._edits.remove(fields)
            await self._show()

    def _took(self, record: Record) -> None:
        known = self.rows.get(self._customer_id)
        if known is not None:
            # the answer lacks some columns of the row
            row = {**known.model_dump(mode="json"), **record}
            self._catch_up.take(
                Event(
                    table="customers",
                    id=known.id,
                    version=int(str(record["version"])),
                    operation="UPDATE",
                    record=row,
                )
            )

    async def _show(self) -> None:
        if (profile := self.profile) is not None:
            await run(bound(self._on_shown, profile))
