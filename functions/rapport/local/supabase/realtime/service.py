"""/realtime/v1 of the gateway: its routes, and the state that they share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import KeySet, TokenError
from rapport.local.supabase.realtime.authorization import Authorizer
from rapport.local.supabase.realtime.bus import Bus
from rapport.local.supabase.realtime.callers import (
    TokenCaller,
    handshake_text,
    headers_for_policies,
)
from rapport.local.supabase.realtime.changes import ChangeFeed
from rapport.local.supabase.realtime.feed import WalFeed
from rapport.local.supabase.realtime.frames import SERIALIZERS
from rapport.local.supabase.realtime.messages import StoredMessages
from rapport.local.supabase.realtime.posting import Posting
from rapport.local.supabase.realtime.replication import ReplicationStream
from rapport.local.supabase.realtime.socket import Socket
from rapport.local.supabase.realtime.tracker import Tracker

OLDEST_VERSION = "1.0.0"
DATABASE_ROLE = "supabase_admin"
MAX_CONNECTIONS = 4
CONNECTION_SECONDS = 5.0
STATEMENT_TIMEOUT = "10s"
RETRY_SECONDS = 60.0

logger = logging.getLogger(__name__)


class RealtimeService:
    """Realtime for one database: websockets to clients, the write-ahead log from Postgres."""

    def __init__(self, stack: Stack) -> None:
        self._keys = KeySet.of(stack)
        url = stack.db_url(DATABASE_ROLE)
        self._pool = AsyncConnectionPool(
            url,
            kwargs={
                "autocommit": True,
                "application_name": "realtime",
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT}",
            },
            min_size=1,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECTION_SECONDS,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        # set while broadcasts and changes from the database are heard
        self.streaming = asyncio.Event()
        self.bus = Bus()
        self.tracker = Tracker()
        self.authorizer = Authorizer(self._pool)
        self.changes = ChangeFeed(self._pool)
        self._feed = WalFeed(self.bus, self.changes)
        self.stored = StoredMessages(self._pool, lambda: self._feed.latest_broadcast)
        self._replication = ReplicationStream(
            url,
            on_start=self._on_start,
            on_break=self.streaming.clear,
            on_message=self._feed.take,
        )
        self._tasks: list[asyncio.Task[None]] = []

        self.posting = Posting(self._keys, self.bus, self.authorizer)

    @property
    def routes(self) -> list[BaseRoute]:
        """The websocket, which reads keys itself."""
        return [WebSocketRoute("/realtime/v1/websocket", self._connect)]

    async def start(self) -> None:
        """Returns when commits from now on will be delivered."""
        await self._pool.open()
        await self._ensure_partitions()
        self._tasks = [
            asyncio.create_task(self._replication.run(), name="replication"),
            asyncio.create_task(self.changes.run(), name="changes"),
            asyncio.create_task(self._keep_partitions(), name="partitions"),
        ]
        await self.streaming.wait()

    async def stop(self) -> None:
        """Ends the stream and every connection to the database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    async def _connect(self, websocket: WebSocket) -> None:
        token = websocket.headers.get("x-api-key") or websocket.query_params.get("apikey")
        serializer = SERIALIZERS.get(websocket.query_params.get("vsn", OLDEST_VERSION))
        if not token:
            await _refuse(websocket, 401, "API key is missing")
            return
        try:
            TokenCaller.of(self._keys, token)
        except TokenError as error:
            await _refuse(websocket, 401, handshake_text(error))
            return
        if serializer is None:
            await _refuse(websocket, 403, "This version of the protocol is not supported")
            return
        await websocket.accept()
        await Socket(
            websocket,
            self,
            keys=self._keys,
            token=token,
            headers=headers_for_policies(websocket.headers),
            serializer=serializer,
        ).run()

    def _on_start(self) -> None:
        self._feed.restart()
        self.streaming.set()

    async def _keep_partitions(self) -> None:
        """Creates partitions in advance, at each UTC midnight."""
        while True:
            now = datetime.now(UTC)
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            await asyncio.sleep((midnight - now).total_seconds())
            try:
                await self._ensure_partitions()
            except psycopg.Error as error:
                # partitions for three days exist already
                logger.warning("could not make partitions: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _ensure_partitions(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("select realtime.ensure_partitions()")


async def _refuse(websocket: WebSocket, status: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError):
        await websocket.send_denial_response(JSONResponse({"error": reason}, status_code=status))
