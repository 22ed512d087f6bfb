"""More requests than can be served: some are refused at once, none is forgotten, and it passes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from tests.integration.function_host import deployed, serve
from tests.stacks import Start

from rapport.local.stack.running import Stack
from rapport.local.supabase import gateway
from rapport.local.supabase.rest import MAX_CONNECTIONS
from rapport.server import host as functions
from rapport.server.events import Event, InvocationContext

BEYOND = 20
PATIENCE = 30  # seconds; nothing is measured


class Upstream:
    """A PostgREST that answers when it is told to, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_full = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                if self.asked == MAX_CONNECTIONS:
                    self.is_full.set()
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def upstream_of(stack: Stack) -> AsyncIterator[Upstream]:
    upstream = Upstream()
    async with await asyncio.start_server(upstream.serve, stack.host, stack.postgrest_port):
        yield upstream


async def refusals(
    requests: Sequence[asyncio.Task[httpx.Response]], count: int
) -> list[httpx.Response]:
    """The first answers, as many as there must be while nothing is served."""
    answers = []
    async with asyncio.timeout(PATIENCE):
        for one in asyncio.as_completed(requests):
            answers.append(await one)
            if len(answers) == count:
                return answers
    raise AssertionError


def assert_refused(answers: Sequence[httpx.Response]) -> None:
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "Try again" in answer.json()["message"]


async def test_a_slow_postgrest_wedges_neither_the_gateway_nor_itself(own_start: Start) -> None:
    stack = own_start("gateway")
    headers = {"apikey": stack.publishable_key}
    limits = httpx.Limits(max_connections=None)
    async with AsyncExitStack() as ending:
        upstream = await ending.enter_async_context(upstream_of(stack))
        http = await ending.enter_async_context(
            httpx.AsyncClient(base_url=stack.url, headers=headers, limits=limits, timeout=PATIENCE)
        )
        requests = [
            asyncio.create_task(http.get("/rest/v1/notes"))
            for _ in range(MAX_CONNECTIONS + gateway.WAITING + BEYOND)
        ]
        assert_refused(await refusals(requests, BEYOND))
        assert (await http.get("/health")).status_code == 200
        assert upstream.asked == MAX_CONNECTIONS

        # all of them leave, and make room
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        upstream.may_answer.set()
        again = await http.get("/rest/v1/notes")
        assert (again.status_code, again.json()) == (200, [])


async def test_who_waited_is_served_when_there_is_room(own_start: Start) -> None:
    stack = own_start("gateway")
    async with AsyncExitStack() as ending:
        upstream = await ending.enter_async_context(upstream_of(stack))
        http = await ending.enter_async_context(
            httpx.AsyncClient(
                base_url=stack.url,
                headers={"apikey": stack.publishable_key},
                limits=httpx.Limits(max_connections=None),
                timeout=PATIENCE,
            )
        )
        requests = [
            asyncio.create_task(http.post("/rest/v1/notes", json={"number": number}))
            for number in range(MAX_CONNECTIONS + 10)
        ]
        async with asyncio.timeout(PATIENCE):
            await upstream.is_full.wait()
        upstream.may_answer.set()
        answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} == {200}


async def test_a_slow_function_refuses_and_holds_up_no_other() -> None:
    may_answer = threading.Event()

    def slow(_event: Event, _context: InvocationContext) -> object:
        may_answer.wait(PATIENCE)
        return {"statusCode": 200}

    def quick(_event: Event, _context: InvocationContext) -> object:
        return {"statusCode": 204}

    count = functions.AT_ONCE + functions.WAITING + BEYOND
    host = serve(deployed(slow, "POST /slow", name="slow"), deployed(quick, "GET /", name="quick"))
    async with (
        host as client,
        httpx.AsyncClient(
            base_url=client.base_url,
            limits=httpx.Limits(max_connections=None),
            timeout=PATIENCE,
            trust_env=False,
        ) as http,
    ):
        requests = [asyncio.create_task(http.post("/slow", json={})) for _ in range(count)]
        try:
            assert_refused(await refusals(requests, BEYOND))
            assert (await http.get("/")).status_code == 204
            # all of them leave; those that are served are served to the end
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
        finally:
            may_answer.set()
        assert (await http.post("/slow", json={})).status_code == 200
