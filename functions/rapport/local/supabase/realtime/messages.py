"""Broadcasts from the database: rows that are inserted into realtime.messages."""

from __future__ import annotations

from typing import NamedTuple

from rapport.local.supabase.realtime.frames import Broadcast, encode
from rapport.local.supabase.realtime.wal import Operation, Relation, RowChange


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
            "payload": str(payload),
            "private": "t" | "f" as private,
        }:
            meta = encode({"id": message_id}).encode()
            broadcast = Broadcast(event=event, payload=payload.encode(), meta=meta)
            return StoredBroadcast(topic, private == "t", broadcast)
    return None
