"""One connection of the official Realtime client, with what it leaves out.

The package notices neither a server that has stopped answering nor a listener of its own that
has died, and its attempts to rejoin end after a while. So a connection here is used once: at
the first trouble it says so and is thrown away whole, and the link builds another.
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

# the package sends its own and looks for no answer: ours does for both
_NEVER = 10**6
# a server that does not read would keep a polite goodbye waiting
_GOODBYE_SECONDS = 1.0
_TOKEN_CODES = ("InvalidJWTToken", "MalformedJWT", "JwtSignatureError", "ExpiredToken")

Hear = Callable[[str, str, dict[str, JsonValue]], None]

logger = logging.getLogger(__name__)


class Room(Protocol):
    """What is told of a topic on which clients show themselves."""

    # by which the user is known there
    key: str
    # what the user shows of itself; None while it is not to be seen
    tracked: dict[str, JsonValue] | None

    def enter(self) -> None:
        """Takes that the topic is about to be joined: who is there will be told anew."""

    def show(self, who: frozenset[str]) -> None:
        """Takes the keys of all who are there."""

    def hear(self, event: str, payload: dict[str, JsonValue]) -> None:
        """Takes what another client has broadcast."""

    def turn_away(self, reason: RapportError) -> None:
        """Takes that the user may not be seen here."""


class RealtimeConnection:
    """A websocket and the topics that it has joined.

    `hear(topic, event, payload)` gets every broadcast. `wake()` is called once when the
    connection is of no more use, with `broken` set to why.
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
        # every channel that ever was, since each may have left a timer behind
        self._channels: list[AsyncRealtimeChannel] = []

    async def open(self) -> None:
        """Connects. Raises UpstreamUnavailable."""
        try:
            await self._client.connect()
        except Exception as error:
            # the package lets through whatever the network, TLS and HTTP may raise
            raise UpstreamUnavailable(
                f"Realtime can't be reached ({type(error).__name__})."
            ) from error
        self._heartbeat = asyncio.create_task(self._beat())

    async def join(self, topic: str, room: Room | None = None) -> None:
        """Joins a private topic; of a room also who is there.

        Raises NotAllowed when it is refused, NotSignedIn when the token is, and
        UpstreamUnavailable for anything else.
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
            # the package would rejoin by timers of its own
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
            raise UpstreamUnavailable(f"Realtime is gone ({type(error).__name__}).") from error
        channel.rejoin_timer.reset()
        state, reason = answer[0] if answer else (RealtimeSubscribeStates.CLOSED, None)
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            self._client.channels.pop(channel.topic, None)
            raise _refusal(state, reason)
        self.joined[topic] = channel
        if room is not None and room.tracked is not None:
            await self.track(topic, room)

    async def leave(self, topic: str) -> None:
        """Leaves a topic, and returns when the server has let go of it."""
        channel = self.joined.pop(topic)
        left = self._leaving[topic] = asyncio.Event()
        try:
            async with asyncio.timeout(self._timing.heartbeat_timeout):
                await channel.unsubscribe()
                await left.wait()
        except Exception as error:  # noqa: BLE001 - as in open
            self._break(UpstreamUnavailable(f"Realtime lets nobody go ({type(error).__name__})."))
        _discard(channel)
        self._channels.remove(channel)

    async def renew(self, token: str) -> None:
        """Hands the server a new token for the topics that are joined."""
        try:
            await self._client.set_auth(token)
        except Exception as error:  # noqa: BLE001 - as in open
            self._break(UpstreamUnavailable(f"Realtime is gone ({type(error).__name__})."))

    async def send(self, topic: str, event: str, payload: dict[str, JsonValue]) -> None:
        """Broadcasts to a joined topic; without permission to write nobody hears it."""
        await self.joined[topic].send_broadcast(event, payload)

    async def track(self, topic: str, room: Room) -> None:
        """Shows the user as present in a joined room, or no more, as the room has it.

        The answer is not waited for: the room is told when it is no.
        """
        wanted: dict[str, JsonValue] = {"event": "untrack", "payload": {}}
        if room.tracked is not None:
            wanted = {"event": "track", "payload": room.tracked}
        # the package's own track drops the answer
        push = await self.joined[topic].push(ChannelEvents.presence, wanted)
        push.receive(
            RealtimeAcknowledgementStatus.Error,
            lambda answer: room.turn_away(_no_place(answer)),
        )

    async def close(self) -> None:
        """Leaves nothing behind: no task, no timer, no socket."""
        self.broken = self.broken or UpstreamUnavailable("The connection was closed.")
        # the package has no way to hang up, and its own way may be cut short
        client = self._client
        websocket = client._ws_connection
        all_tasks = (self._heartbeat, client._listen_task, client._heartbeat_task)
        tasks = [task for task in all_tasks if task is not None]
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await client.close()
        finally:
            # also when whoever closes is cancelled meanwhile
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
            # it must not end the package's listener, and what it was of is caught up
            logger.exception("a broadcast could not be taken")
            self._break(UpstreamUnavailable("A broadcast could not be taken."))

    async def _beat(self) -> None:
        """Asks for an answer every now and then."""
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
                self._break(UpstreamUnavailable(f"Realtime is silent ({type(error).__name__})."))
                return
            await asyncio.sleep(self._timing.heartbeat)


class _Pulse(AsyncRealtimeChannel):
    """Stands where the package looks for the topic of heartbeats, whose answers it drops."""

    def __init__(self, client: AsyncRealtimeClient) -> None:
        super().__init__(client, "phoenix")
        self.answered = asyncio.Event()

    def _handle_message(self, message: ServerMessage) -> None:  # noqa: ARG002 - realtime's
        self.answered.set()


def _discard(channel: AsyncRealtimeChannel) -> None:
    """Ends the timers of a channel and of what it was waiting for."""
    channel.rejoin_timer.reset()
    channel.join_push.destroy()
    for push in channel.messages_waiting_for_ack.values():
        push.destroy()
    channel.messages_waiting_for_ack.clear()


def _no_place(answer: Mapping[str, object]) -> RapportError:
    """Why the user is not shown."""
    reason = str(answer.get("reason", ""))
    if "permission" in reason:
        return NotAllowed("You may not show yourself here.")
    return Unprocessable(f"Realtime does not show this ({reason}).")


def _refusal(state: RealtimeSubscribeStates, error: Exception | None) -> Exception:
    reason = ""
    with contextlib.suppress(ValueError, AttributeError):
        reason = str(json.loads(str(error)).get("reason", ""))
    if reason.startswith("Unauthorized"):
        return NotAllowed("You may not follow this any more.")
    if reason.startswith(_TOKEN_CODES):
        return NotSignedIn()
    return UpstreamUnavailable(f"Realtime does not let us join ({reason or state.value}).")
