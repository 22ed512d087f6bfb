"""Notes what a client is told, and holds it against what the database has."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Generic
from uuid import UUID

from tests.world import World

from rapport.client.events import Change
from rapport.client.portal_subscriptions import MessageCallbacks
from rapport.client.rows import Message, RowT


class Witness(Generic[RowT]):
    """All changes that a subscription has told, row by row."""

    def __init__(self) -> None:
        self.told: defaultdict[UUID, list[Change[RowT]]] = defaultdict(list)
        self.inserts: list[RowT] = []

    @property
    def of_messages(self: Witness[Message]) -> MessageCallbacks:
        """The callbacks of a subscription to messages."""
        return {
            "on_new_message": self.on_insert,
            "on_update": self.on_update,
            "on_message_deleted": self.on_removed,
        }

    def on_removed(self: Witness[Message], message: Message) -> None:
        # one that its sender has deleted is still a row
        if message.revoked_at is None:
            self.on_delete(message)

    def on_insert(self, row: RowT) -> None:
        self.inserts.append(row)
        self.told[row.id].append(Change("INSERT", row, None))

    def on_update(self, new: RowT, old: RowT | None) -> None:
        self.told[new.id].append(Change("UPDATE", new, old))

    def on_delete(self, row: RowT) -> None:
        self.told[row.id].append(Change("DELETE", None, row))

    def knows(self, versions: dict[UUID, int]) -> bool:
        """Whether the last version of each of these rows has been told."""
        last = {row_id: told[-1].new for row_id, told in self.told.items()}
        return all(
            (row := last.get(row_id)) is not None and row.version >= version
            for row_id, version in versions.items()
        )

    def check_rows(
        self, versions: dict[UUID, int], before: dict[UUID, int], *, knows_before: bool = True
    ) -> None:
        """Nothing missed, nothing twice, versions rising, each `old` what was told before.

        `versions` are those of all rows of the scope as they stand, `before` of those that were
        there when the subscription began, which it may know or not.
        """
        assert self.told.keys() <= versions.keys(), "told of a row of another customer"
        for row_id, version in versions.items():
            told = self.told.get(row_id, [])
            seen = [change.new.version for change in told if change.new is not None]
            assert seen == sorted(set(seen)), f"versions of {row_id}: {seen}"
            known = before.get(row_id)
            if known == version:
                assert not told, f"told of {row_id}, which has not changed"
                continue
            assert seen, f"{row_id} was missed"
            assert seen[-1] == version, f"{row_id} ends at {seen[-1]} instead of {version}"
            kinds = [change.operation for change in told]
            first = "INSERT" if known is None else "UPDATE"
            if known is not None and knows_before:
                assert told[0].old is not None
                assert told[0].old.version == known
            assert kinds == [first, *["UPDATE"] * (len(kinds) - 1)], f"{row_id}: {kinds}"
            for earlier, later in pairwise(told):
                assert later.old == earlier.new, f"{row_id}: old is not what was told before"


def versions(
    world: World, table: str, customer: UUID, column: str = "customer_id"
) -> dict[UUID, int]:
    """The rows of a customer as they stand."""
    rows = world.rows(f"select id, version from public.{table} where {column} = %s", [customer])
    return {row["id"]: row["version"] for row in rows}


def check_order(inserts: list[Message]) -> None:
    """Inserts come in the order of each conversation, without a gap, each once."""
    last: dict[UUID, int] = {}
    for message in inserts:
        before = last.get(message.conversation_id, message.seq - 1)
        assert message.seq == before + 1, f"{message.seq} was told after {before}"
        last[message.conversation_id] = message.seq
