"""Waiting until a transaction that is in the log can be seen.

A commit is in the write-ahead log before other transactions see it. Whoever asks in between
who may see a row is told that there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import psycopg

RETRY_SECONDS = 0.005
_WRAP = 1 << 32


@dataclass(frozen=True)
class Snapshot:
    """Which transactions are over: all below `end` that are not still `running` (xid8)."""

    end: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Reads the text format of pg_snapshot, `xmin:xmax:xip,…`."""
        _, end, running = text.split(":")
        return cls(int(end), frozenset(int(xid) for xid in running.split(",") if xid))

    def is_over(self, xid: int) -> bool:
        """Whether a transaction is over; its number has no epoch, which is that nearest to ours."""
        behind = (self.end - xid + _WRAP // 2) % _WRAP - _WRAP // 2
        widened = self.end - behind
        return widened < self.end and widened not in self.running


async def settle(connection: psycopg.AsyncConnection, xids: Collection[int]) -> None:
    """Returns when every one of these committed transactions can be seen."""
    while True:
        cursor = await connection.execute("select pg_current_snapshot()::text")
        row = await cursor.fetchone()
        if row is not None:
            snapshot = Snapshot.parse(row[0])
            if all(snapshot.is_over(xid) for xid in xids):
                return
        await asyncio.sleep(RETRY_SECONDS)
