"""Frames of the websocket: Phoenix' two serializations and Realtime's binary broadcasts.

Source: reference of @supabase/phoenix and realtime-js (serializer.ts). A client chooses by `vsn`:
1.0.0 is one JSON object; 2.0.0 is a JSON array or, for broadcasts, bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

Frame = str | bytes

CLIENT_BROADCAST = 3
SERVER_BROADCAST = 4
BINARY_ENCODING = 0
JSON_ENCODING = 1
# a length in a binary frame has one byte
MAX_LENGTH = 255


class MalformedFrameError(ValueError):
    """The frame does not fit its version of the protocol."""


class ClientMessage(BaseModel):
    """A client's message; `join_ref` names the join of its channel."""

    model_config = ConfigDict(frozen=True)

    topic: str
    event: str
    payload: JsonValue = None
    ref: str | None = None
    join_ref: str | None = None


@dataclass(frozen=True)
class Broadcast:
    """A message for all listeners of a topic: `payload` is JSON, or bytes if `is_binary`.

    JSON stays text all the way, so that numbers survive which a Python float can't hold. `meta` is
    a JSON object; `id` is that of a stored message.
    """

    event: str
    payload: bytes
    is_binary: bool = False
    meta: bytes | None = None
    id: str | None = None


@dataclass(frozen=True)
class ClientBroadcast:
    """A client's broadcast on its way in; `ref` and `join_ref` as in ClientMessage."""

    topic: str
    broadcast: Broadcast
    ref: str | None
    join_ref: str | None


class Serializer(Protocol):
    """Encodes and decodes the messages of one version of the protocol.

    `payload` is always JSON text.
    """

    def decode(self, frame: Frame) -> ClientMessage | ClientBroadcast:
        """Raises MalformedFrameError."""

    def push(
        self, topic: str, event: str, payload: str, *, ref: str | None, join_ref: str | None
    ) -> Frame: ...

    def broadcast(self, topic: str, message: Broadcast) -> Frame | None:
        """The frame of a broadcast; None where this version can't carry it."""


class V1:
    """vsn 1.0.0: JSON objects of exactly topic, event, payload and ref."""

    def decode(self, frame: Frame) -> ClientMessage:
        if isinstance(frame, bytes):
            raise MalformedFrameError("version 1 has no binary frames")
        return _validate(_json(frame))

    def push(
        self,
        topic: str,
        event: str,
        payload: str,
        *,
        ref: str | None,
        join_ref: str | None,  # noqa: ARG002 - this version has no place for it
    ) -> str:
        return (
            f'{{"topic":{_text(topic)},"event":{_text(event)},'
            f'"payload":{payload},"ref":{_text(ref)}}}'
        )

    def broadcast(self, topic: str, message: Broadcast) -> str | None:
        if message.is_binary:
            return None
        return self.push(topic, "broadcast", as_payload(message), ref=None, join_ref=None)


class V2:
    """vsn 2.0.0: JSON arrays `[join_ref, ref, topic, event, payload]`, and bytes."""

    def decode(self, frame: Frame) -> ClientMessage | ClientBroadcast:
        if isinstance(frame, bytes):
            return _decode_broadcast(frame)
        match _json(frame):
            case [join_ref, ref, topic, event, payload]:
                return _validate(
                    {
                        "join_ref": join_ref,
                        "ref": ref,
                        "topic": topic,
                        "event": event,
                        "payload": payload,
                    }
                )
        raise MalformedFrameError("a message is an array of five")

    def push(
        self, topic: str, event: str, payload: str, *, ref: str | None, join_ref: str | None
    ) -> str:
        return f"[{_text(join_ref)},{_text(ref)},{_text(topic)},{_text(event)},{payload}]"

    def broadcast(self, topic: str, message: Broadcast) -> Frame | None:
        names = [topic.encode(), message.event.encode(), message.meta or b""]
        if any(len(name) > MAX_LENGTH for name in names):
            if message.is_binary:
                return None
            return self.push(topic, "broadcast", as_payload(message), ref=None, join_ref=None)
        encoding = BINARY_ENCODING if message.is_binary else JSON_ENCODING
        head = bytes([SERVER_BROADCAST, *map(len, names), encoding])
        return b"".join([head, *names, message.payload])


SERIALIZERS: dict[str, Serializer] = {"1.0.0": V1(), "2.0.0": V2()}


@dataclass
class Encodings:
    """One message in all requested versions, each encoded once for all subscribers.

    `id` is that of a stored broadcast.
    """

    encode_by: Callable[[Serializer], Frame | None]
    id: str | None = None
    _frames: dict[Serializer, Frame | None] = field(default_factory=dict)

    def by(self, serializer: Serializer) -> Frame | None:
        """The frame in this version; None where the version can't carry the message."""
        if serializer not in self._frames:
            self._frames[serializer] = self.encode_by(serializer)
        return self._frames[serializer]


def encode(payload: JsonValue) -> str:
    """JSON text of a payload."""
    return to_json(payload, inf_nan_mode="null").decode()


_ClientMessage = TypeAdapter(ClientMessage)


def _json(frame: str) -> JsonValue:
    try:
        value: JsonValue = from_json(frame, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedFrameError("a message is JSON") from error
    return value


def _validate(message: JsonValue) -> ClientMessage:
    try:
        return _ClientMessage.validate_python(message)
    except ValidationError as error:
        raise MalformedFrameError("a message has a topic, an event and a payload") from error


def _decode_broadcast(frame: bytes) -> ClientBroadcast:
    if len(frame) < 7 or frame[0] != CLIENT_BROADCAST:
        raise MalformedFrameError("not a broadcast of a client")
    parts: list[bytes] = []
    position = 7
    for length in frame[1:6]:
        parts.append(frame[position : position + length])
        position += length
    if position > len(frame):
        raise MalformedFrameError("a binary frame is shorter than its lengths say")
    payload = frame[position:]
    is_binary = frame[6] == BINARY_ENCODING
    if not is_binary:
        # written anew, so that other clients always get valid JSON
        payload = to_json(_json(_utf8(payload)), inf_nan_mode="null")
    join_ref, ref, topic, event = map(_utf8, parts[:4])
    return ClientBroadcast(
        topic=topic,
        broadcast=Broadcast(event=event, payload=payload, is_binary=is_binary),
        ref=ref or None,
        join_ref=join_ref or None,
    )


def _utf8(part: bytes) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        raise MalformedFrameError("names are UTF-8") from error


def as_payload(message: Broadcast) -> str:
    """The JSON text of a broadcast that is not binary, as the payload of a message."""
    meta = f',"meta":{message.meta.decode()}' if message.meta else ""
    return (
        f'{{"type":"broadcast","event":{_text(message.event)},'
        f'"payload":{message.payload.decode()}{meta}}}'
    )


def _text(value: str | None) -> str:
    return to_json(value).decode()
