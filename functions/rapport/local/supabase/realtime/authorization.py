"""Who may join a private topic or write to it: tried against the policies of realtime.messages.

Source: "Realtime Authorization" of Supabase's documents; the settings that a policy sees are those
of Realtime 2.129.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Literal

import psycopg
from psycopg.errors import InsufficientPrivilege
from psycopg_pool import AsyncConnectionPool

from rapport.local.supabase.realtime.callers import TokenCaller

# the kind of message, in the words of its column
Extension = Literal["broadcast", "presence"]

_INSERT = "insert into realtime.messages (id, topic, extension) values (%s, %s, %s)"
_INSERT_PROBES = """
    insert into realtime.messages (id, topic, extension)
    select probe.id, %(topic)s, probe.extension
    from unnest(%(ids)s::uuid[], %(extensions)s::text[]) as probe (id, extension)
"""
_BECOME = """
    select set_config('role', %(role)s, true),
           set_config('realtime.topic', %(topic)s, true),
           set_config('request.jwt.claims', %(claims)s, true),
           set_config('request.jwt.claim.sub', %(subject)s, true),
           set_config('request.jwt.claim.role', %(role)s, true),
           set_config('request.headers', %(headers)s, true)
"""


class Authorizer:
    """Asks the database in transactions that are always rolled back."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def readable(
        self, caller: TokenCaller, headers: str, topic: str, extensions: Collection[Extension]
    ) -> frozenset[Extension]:
        """The extensions whose messages on the topic the caller may select.

        `headers` is a JSON object. Raises psycopg.Error when a policy raises or the database is
        away.
        """
        probes = {uuid.uuid4(): extension for extension in extensions}
        ids = list(probes)
        async with self._rolled_back() as connection:
            await connection.execute(
                _INSERT_PROBES,
                {"topic": topic, "ids": ids, "extensions": list(probes.values())},
            )
            await self._become(connection, caller, headers, topic)
            cursor = await connection.execute(
                "select id from realtime.messages where id = any (%s)", [ids]
            )
            return frozenset(probes[row[0]] for row in await cursor.fetchall())

    async def may_write(
        self, caller: TokenCaller, headers: str, topic: str, extension: Extension
    ) -> bool:
        """Whether the caller may insert such a message on the topic; raises as `readable`."""
        async with self._rolled_back() as connection:
            await self._become(connection, caller, headers, topic)
            try:
                await connection.execute(_INSERT, [uuid.uuid4(), topic, extension])
            except InsufficientPrivilege:
                return False
            return True

    @asynccontextmanager
    async def _rolled_back(self) -> AsyncIterator[psycopg.AsyncConnection]:
        async with (
            self._pool.connection() as connection,
            connection.transaction(force_rollback=True),
        ):
            yield connection

    async def _become(
        self, connection: psycopg.AsyncConnection, caller: TokenCaller, headers: str, topic: str
    ) -> None:
        await connection.execute(
            _BECOME,
            {
                "role": caller.role,
                "topic": topic,
                "claims": caller.claims,
                "subject": caller.subject,
                "headers": headers,
            },
        )
