"""One connection of the official Realtime client, with what that client lacks.

The official client does not notice that the server has stopped answering, or that its own listener
has died, and it gives up rejoining after some time. So each connection is used once: at the first
trouble it sets `broken` and is closed, and `Topics` opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from pydantic import JsonValue
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimeSubscribeStates,
)
from realtime.message import Message, ServerMessage
from realtime.types import (
    BroadcastPayload,
    ChannelEvents,
    RealtimeAcknowledgementStatus,
    RealtimeChannelOptions,
)

from rapport.client.timing import Timing
from rapport.errors import (
    NotAllowed,
    NotSignedIn,
    RapportError,
    Unprocessable,
    UpstreamUnavailable,
)

# seconds: switches the official client's heartbeat off, since it does not check the answers;
# `_beat` does
_NEVER = 10**6
# seconds: a server that does not read would delay the closing handshake
_GOODBYE_SECONDS = 1.0
_TOKEN_CODES = ("InvalidJWTToken", "MalformedJWT", "JwtSignatureError", "ExpiredToken")

Hear = Callable[[str, str, dict[str, JsonValue]], None]

logger = logging.getLogger(__name__)


class Room(Protocol):
    """A topic on which clients show who is online or who is typing."""

    # the key under which other clients see the user
    key: str
    # what the user shows; None while the user is hidden
    tracked: dict[str, JsonValue] | None

    def enter(self) -> None:
        """Is called before the topic is joined; the server then sends again who is there."""

    def show(self, who: frozenset[str]) -> None:
        """Takes the keys of all clients that are there."""

    def hear(self, event: str, payload: dict[str, JsonValue]) -> None:
        """Takes another client's broadcast."""

    def turn_away(self, reason: RapportError) -> None:
        """Takes the reason why the server does not show the user here."""


