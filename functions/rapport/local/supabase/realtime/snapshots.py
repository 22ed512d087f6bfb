"""Waits until a transaction from the log is visible.

A commit is in the write-ahead log before other transactions see it. A query in between would find
no row.
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
    """The finished transactions: all below `end` that are not in `running` (xid8)."""

    end: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Reads the text format of pg_snapshot, `xmin:xmax:xip,…`."""
        _, end, running = text.split(":")
        return cls(int(end), frozenset(int(xid) for xid in running.split(",") if xid))

    def is_over(self, xid: int) -> bool:
        """Whether a transaction is finished; its number has no epoch: the nearest is taken."""
        behind = (self.end - xid + _WRAP // 2) % _WRAP - _WRAP // 2
        widened = self.end - behind
        return widened < self.end and widened not in self.running


async def settle(connection: psycopg.AsyncConnection, xids: Collection[int]) -> None:
    """Returns when all these committed transactions are visible."""
    while True:
        cursor = await connection.execute("select pg_current_snapshot()::text")
        row = await cursor.fetchone()
        if row is not None:
            snapshot = Snapshot.parse(row[0])
            if all(snapshot.is_over(xid) for xid in xids):
                return
        await asyncio.sleep(RETRY_SECONDS)
