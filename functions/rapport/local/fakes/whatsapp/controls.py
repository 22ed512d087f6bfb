"""/_fake/…: how a test, the demo or the phone page controls the stand-in and reads its state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.fakes.faults import refused_order
from rapport.local.fakes.whatsapp.behaviour import WhatsAppBehaviour
from rapport.local.fakes.whatsapp.compose import compose
from rapport.local.fakes.whatsapp.courier import Courier
from rapport.local.fakes.whatsapp.inbound import Digits, Inbound
from rapport.local.fakes.whatsapp.payloads import (
    WABA_ID,
    Payload,
    StatusWord,
    change,
    status_update,
)
from rapport.local.fakes.whatsapp.registered import Registered
from rapport.local.fakes.whatsapp.sends import UserId
from rapport.local.fakes.whatsapp.state import State

M = TypeVar("M", bound=BaseModel)


class StatusOrder(BaseModel):
    """The new status of a message that was sent to a customer."""

    model_config = ConfigDict(extra="forbid")

    phone_number_id: Digits
    recipient: Digits | None = None
    user_id: UserId | None = None
    provider_id: str
    status: StatusWord
    error: Payload | None = None
    biz_opaque_callback_data: str | None = None


class EventOrder(BaseModel):
    """Any other event of Meta's: about a template, an account or a number's quality."""

    model_config = ConfigDict(extra="forbid")

    account: Digits = WABA_ID
    field: str
    value: Payload


class Release(BaseModel):
    """Posts the held webhooks now, in their order or in reverse."""

    model_config = ConfigDict(extra="forbid")

    reverse: bool = False


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _MessageList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    phone_number_id: str | None = None
    to: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class WhatsAppControls:
    """The control routes of one stand-in."""

    def __init__(self, state: State, courier: Courier) -> None:
        self._state = state
        self._courier = courier
        self.routes = [
            _route("inbound", Inbound, self._inbound),
            _route("status", StatusOrder, self._status),
            _route("event", EventOrder, self._event),
            _route("behaviour", WhatsAppBehaviour, self._behave),
            _route("registered", Registered, self._register),
            _route("release", Release, self._release),
            _route("reset", _Nothing, self._reset),
            Route("/_fake/behaviour", self._show_behaviour),
            Route("/_fake/registered", self._show_registered),
            Route("/_fake/messages", self._messages),
        ]

    async def _inbound(self, order: Inbound) -> Response:
        return await self._post(compose(self._state, order))

    async def _status(self, order: StatusOrder) -> Response:
        return await self._post(
            status_update(
                phone_number_id=order.phone_number_id,
                recipient=order.recipient,
                user_id=order.user_id,
                provider_id=order.provider_id,
                status=order.status,
                error=order.error,
                callback_data=order.biz_opaque_callback_data,
            )
        )

    async def _event(self, order: EventOrder) -> Response:
        return await self._post(change(order.account, order.field, order.value))

    async def _post(self, webhook: Payload) -> Response:
        answer = await self._courier.bring(webhook)
        return JSONResponse(
            {
                "webhook": webhook,
                # null: it was held or dropped
                "status": answer.status_code if answer else None,
                "answer": answer.text if answer else None,
            }
        )

    async def _behave(self, behaviour: WhatsAppBehaviour) -> Response:
        self._state.behaviour = behaviour
        return JSONResponse(behaviour.model_dump(mode="json"))

    async def _show_behaviour(self, _request: Request) -> Response:
        """The present behaviour; a fault that has no `times` left is gone."""
        return JSONResponse(self._state.behaviour.model_dump(mode="json"))

    async def _register(self, registered: Registered) -> Response:
        self._state.registered = registered
        return JSONResponse(registered.model_dump(mode="json"))

    async def _show_registered(self, _request: Request) -> Response:
        return JSONResponse(self._state.registered.model_dump(mode="json"))

    async def _release(self, order: Release) -> Response:
        return JSONResponse({"released": await self._courier.release(reverse=order.reverse)})

    async def _reset(self, _order: _Nothing) -> Response:
        await self._courier.stop()
        self._state.clear()
        return JSONResponse({"reset": True})

    async def _messages(self, request: Request) -> Response:
        """The newest `limit` messages on customers' phones, in the order of their arrival: those of
        businesses, and under `written` those of customers. `to` is the customer of both.
        """
        try:
            page = _MessageList.model_validate(dict(request.query_params))
        except ValidationError as error:
            return refused_order(error)
        sent = [
            one.shown()
            for one in self._state.sent.values()
            if page.phone_number_id in (None, one.phone_number_id)
            and page.to in (None, one.to.group_id, one.to.wa_id, one.to.user_id)
        ]
        written = [
            one.shown()
            for one in self._state.written.values()
            if page.phone_number_id in (None, one.phone_number_id)
            and page.to in (None, one.sender.group_id, one.sender.wa_id, one.sender.user_id)
        ]
        reads = list(self._state.reads.values())[-page.limit :]
        held = len(self._courier.held)
        return JSONResponse(
            {
                "messages": sent[-page.limit :],
                "written": written[-page.limit :],
                "reads": reads,
                "held": held,
            }
        )


def _route(name: str, model: type[M], act: Callable[[M], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            order = model.model_validate_json(await request.body() or b"{}")
        except ValidationError as error:
            return refused_order(error)
        try:
            return await act(order)
        except httpx.TransportError as error:
            return JSONResponse({"error": f"The function can't be reached: {error}"}, 502)

    return Route(f"/_fake/{name}", endpoint, methods=["POST"])