class RealtimeConnection:
    """A websocket and the topics that it has joined.

    `hear(topic, event, payload)` gets every broadcast. `wake()` is called once, when the connection
    can no longer be used; `broken` then holds the reason.
    """

    def __init__(
        self, url: str, key: str, token: str, timing: Timing, hear: Hear, wake: Callable[[], None]
    ) -> None:
        self.broken: Exception | None = None
        self.joined: dict[str, AsyncRealtimeChannel] = {}
        self._timing = timing
        self._hear = hear
        self._wake = wake
        self._leaving: dict[str, asyncio.Event] = {}
        self._heartbeat: asyncio.Task[None] | None = None
        self._client = AsyncRealtimeClient(
            url,
            token=key,
            auto_reconnect=False,
            hb_interval=_NEVER,
            max_retries=1,
            timeout=timing.join_timeout,
        )
        self._client.access_token = token
        # all channels, also those that were left: each may still have a timer
        self._channels: list[AsyncRealtimeChannel] = []

    async def open(self) -> None:
        """Opens the websocket. Raises UpstreamUnavailable."""
        try:
            await self._client.connect()
        except Exception as error:
            # the official client lets any error of the network, TLS and HTTP pass
            raise UpstreamUnavailable(
                f"Realtime can't be reached ({type(error).__name__})."
            ) from error
        self._heartbeat = asyncio.create_task(self._beat())

    async def join(self, topic: str, room: Room | None = None) -> None:
        """Joins a private topic; for a room, also its presence.

        Raises NotAllowed when the server refuses the topic, NotSignedIn when it refuses the token,
        and UpstreamUnavailable for everything else.
        """
        options: RealtimeChannelOptions = {
            "config": {
                "broadcast": None,
                "presence": {"key": room.key, "enabled": True} if room else None,
                "private": True,
            }
        }
        channel = self._client.channel(topic, options)
        if room is not None:
            room.enter()
            channel.on_presence_sync(lambda: room.show(frozenset(channel.presence_state())))
        self._channels.append(channel)
        channel.on_broadcast("*", lambda payload: self._receive(topic, payload))
        answer: list[tuple[RealtimeSubscribeStates, Exception | None]] = []

        def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            # the official client would rejoin by its own timers
            channel.rejoin_timer.reset()
            left = self._leaving.pop(topic, None)
            if left is not None:
                left.set()
            elif not answer:
                answer.append((state, error))
            else:
                self._break(UpstreamUnavailable(f"Realtime closed a topic ({state.value})."))

        try:
            await channel.subscribe(on_state)
        except Exception as error:
            raise UpstreamUnavailable(
                f"The connection to Realtime broke ({type(error).__name__})."
            ) from error
        channel.rejoin_timer.reset()
        state, reason = answer[0] if answer else (RealtimeSubscribeStates.CLOSED, None)
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            self._client.channels.pop(channel.topic, None)
            raise _refusal(state, reason)
        self.joined[topic] = channel
        if room is not None and room.tracked is not None:
            await self.track(topic, room)

    async def leave(self, topic: str) -> None:
        """Leaves a topic, and returns when the server has confirmed it."""
        channel = self.joined.pop(topic)
        left = self._leaving[topic] = asyncio.Event()
        try:
            async with asyncio.timeout(self._timing.heartbeat_timeout):
                await channel.unsubscribe()
                await left.wait()
        except Exception as error:  # noqa: BLE001 - as in open
            self._break(
                UpstreamUnavailable(
                    f"Realtime does not confirm that a topic was left ({type(error).__name__})."
                )
            )
        _discard(channel)
        self._channels.remove(channel)

    async def renew(self, token: str) -> None:
        """Sends the server a new token for the joined topics."""
        try:
            await self._client.set_auth(token)
        except Exception as error:  # noqa: BLE001 - as in open
            self._break(
                UpstreamUnavailable(f"The connection to Realtime broke ({type(error).__name__}).")
            )

    async def send(self, topic: str, event: str, payload: dict[str, JsonValue]) -> None:
        """Broadcasts to a joined topic. Without permission to write, nobody receives it."""
        await self.joined[topic].send_broadcast(event, payload)

    async def track(self, topic: str, room: Room) -> None:
        """Shows or hides the user in a joined room, as the room's `tracked` says.

        Does not wait for the answer; the room is told if the server refuses.
        """
        wanted: dict[str, JsonValue] = {"event": "untrack", "payload": {}}
        if room.tracked is not None:
            wanted = {"event": "track", "payload": room.tracked}
        # the official client's own `track` drops the answer
        push = await self.joined[topic].push(ChannelEvents.presence, wanted)
        push.receive(
            RealtimeAcknowledgementStatus.Error,
            lambda answer: room.turn_away(_no_place(answer)),
        )

    async def close(self) -> None:
        """Closes the socket and ends every task and timer."""
        self.broken = self.broken or UpstreamUnavailable("The connection was closed.")
        # the official client can't close the socket without a handshake, and its `close` can be
        # cancelled halfway
        client = self._client
        websocket = client._ws_connection
        all_tasks = (self._heartbeat, client._listen_task, client._heartbeat_task)
        tasks = [task for task in all_tasks if task is not None]
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await client.close()
        finally:
            # also when the caller is cancelled meanwhile
            for channel in self._channels:
                _discard(channel)
            self._channels.clear()
            self.joined.clear()
            for task in tasks:
                task.cancel()
            if websocket is not None:
                websocket.transport.abort()
                tasks.append(asyncio.create_task(websocket.wait_closed()))
            if tasks:
                await asyncio.wait(tasks)

    def _break(self, error: Exception) -> None:
        if self.broken is None:
            self.broken = error
            self._wake()

    def _receive(self, topic: str, payload: BroadcastPayload) -> None:
        try:
            self._hear(topic, payload["event"], payload.get("payload") or {})
        except Exception:
            # must not end the official client's listener; a catch-up finds the change
            logger.exception("a broadcast could not be taken")
            self._break(UpstreamUnavailable("A broadcast could not be taken."))

    async def _beat(self) -> None:
        """Sends heartbeats and checks that they are answered."""
        pulse = _Pulse(self._client)
        self._client.channels[pulse.topic] = pulse
        while True:
            pulse.answered.clear()
            try:
                async with asyncio.timeout(self._timing.heartbeat_timeout):
                    await self._client.send(
                        Message(
                            topic=pulse.topic,
                            event=ChannelEvents.heartbeat,
                            payload={},
                            ref="pulse",
                        )
                    )
                    await pulse.answered.wait()
            except Exception as error:  # noqa: BLE001 - as in open
                self._break(
                    UpstreamUnavailable(
                        f"Realtime does not answer heartbeats ({type(error).__name__})."
                    )
                )
                return
            await asyncio.sleep(self._timing.heartbeat)


class _Pulse(AsyncRealtimeChannel):
    """Takes the answers to heartbeats, which the official client drops, in the place where it looks
    for their topic.
    """

    def __init__(self, client: AsyncRealtimeClient) -> None:
        super().__init__(client, "phoenix")
        self.answered = asyncio.Event()

    def _handle_message(self, message: ServerMessage) -> None:  # noqa: ARG002 - realtime's
        self.answered.set()


def _discard(channel: AsyncRealtimeChannel) -> None:
    """Ends the timers of a channel and of its open requests."""
    channel.rejoin_timer.reset()
    channel.join_push.destroy()
    for push in channel.messages_waiting_for_ack.values():
        push.destroy()
    channel.messages_waiting_for_ack.clear()


def _no_place(answer: Mapping[str, object]) -> RapportError:
    """Why the server does not show the user."""
    reason = str(answer.get("reason", ""))
    if "permission" in reason:
        return NotAllowed("You may not appear in presence here.")
    return Unprocessable(f"Realtime refuses this presence ({reason}).")


def _refusal(state: RealtimeSubscribeStates, error: Exception | None) -> Exception:
    reason = ""
    with contextlib.suppress(ValueError, AttributeError):
        reason = str(json.loads(str(error)).get("reason", ""))
    if reason.startswith("Unauthorized"):
        return NotAllowed("You may not follow this any more.")
    if reason.startswith(_TOKEN_CODES):
        return NotSignedIn()
    return UpstreamUnavailable(f"Realtime refuses the topic ({reason or state.value}).")
