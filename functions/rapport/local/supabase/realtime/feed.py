"""Distributes the messages of the write-ahead log."""

from __future__ import annotations

import logging
from datetime import datetime

from rapport.local.supabase.realtime import wal
from rapport.local.supabase.realtime.bus import Bus
from rapport.local.supabase.realtime.changes import ChangeFeed
from rapport.local.supabase.realtime.messages import is_messages, stored_broadcast
from rapport.local.supabase.realtime.wal import EPOCH, Begin, Relation, RowChange

logger = logging.getLogger(__name__)


class WalFeed:
    """Sends broadcasts at once, and queues changes of other tables for their own task.

    Rows are decoded only for tables that somebody follows, so a bulk load of another table costs
    almost nothing.
    """

    def __init__(self, bus: Bus, changes: ChangeFeed) -> None:
        self._bus = bus
        self._changes = changes
        self._relations: dict[int, Relation] = {}
        self._xid = 0
        self._committed_at: datetime = EPOCH
        # the last transaction, without its epoch, whose broadcasts were sent
        self.latest_broadcast: int | None = None

    def restart(self) -> None:
        """Begins a new stream, which describes its relations again."""
        self._relations.clear()
        self._changes.restart()

    def take(self, data: bytes) -> None:
        """Takes one message of pgoutput. Raises MalformedWalError."""
        oid = wal.relation_oid(data)
        if oid is not None:
            self._row(self._relations[oid], data)
            return
        match wal.decode(data):
            case Begin() as begin:
                self._xid = begin.xid
                self._committed_at = begin.committed_at
            case Relation() as relation:
                self._relations[relation.oid] = relation

    def _row(self, relation: Relation, data: bytes) -> None:
        if not is_messages(relation):
            self._changes.put(relation, data, self._xid, self._committed_at)
            return
        change = wal.decode(data)
        stored = stored_broadcast(relation, change) if isinstance(change, RowChange) else None
        if stored is None:
            logger.warning("a row of realtime.messages is not a complete broadcast")
        else:
            self.latest_broadcast = self._xid
            self._bus.publish(stored.topic, stored.private, stored.broadcast)
