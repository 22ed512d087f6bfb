"""A stand-in for the WhatsApp Graph API: accepts messages; composes, signs and posts webhooks.

Under /v26.0/ it answers as the API does. It accepts the stack's token, or a number's own token
where /_fake/behaviour sets one. POST /_fake/inbound lets a customer write, /_fake/status sets the
status of a sent message, /_fake/event sends any other event, /_fake/registered says what Meta knows
of the app, its numbers and its token, /_fake/behaviour orders faults,
/_fake/release posts held webhooks, /_fake/reset deletes everything. GET /_fake/messages returns the
messages that customers' phones show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rapport.connections import trusted
from rapport.local.fakes.faults import CloseDropped
from rapport.local.fakes.shelf import Shelf
from rapport.local.fakes.whatsapp.api import GraphApi
from rapport.local.fakes.whatsapp.controls import WhatsAppControls
from rapport.local.fakes.whatsapp.courier import Courier, Meta
from rapport.local.fakes.whatsapp.registration import RegistrationApi
from rapport.local.fakes.whatsapp.state import State


def application(
    webhook_url: str, app_secret: str, token: str, shelf: Shelf | None = None
) -> CloseDropped:
    """The stand-in, which posts to the function at `webhook_url`; it starts with the data on the
    shelf.
    """
    state = State.kept(shelf) if shelf else State()
    client = httpx.AsyncClient(timeout=20, trust_env=False, verify=trusted())
    courier = Courier(Meta(client, webhook_url, app_secret), state)
    registration = RegistrationApi(state, webhook_url, app_secret, token)

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
                # its paths are more particular
                *registration.routes,
                *GraphApi(state, courier, token, registration).routes,
            ],
            lifespan=lifespan,
        )
    )


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")
