"""The orders to a stand-in at /_fake/…: faults, and the refusal of a wrong order.

A fault says which requests meet it, and how the connection breaks. A refusal names each wrong
field.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

Milliseconds = Annotated[int, Field(ge=0, le=120_000)]

_DROPPED = "rapport.dropped"


class Orders(BaseModel):
    """A part of the behaviour that is set over POST /_fake/behaviour."""

    model_config = ConfigDict(extra="forbid")


class OrderedFault(Orders):
    """What happens to the next `times` requests of a kind; a stand-in adds `on` and its errors."""

    on: str
    times: Annotated[int, Field(ge=1, le=100_000)] = 1
    # this many requests of the kind pass before it begins
    after: Annotated[int, Field(ge=0, le=100_000)] = 0
    # the request is carried out, and its client is told something else
    after_accepting: bool = False
    # the answer comes late by this
    delay_ms: Milliseconds = 0
    # the connection is closed without an answer
    drop: bool = False
    # the status of a proxy's page of HTML
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    # seconds
    retry_after: Annotated[int, Field(ge=0)] | None = None

    def meets(self, request: str) -> bool:
        """Whether it is about requests of this kind."""
        return self.on in (request, "any")

    @property
    def answers_otherwise(self) -> bool:
        """Whether the client gets another answer than the right one, or none."""
        return self.drop or self.status is not None


F = TypeVar("F", bound=OrderedFault)


class FaultyBehaviour(Orders, Generic[F]):
    """How a stand-in misbehaves. An empty body of POST /_fake/behaviour ends all of it."""

    # in turn: the first that meets the request and has some `times` left
    faults: list[F] = Field(default_factory=list)

    def take(self, request: str) -> F | None:
        """The fault that this request meets; it has one time less then."""
        for fault in self.faults:
            if not fault.meets(request):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times == 0:
                self.faults.remove(fault)
            return fault
        return None


class Dropped(Response):
    """No answer: the connection is closed. See `CloseDropped`."""

    # the arguments of every ASGI application
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        await send({"type": _DROPPED})


class CloseDropped:
    """An application that closes the connection where it answers `Dropped`."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        is_dropped = False

        async def forward(message: dict[str, JsonValue]) -> None:
            nonlocal is_dropped
            is_dropped = is_dropped or message["type"] == _DROPPED
            if not is_dropped:
                await send(message)

        await self._app(scope, receive, forward)  # type: ignore[arg-type]  # Starlette's own
        # uvicorn closes the connection of an application that returns anything
        return _DROPPED if is_dropped else None


def wrong_field(field: str, message: str) -> PydanticCustomError:
    """The error of a field, for a check of several fields."""
    return PydanticCustomError("order", "{message}", {"field": field, "message": message})


def refused_order(error: ValidationError) -> Response:
    """422 with an entry for each wrong field; `loc` begins with the field."""
    entries = json.loads(error.json(include_url=False))
    for entry in entries:
        context = entry.pop("ctx", {})
        entry["loc"] = entry["loc"] or [context.get("field", "body")]
    return JSONResponse(entries, 422)
