"""A stand-in for a push service, and for the browsers that it serves.

POST /_fake/devices subscribes a browser and answers what its page would get. POST /push/{device}
takes a push as RFC 8030 has it: it is signed (RFC 8292) and is opened with the device's key
(RFC 8291). GET /_fake/received lists the notifications that the devices have shown. POST
/_fake/forget ends a subscription, POST /_fake/behaviour orders faults, POST /_fake/reset forgets
everything.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from rapport.local.fakes.faults import (
    CloseDropped,
    Dropped,
    FaultyBehaviour,
    OrderedFault,
    Orders,
    refused_order,
)
from rapport.local.fakes.push.device import Device, UnreadablePush
from rapport.local.fakes.shelf import Kept, Shelf
from rapport.push.encryption import CURVE, from_base64url

BODY_LIMIT = 4096
LONGEST_TOKEN = 24 * 3600  # seconds

M = TypeVar("M", bound=BaseModel)


class PushFault(OrderedFault):
    """What happens to the next `times` pushes; `redirect_to` and `endless` are answers as well."""

    on: str = "any"
    # the answer sends the caller elsewhere
    redirect_to: str | None = None
    # the answer's body does not end
    endless: bool = False


class PushBehaviour(FaultyBehaviour[PushFault]):
    """All settings. A setting that is left out has its normal value."""


class Subscribe(Orders):
    """A browser that subscribes with a page's key (applicationServerKey)."""

    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{87}$")]


class Forget(Orders):
    """A browser that ends its subscription, by its endpoint."""

    endpoint: str


class Nothing(Orders):
    """An order without fields."""


class _Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


_DEVICE = TypeAdapter(Device)


class PushService:
    """Its devices, with the notifications that each has shown."""

    def __init__(self, url: str, shelf: Shelf | None = None) -> None:
        self.url = url
        self._devices: dict[str, Device] = (
            {} if shelf is None else Kept.of(shelf, "device", _DEVICE)
        )
        # the ended subscriptions
        self._gone: set[str] = set()
        self._received: list[JsonValue] = []
        self._behaviour = PushBehaviour()
        # by path and body of every push that came, refused ones too
        self.calls = 0
        self.routes = [
            Route("/health", _health),
            Route("/push/{device:str}", self._push, methods=["POST"]),
            self._order("devices", Subscribe, self._subscribe),
            self._order("forget", Forget, self._forget),
            self._order("behaviour", PushBehaviour, self._behave),
            self._order("reset", Nothing, self._reset),
            Route("/_fake/received", self._show),
        ]

    def _order(self, name: str, model: type[M], carry_out: Callable[[M], JsonValue]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                order = model.model_validate_json(await request.body() or b"{}")
            except ValidationError as error:
                return refused_order(error)
            return JSONResponse(carry_out(order))

        return Route(f"/_fake/{name}", endpoint, methods=["POST"])

    def _subscribe(self, order: Subscribe) -> JsonValue:
        name = secrets.token_urlsafe(24)
        device = Device.new(order.public_key)
        self._devices[name] = device
        return {
            "endpoint": f"{self.url}/push/{name}",
            "expirationTime": None,
            "keys": {"p256dh": device.p256dh, "auth": device.auth},
        }

    def _forget(self, order: Forget) -> JsonValue:
        name = order.endpoint.rpartition("/")[2]
        if name in self._devices:
            del self._devices[name]
            self._gone.add(name)
        return {"devices": len(self._devices)}

    def _behave(self, order: PushBehaviour) -> JsonValue:
        self._behaviour = order
        shown: JsonValue = order.model_dump(mode="json")
        return shown

    def _reset(self, _order: Nothing) -> JsonValue:
        for name in list(self._devices):
            del self._devices[name]
        self._gone.clear()
        self._received.clear()
        self._behaviour = PushBehaviour()
        self.calls = 0
        return {}

    async def _show(self, _request: Request) -> Response:
        return JSONResponse({"received": self._received, "calls": self.calls})

    async def _push(self, request: Request) -> Response:
        self.calls += 1
        fault = self._behaviour.take("push")
        if fault is not None:
            await asyncio.sleep(fault.delay_ms / 1000)
            if (answer := _faulty(fault)) is not None and not fault.after_accepting:
                return answer
        try:
            await self._accept(request)
        except _Refused as refused:
            return PlainTextResponse(str(refused), refused.status)
        return (None if fault is None else _faulty(fault)) or Response(
            status_code=201, headers={"location": f"{self.url}/m/{secrets.token_hex(8)}"}
        )

    async def _accept(self, request: Request) -> None:
        name = request.path_params["device"]
        device = self._devices.get(name)
        if device is None:
            raise _Refused(410 if name in self._gone else 404, "There is no such subscription.")
        self._check_signature(request.headers.get("authorization", ""), device)
        if not request.headers.get("ttl", "").isdigit():
            raise _Refused(400, "TTL is needed.")
        if request.headers.get("content-encoding") != "aes128gcm":
            raise _Refused(415, "The content-encoding is not aes128gcm.")
        body = await request.body()
        if len(body) > BODY_LIMIT:
            raise _Refused(413, "The push is too long.")
        try:
            shown = json.loads(device.opened(body))
        except (UnreadablePush, ValueError) as error:
            raise _Refused(400, f"The device can't read the push: {error}") from None
        self._received.append(
            {
                "endpoint": f"{self.url}/push/{name}",
                "shown": shown,
                "topic": request.headers.get("topic"),
                "urgency": request.headers.get("urgency"),
                "ttl": int(request.headers["ttl"]),
            }
        )

    def _check_signature(self, header: str, device: Device) -> None:
        scheme, _, rest = header.partition(" ")
        parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if scheme.lower() != "vapid" or parts.get("k") != device.public_key:
            raise _Refused(403, "The push is not signed with the key of this subscription.")
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, from_base64url(parts["k"]))
            claims = jwt.decode(parts.get("t", ""), key, ["ES256"], audience=self.url)
        except (ValueError, jwt.InvalidTokenError) as error:
            raise _Refused(403, f"The signature is not valid: {error}") from None
        if claims["exp"] > time.time() + LONGEST_TOKEN or not claims.get("sub"):
            raise _Refused(403, "The signature is good for too long, or names no contact.")


def _faulty(fault: PushFault) -> Response | None:
    if fault.drop:
        return Dropped()
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    if fault.redirect_to is not None:
        return RedirectResponse(fault.redirect_to, fault.status or 307, headers)
    if fault.endless:
        return StreamingResponse(_endless(), fault.status or 201, headers)
    if fault.status is not None:
        return PlainTextResponse("Set by POST /_fake/behaviour.", fault.status, headers)
    return None


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 1024
        await asyncio.sleep(0.01)


def application(url: str, shelf: Shelf | None = None) -> CloseDropped:
    """The stand-in, which is reached at `url`; it starts with the devices on the shelf."""
    return CloseDropped(Starlette(routes=PushService(url, shelf).routes))


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok")
