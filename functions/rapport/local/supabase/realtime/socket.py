"""One websocket: its frames, and the channels that it has joined."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pydantic import JsonValue
from starlette.websockets import WebSocket, WebSocketDisconnect

from rapport.local.supabase.keys import KeySet
from rapport.local.supabase.realtime.attendance import PresenceRefusedError
from rapport.local.supabase.realtime.bus import TOPIC_PREFIX
from rapport.local.supabase.realtime.channel import Channel, JoinRefusedError, Services
from rapport.local.supabase.realtime.frames import (
    Broadcast,
    ClientBroadcast,
    ClientMessage,
    Frame,
    MalformedFrameError,
    Serializer,
    encode,
)
from rapport.local.supabase.realtime.outbox import FrameQueue, SlowClientError

# Phoenix' own; clients send a heartbeat every 25 s
SILENCE_SECONDS = 60.0
WITHOUT_CHANNEL_SECONDS = 600.0
# for a client that never joins a channel
FIRST_JOIN_SECONDS = 60.0
MAX_CHANNELS = 100
# Source: the default limit of a Realtime project
MAX_BROADCAST_BYTES = 3_000 * 1024
# time for a slow client to read why it is cut off
CLOSE_SECONDS = 30.0

NORMAL_CLOSURE = 1000
INVALID_DATA = 1007
TRY_AGAIN_LATER = 1013


class SocketEndError(Exception):
    """The server closes the socket with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Socket:
    """A connected client; `token` is the key it connected with, `headers` a JSON object."""

    def __init__(
        self,
        websocket: WebSocket,
        services: Services,
        *,
        keys: KeySet,
        token: str,
        headers: str,
        serializer: Serializer,
    ) -> None:
        self.keys = keys
        self.token = token
        self.headers = headers
        self.serializer = serializer
        self._websocket = websocket
        self._services = services
        self._outbox = FrameQueue()
        self._channels: dict[str, Channel] = {}
        self._had_channel_at = self._began_at = time.monotonic()
        self._has_joined = False

    async def run(self) -> None:
        """Serves the client until it leaves, is silent too long, breaks the protocol or falls
        behind.
        """
        code: int | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outbox.send_to(self._websocket))
                tasks.create_task(self._outbox.watch())
                tasks.create_task(self._receive())
        except* WebSocketDisconnect:
            pass
        except* SlowClientError:
            code = TRY_AGAIN_LATER
        except* SocketEndError as ends:
            code = next(end.code for end in ends.exceptions if isinstance(end, SocketEndError))
        finally:
            for channel in self._channels.values():
                channel.abandon()
        if code is not None:
            # a client that does not read would delay the end
            with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._websocket.close(code)

    def send(self, frame: Frame) -> None:
        """Queues a frame for the client."""
        self._outbox.put(frame)

    def forget(self, channel: Channel) -> None:
        """Removes a closed channel from the list."""
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]

    async def _receive(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._patience()):
                    received = await self._websocket.receive()
            except TimeoutError:
                raise SocketEndError(NORMAL_CLOSURE) from None
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received["code"])
            frame: Frame | None = received.get("text")
            if frame is None:
                frame = received["bytes"]
            try:
                message = self.serializer.decode(frame)
            except MalformedFrameError:
                raise SocketEndError(INVALID_DATA) from None
            await self._handle(message)
            self._check_channels()

    def _patience(self) -> float:
        """The seconds until the socket ends, if nothing more comes."""
        if self._has_joined:
            return SILENCE_SECONDS
        left = self._began_at + FIRST_JOIN_SECONDS - time.monotonic()
        return max(0.0, min(SILENCE_SECONDS, left))

    def _check_channels(self) -> None:
        now = time.monotonic()
        if self._channels:
            self._had_channel_at = now
        elif now - self._had_channel_at > WITHOUT_CHANNEL_SECONDS:
            raise SocketEndError(NORMAL_CLOSURE)

    async def _handle(self, message: ClientMessage | ClientBroadcast) -> None:
        """Handles one message after another, since clients rely on their order."""
        if isinstance(message, ClientBroadcast):
            await self._broadcast(message, message.broadcast)
            return
        if message.topic == "phoenix" and message.event == "heartbeat":
            self._reply(message, "ok", {})
            return
        if message.event == "phx_join":
            await self._join(message)
            return
        channel = self._channels.get(message.topic)
        if channel is None:
            self._reply(message, "error", {"reason": "unmatched topic"})
            return
        match message.event:
            case "phx_leave":
                self._reply(message, "ok", {})
                channel.close()
            case "access_token":
                await channel.refresh(message.payload)
            case "broadcast":
                await self._broadcast(message, _broadcast_in(message.payload))
            case "presence":
                await self._presence(message, channel)
            case event:
                self._reply(message, "error", {"reason": f"unsupported event: {event}"})

    async def _join(self, message: ClientMessage) -> None:
        topic = message.topic
        if not topic.startswith(TOPIC_PREFIX):
            self._reply(message, "error", {"reason": "unmatched topic"})
            return
        earlier = self._channels.get(topic)
        if earlier is not None:
            earlier.close()
        if len(self._channels) >= MAX_CHANNELS:
            self._reply(message, "error", {"reason": "ChannelRateLimitReached: Too many channels"})
            return
        join_ref = message.join_ref or message.ref
        try:
            channel = Channel(self, self._services, topic, join_ref, message.payload)
            response = await channel.join()
        except JoinRefusedError as error:
            self._reply(message, "error", {"reason": str(error)})
            return
        self._channels[topic] = channel
        self._has_joined = True
        self._reply(message, "ok", response)
        await channel.start()

    async def _broadcast(
        self, message: ClientMessage | ClientBroadcast, broadcast: Broadcast | None
    ) -> None:
        channel = self._channels.get(message.topic)
        if channel is None:
            self._reply(message, "error", {"reason": "unmatched topic"})
        elif broadcast is None:
            self._reply(message, "error", {"reason": "a broadcast has an event and a payload"})
        elif len(broadcast.payload) > MAX_BROADCAST_BYTES:
            self._reply(message, "error", {"reason": "payload_size_exceeded"})
        elif await channel.send_broadcast(broadcast):
            self._reply(message, "ok", {})

    async def _presence(self, message: ClientMessage, channel: Channel) -> None:
        try:
            is_open = await channel.handle_presence(message.payload)
        except PresenceRefusedError as error:
            self._reply(message, "error", {"reason": str(error)})
            return
        if is_open:
            self._reply(message, "ok", {})
            channel.show_presence()

    def _reply(
        self,
        message: ClientMessage | ClientBroadcast,
        status: str,
        response: dict[str, JsonValue],
    ) -> None:
        self.send(
            self.serializer.push(
                message.topic,
                "phx_reply",
                encode({"status": status, "response": response}),
                ref=message.ref,
                join_ref=message.join_ref,
            )
        )


def _broadcast_in(payload: JsonValue) -> Broadcast | None:
    match payload:
        case {"event": str(event), "payload": content}:
            return Broadcast(event=event, payload=encode(content).encode())
    return None
