"""The background worker of schema net: makes the requests that committed transactions have queued.

It does from outside what pg_net does inside Postgres: it takes a batch, makes all its requests at
the same time, and deletes their rows in the transaction that writes the responses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from rapport.connections import trusted
from rapport.local.stack.postgres import SUPERUSER
from rapport.local.stack.running import STACK_VARIABLE, Stack
from rapport.server.memory import release_memory

CHANNEL = "pg_net"
BATCH = 200
# as on a hosted project: pg_net.ttl
RESPONSES_KEPT = "6 hours"
# seconds: the longest delay of a request whose notification was lost
SWEEP_S = 5.0
RECONNECT_S = 1.0

log = logging.getLogger("rapport.local.supabase.net")


class Pending(NamedTuple):
    """A row of net.http_request_queue."""

    id: int
    method: str
    url: str
    headers: dict[str, JsonValue] | None
    body: bytes | None
    timeout_milliseconds: int


class NetResponse(NamedTuple):
    """A row of net._http_response; its status is null where there was no answer."""

    id: int
    status_code: int | None = None
    content_type: str | None = None
    headers: Jsonb | None = None
    content: str | None = None
    timed_out: bool = False
    error_msg: str | None = None


async def work(url: str) -> None:
    """Makes requests without end; after a database error it connects again."""
    async with httpx.AsyncClient(
        trust_env=False,
        verify=trusted(),
        timeout=None,  # noqa: S113 - each has its own
    ) as client:
        while True:
            try:
                await _listen(url, client)
            except psycopg.Error:
                log.exception("The queue can't be read.")
                await asyncio.sleep(RECONNECT_S)


async def _listen(url: str, client: httpx.AsyncClient) -> None:
    connection = await AsyncConnection.connect(url, autocommit=True, application_name=CHANNEL)
    async with connection:
        await connection.execute(f"listen {CHANNEL}")
        while True:
            while await _make_batch(connection, client):
                pass
            async for _ in connection.notifies(timeout=SWEEP_S, stop_after=1):
                pass


async def _make_batch(connection: AsyncConnection, client: httpx.AsyncClient) -> int:
    async with (
        connection.transaction(),
        connection.cursor(row_factory=class_row(Pending)) as cursor,
    ):
        await cursor.execute(
            "delete from net.http_request_queue where id in"
            " (select id from net.http_request_queue order by id limit %s)"
            " returning id, method, url, headers, body, timeout_milliseconds",
            [BATCH],
        )
        batch = await cursor.fetchall()
        if not batch:
            return 0
        responses = await asyncio.gather(*(_request(client, pending) for pending in batch))
        await cursor.executemany(
            "insert into net._http_response"
            " (id, status_code, content_type, headers, content, timed_out, error_msg)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            responses,
        )
        await cursor.execute(
            "delete from net._http_response where created < now() - %s::interval",
            [RESPONSES_KEPT],
        )
    return len(batch)


async def _request(client: httpx.AsyncClient, pending: Pending) -> NetResponse:
    try:
        async with asyncio.timeout(pending.timeout_milliseconds / 1000):
            answer = await client.request(
                pending.method.upper(),
                pending.url,
                # JSON values may be numbers
                headers={name: str(value) for name, value in (pending.headers or {}).items()},
                content=pending.body,
            )
    except TimeoutError:
        return NetResponse(
            pending.id,
            timed_out=True,
            error_msg=f"Timeout of {pending.timeout_milliseconds} ms reached.",
        )
    # ValueError: a header that can't be written
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return NetResponse(pending.id, error_msg=str(error) or type(error).__name__)
    return NetResponse(
        pending.id,
        status_code=answer.status_code,
        content_type=answer.headers.get("content-type"),
        headers=Jsonb(dict(answer.headers)),
        # Postgres can't store a zero byte in text
        content=answer.text.replace("\0", "") or None,
    )


async def _until_stopped(url: str) -> None:
    worker = asyncio.create_task(work(url))
    for stopping in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stopping, worker.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await worker


def main() -> None:
    """Works until it is stopped."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    release_memory()
    asyncio.run(_until_stopped(stack.db_url(SUPERUSER)))


if __name__ == "__main__":
    main()
