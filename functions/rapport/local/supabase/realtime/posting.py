"""Broadcasts over HTTP: `/api/broadcast`, and `/api/broadcast/{topic}/events/{event}`."""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import unquote_to_bytes

import psycopg
from pydantic import AfterValidator, BaseModel, Field, JsonValue, StrictStr, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rapport.local.supabase.keys import KeySet, TokenError
from rapport.local.supabase.realtime.authorization import Authorizer
from rapport.local.supabase.realtime.bus import Bus
from rapport.local.supabase.realtime.callers import TokenCaller, headers_for_policies
from rapport.local.supabase.realtime.frames import Broadcast, encode
from rapport.server.overload import RETRY_AFTER

# Source: the default limit of a Realtime project
MAX_PAYLOAD_BYTES = 3_000 * 1024
# for a whole request
MAX_BODY_BYTES = 8_000_000

# their words in Realtime's own refusals
_BLANK = "can't be blank"
_TOO_LARGE = "Payload size exceeds tenant limit"
_WORDS = {"missing": _BLANK, "string_too_short": _BLANK, "value_error": _TOO_LARGE}

logger = logging.getLogger(__name__)


class _RefusedError(Exception):
    """The request is refused with this answer."""

    def __init__(self, status: int, answer: dict[str, JsonValue]) -> None:
        super().__init__(status)
        self.response = JSONResponse(answer, status, RETRY_AFTER if status == 503 else None)


def _fits(payload: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(encode(payload).encode()) > MAX_PAYLOAD_BYTES:
        raise ValueError(_TOO_LARGE)
    return payload


class _Message(BaseModel):
    topic: StrictStr = Field(min_length=1)
    event: StrictStr = Field(min_length=1)
    payload: Annotated[dict[str, JsonValue], AfterValidator(_fits)]
    private: bool = False


class _Batch(BaseModel):
    messages: list[_Message]


class Posting:
    """An ASGI application that broadcasts the posted messages; behind a check of API keys.

    On a private topic the caller needs the right to write. In a batch, messages without it are left
    out silently, as on a hosted project.
    """

    def __init__(self, keys: KeySet, bus: Bus, authorizer: Authorizer) -> None:
        self._keys = keys
        self._bus = bus
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except _RefusedError as refused:
            response = refused.response
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        # before it is decoded: a topic may have a slash
        parts = [unquote_to_bytes(part) for part in request.scope["raw_path"].split(b"/")[4:]]
        if request.method != "POST" or parts[:1] != [b"broadcast"]:
            raise _RefusedError(404, {"message": "not found"})
        caller = self._caller(request)
        match parts[1:]:
            case []:
                await self._batch(request, caller)
            case [topic, b"events", event]:
                await self._single(request, caller, _text(topic), _text(event))
            case _:
                raise _RefusedError(404, {"message": "not found"})
        return Response(status_code=202)

    def _caller(self, request: Request) -> TokenCaller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            return TokenCaller.of(self._keys, token if scheme.lower() == "bearer" else "")
        except TokenError as error:
            raise _RefusedError(401, {"message": "Unauthorized"}) from error

    async def _batch(self, request: Request, caller: TokenCaller) -> None:
        body = _json(await _body(request))
        try:
            batch = _Batch.model_validate(body)
        except ValidationError as error:
            raise _RefusedError(422, {"errors": _problems(error)}) from error
        topics = {message.topic for message in batch.messages if message.private}
        writable = {topic for topic in topics if await self._may_write(request, caller, topic)}
        for message in batch.messages:
            if not message.private or message.topic in writable:
                content = encode(message.payload).encode()
                broadcast = Broadcast(event=message.event, payload=content)
                self._bus.publish(message.topic, message.private, broadcast)

    async def _single(self, request: Request, caller: TokenCaller, topic: str, event: str) -> None:
        if not topic or not event:
            name = "event" if topic else "topic"
            raise _RefusedError(422, {"errors": {name: [_BLANK]}})
        kind = request.headers.get("content-type", "application/json").partition(";")[0]
        if kind.strip().lower() not in {"application/json", "application/octet-stream"}:
            told = "Unsupported Media Type. Use application/json or application/octet-stream"
            raise _RefusedError(415, {"error": told})
        content = await _body(request)
        is_binary = kind.strip().lower() == "application/octet-stream"
        if not is_binary:
            content = encode(_json(content or b"{}")).encode()
        if len(content) > MAX_PAYLOAD_BYTES:
            raise _RefusedError(422, {"errors": {"payload": [_TOO_LARGE]}})
        private = request.query_params.get("private") == "true"
        if private and not await self._may_write(request, caller, topic):
            raise _RefusedError(403, {"message": "Unauthorized"})
        broadcast = Broadcast(event=event, payload=content, is_binary=is_binary)
        self._bus.publish(topic, private, broadcast)

    async def _may_write(self, request: Request, caller: TokenCaller, topic: str) -> bool:
        headers = headers_for_policies(request.headers)
        try:
            return await self._authorizer.may_write(caller, headers, topic, "broadcast")
        except psycopg.OperationalError as error:
            logger.warning("could not ask who may write: %s", error)
            away = "Realtime was unable to connect to the project database"
            raise _RefusedError(503, {"message": away}) from error
        except psycopg.Error as error:
            logger.warning("a policy of realtime.messages failed: %s", error)
            raise _RefusedError(422, {"message": "RLS policy error"}) from error


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            told = f"The body is over {MAX_BODY_BYTES} bytes"
            raise _RefusedError(413, {"message": told})
    return bytes(body)


def _json(body: bytes) -> JsonValue:
    try:
        value: JsonValue = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _RefusedError(400, {"message": "The body is not JSON"}) from error
    return value


def _text(part: bytes) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        raise _RefusedError(400, {"message": "The path is not UTF-8"}) from error


def _problems(error: ValidationError) -> dict[str, JsonValue]:
    """The errors, by field; a list has one entry for each message up to the last wrong one."""
    by_message: dict[int, dict[str, JsonValue]] = {}
    for each in error.errors():
        match each["loc"]:
            case ("messages", int(index), str(name), *_):
                told = _WORDS.get(each["type"], "is invalid")
                by_message.setdefault(index, {})[name] = [told]
    if not by_message:
        return {"messages": [_BLANK]}
    return {"messages": [by_message.get(index, {}) for index in range(max(by_message) + 1)]}
