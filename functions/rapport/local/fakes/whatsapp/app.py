"""A stand-in for the WhatsApp Graph API: takes messages, and composes, signs and posts webhooks.

Under /v26.0/ it answers as the API does, to whoever brings the stack's token, or that of the
number where /_fake/behaviour gives numbers tokens of their own. POST
/_fake/inbound lets a customer write, /_fake/status settles a message of ours, /_fake/event
tells of anything else, /_fake/behaviour makes it misbehave, /_fake/release posts what was held,
/_fake/reset forgets everything, and GET /_fake/messages is what customers' phones show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rapport.local.fakes.faults import CloseDropped
from rapport.local.fakes.shelf import Shelf
from rapport.local.fakes.whatsapp.api import GraphApi
from rapport.local.fakes.whatsapp.controls import WhatsAppControls
from rapport.local.fakes.whatsapp.courier import Courier, Meta
from rapport.local.fakes.whatsapp.state import State


def application(
    webhook_url: str, app_secret: str, token: str, shelf: Shelf | None = None
) -> CloseDropped:
    """The stand-in, posting to the function at `webhook_url`; it knows what the shelf has."""
    state = State.kept(shelf) if shelf else State()
    client = httpx.AsyncClient(timeout=20, trust_env=False)
    courier = Courier(Meta(client, webhook_url, app_secret), state)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield
            await courier.stop()

    return CloseDropped(
        Starlette(
            routes=[
                Route("/health", _health),
                *WhatsAppControls(state, courier).routes,
                *GraphApi(state, courier, token).routes,
            ],
            lifespan=lifespan,
        )
    )


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")
