"""Broadcasts from the database: rows that are inserted into realtime.messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from psycopg_pool import AsyncConnectionPool
from pydantic import JsonValue

from rapport.local.supabase.realtime.frames import Broadcast, encode
from rapport.local.supabase.realtime.snapshots import settle
from rapport.local.supabase.realtime.wal import Operation, Relation, RowChange

# Rows of one transaction have one time; nothing is updated or deleted there, so that their places
# tell their order. Later partitions are empty: a minute is for clocks that differ.
_SINCE = """
    select id::text, event, coalesce(binary_payload, convert_to(payload::text, 'UTF8')),
           binary_payload is not null
    from realtime.messages
    where topic = %s
      and private
      and extension = 'broadcast'
      and inserted_at >= to_timestamp(%s / 1000.0) at time zone 'UTC'
      and inserted_at < (now() + interval '1 minute') at time zone 'UTC'
      and event is not null
      and (payload is not null or binary_payload is not null)
    order by inserted_at desc, ctid desc
    limit %s
"""


class StoredBroadcast(NamedTuple):
    """A broadcast and its topic."""

    topic: str
    private: bool
    broadcast: Broadcast


def is_messages(relation: Relation) -> bool:
    """Whether the table is that of the broadcasts."""
    return (relation.schema, relation.table) == ("realtime", "messages")


def stored_broadcast(relation: Relation, change: RowChange) -> StoredBroadcast | None:
    """The broadcast of an inserted row; None for an incomplete row."""
    if change.operation is not Operation.INSERT or change.new is None:
        return None
    names = (column.name for column in relation.columns)
    match dict(zip(names, change.new, strict=True)):
        case {
            "id": str(message_id),
            "topic": str(topic),
            "event": str(event),
            "payload": None,
            "binary_payload": str(payload),
            "private": "t" | "f" as private,
        }:
            # in Postgres' text format: \x and two digits for each byte
            content = bytes.fromhex(payload.removeprefix("\\x"))
            return StoredBroadcast(
                topic, private == "t", _message(message_id, event, content, True)
            )
        case {
            "id": str(message_id),
            "topic": str(topic),
            "event": str(event),
            "payload": str(payload),
            "private": "t" | "f" as private,
        }:
            message = _message(message_id, event, payload.encode(), False)
            return StoredBroadcast(topic, private == "t", message)
    return None


class StoredMessages:
    """The rows of realtime.messages, for channels that join later.

    `latest_xid` gives the last transaction whose broadcasts were delivered.
    """

    def __init__(self, pool: AsyncConnectionPool, latest_xid: Callable[[], int | None]) -> None:
        self._pool = pool
        self._latest_xid = latest_xid

    async def since(self, topic: str, since: int, limit: int) -> list[Broadcast]:
        """The newest broadcasts of a private topic, oldest first; `since` in ms since 1970.

        They include all that were delivered before the call. Raises psycopg.Error.
        """
        delivered = self._latest_xid()
        async with self._pool.connection() as connection:
            if delivered is not None:
                await settle(connection, {delivered})
            cursor = await connection.execute(_SINCE, [topic, since, limit])
            rows = await cursor.fetchall()
        return [
            _message(message_id, event, payload, is_binary, replayed=True)
            for message_id, event, payload, is_binary in reversed(rows)
        ]


def _message(
    message_id: str, event: str, payload: bytes, is_binary: bool, *, replayed: bool = False
) -> Broadcast:
    about: dict[str, JsonValue] = {"id": message_id}
    meta = encode({"replayed": True} | about if replayed else about).encode()
    return Broadcast(event=event, payload=payload, is_binary=is_binary, meta=meta, id=message_id)
