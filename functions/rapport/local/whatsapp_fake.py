"""A stand-in for the WhatsApp Graph API: composes, signs and posts webhooks.

POST /_fake/inbound lets a customer write, POST /_fake/number gives one another number, POST
/_fake/status settles a message of ours. All answer with the webhook that was posted and with
what the function answered to it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import httpx
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rapport.local.stack import STACK_VARIABLE, Stack
from rapport.local.whatsapp_payloads import (
    Payload,
    StatusWord,
    encode,
    inbound_text,
    number_change,
    status_update,
)
from rapport.whatsapp import signature

M = TypeVar("M", bound=BaseModel)
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,20}$")]


class Inbound(BaseModel):
    """A customer's text."""

    model_config = ConfigDict(extra="forbid")

    phone_number_id: Digits
    sender: Annotated[Digits, Field(alias="from")]
    name: str = "Customer"
    text: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    provider_id: str | None = None


class NewNumber(BaseModel):
    """A customer's other number."""

    model_config = ConfigDict(extra="forbid")

    phone_number_id: Digits
    sender: Annotated[Digits, Field(alias="from")]
    to: Digits
    name: str = "Customer"
    provider_id: str | None = None


class Outcome(BaseModel):
    """What became of a message that was sent to a customer."""

    model_config = ConfigDict(extra="forbid")

    phone_number_id: Digits
    recipient: Digits
    provider_id: str
    status: StatusWord
    error: Payload | None = None


class Meta:
    """Posts webhooks as Meta's servers do: signed over the bytes, with their user agent."""

    def __init__(self, client: httpx.AsyncClient, url: str, app_secret: str) -> None:
        self._client = client
        self._url = url
        self._app_secret = app_secret

    async def post(self, payload: Payload) -> httpx.Response:
        """Signs and posts one webhook.

        Raises:
            httpx.TransportError: The function can't be reached.
        """
        body = encode(payload)
        return await self._client.post(
            self._url,
            content=body,
            headers={
                "Content-Type": "application/json",
                "User-Agent": "facebookexternalua",
                signature.HEADER: signature.sign(body, self._app_secret),
            },
        )


def application(webhook_url: str, app_secret: str) -> Starlette:
    """The stand-in, posting to the function at `webhook_url`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            app.state.meta = Meta(client, webhook_url, app_secret)
            yield

    return Starlette(
        routes=[
            Route("/health", _health),
            Route("/_fake/inbound", _control(Inbound, _inbound), methods=["POST"]),
            Route("/_fake/number", _control(NewNumber, _number), methods=["POST"]),
            Route("/_fake/status", _control(Outcome, _status), methods=["POST"]),
        ],
        lifespan=lifespan,
    )


def _inbound(order: Inbound) -> Payload:
    return inbound_text(
        phone_number_id=order.phone_number_id,
        sender=order.sender,
        name=order.name,
        text=order.text,
        provider_id=order.provider_id,
    )


def _number(order: NewNumber) -> Payload:
    return number_change(
        phone_number_id=order.phone_number_id,
        sender=order.sender,
        new_number=order.to,
        name=order.name,
        provider_id=order.provider_id,
    )


def _status(order: Outcome) -> Payload:
    return status_update(
        phone_number_id=order.phone_number_id,
        recipient=order.recipient,
        provider_id=order.provider_id,
        status=order.status,
        error=order.error,
    )


def _control(
    model: type[M], compose: Callable[[M], Payload]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            order = model.model_validate_json(await request.body())
        except ValidationError as error:
            return Response(error.json(include_url=False), 422, media_type="application/json")
        payload = compose(order)
        meta: Meta = request.app.state.meta
        try:
            answer = await meta.post(payload)
        except httpx.TransportError as error:
            return JSONResponse({"error": f"The function can't be reached: {error}"}, 502)
        return JSONResponse(
            {"webhook": payload, "status": answer.status_code, "answer": answer.text}
        )

    return endpoint


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")


def main() -> None:
    """Serves until it is stopped."""
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    uvicorn.run(
        application(stack.webhook_url, stack.whatsapp_app_secret),
        host=stack.host,
        port=stack.whatsapp_port,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
