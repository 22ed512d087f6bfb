"""A stand-in for Metakocka's API: partners and documents of companies.

Under /rest/eshop/v1/ it answers as the API does, to requests with the stack's key, one request of a
company after the other. POST /_fake/partners, /_fake/edit, /_fake/merge, /_fake/remove and
/_fake/document do what people do in Metakocka. /_fake/fill makes thousands of partners,
/_fake/behaviour orders faults, /_fake/reset deletes everything. GET /_fake/partners and
/_fake/calls show the state.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rapport.local.fakes.faults import CloseDropped, Dropped
from rapport.local.fakes.metakocka.controls import MetakockaControls
from rapport.local.fakes.metakocka.fake import Fake, company_of
from rapport.local.fakes.shelf import Shelf
from rapport.local.stack.running import METAKOCKA_PATH


class _Api:
    """The endpoint of all operations; requests of one company are answered one after the other."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._queues: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, request: Request) -> Response:
        content = await request.body()
        queue = self._queues[company_of(content)]
        self._fake.overlaps += queue.locked()
        async with queue:
            operation = request.path_params["operation"]
            reply = await run_in_threadpool(self._fake.reply, operation, content)
            await asyncio.sleep(reply.delay_ms / 1000)
        if reply.is_dropped:
            return Dropped()
        headers = {"retry-after": str(reply.retry_after)} if reply.retry_after is not None else None
        return Response(reply.content, reply.status, headers, reply.media_type)


def application(secret: str, shelf: Shelf | None = None) -> CloseDropped:
    """The stand-in, for requests with this key; it starts with the data on the shelf."""
    fake = Fake(secret, shelf=shelf)
    api = _Api(fake)

    async def operate(request: Request) -> Response:
        return await api(request)

    return CloseDropped(
        Starlette(
            routes=[
                Route("/health", _health),
                *MetakockaControls(fake).routes,
                Route(f"{METAKOCKA_PATH}/{{operation:str}}", operate, methods=["POST"]),
            ]
        )
    )


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")
