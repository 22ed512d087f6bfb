"""One topic that one socket has joined."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

import psycopg
from pydantic import JsonValue

from rapport.api_keys import is_opaque
from rapport.local.supabase.keys import KeySet, TokenError
from rapport.local.supabase.realtime.attendance import Attendance, PresenceAbuseError
from rapport.local.supabase.realtime.authorization import Authorizer, Extension
from rapport.local.supabase.realtime.bus import TOPIC_PREFIX, Bus
from rapport.local.supabase.realtime.callers import TokenCaller, code_of
from rapport.local.supabase.realtime.changes import ChangeFeed
from rapport.local.supabase.realtime.frames import (
    Broadcast,
    Encodings,
    Frame,
    Serializer,
    as_payload,
    encode,
)
from rapport.local.supabase.realtime.joins import InvalidJoinError, Join, ReplayConfig
from rapport.local.supabase.realtime.messages import StoredMessages
from rapport.local.supabase.realtime.rights import Rights
from rapport.local.supabase.realtime.subscriptions import SubscriptionError, binding_id
from rapport.local.supabase.realtime.tracker import Place, Tracker

DATABASE_AWAY = "Realtime was unable to connect to the project database"
# Source: Realtime's own time for `replication_ready`
REPLICATION_SECONDS = 60.0

logger = logging.getLogger(__name__)


class JoinRefusedError(Exception):
    """The join is refused; the message says why."""


class ChannelSocket(Protocol):
    """The socket, as its channels use it."""

    keys: KeySet
    token: str
    headers: str
    serializer: Serializer

    def send(self, frame: Frame) -> None:
        """Queues a frame for the client."""

    def forget(self, channel: Channel) -> None:
        """Removes a closed channel from the socket's list."""


class Services(Protocol):
    """The common part of the channels of all sockets."""

    bus: Bus
    tracker: Tracker
    authorizer: Authorizer
    changes: ChangeFeed
    stored: StoredMessages
    # set while broadcasts and changes from the database are heard
    streaming: asyncio.Event


class Channel:
    """A channel from its join to its end; the socket calls every method except `deliver…`.

    Raises JoinRefusedError for a payload that can't be read.
    """

    def __init__(
        self,
        connection: ChannelSocket,
        services: Services,
        topic: str,
        join_ref: str | None,
        payload: JsonValue,
    ) -> None:
        self.topic = topic
        self.join_ref = join_ref
        self._name = topic.removeprefix(TOPIC_PREFIX)
        self._connection = connection
        self._services = services
        try:
            self._join = Join.parse(payload)
        except InvalidJoinError as error:
            raise JoinRefusedError(str(error)) from error
        self._token = ""
        self._rights: Rights | None = None
        config = self._join.config
        self._attendance = Attendance(
            services.tracker, Place(self._name, config.private), config.presence, self
        )
        self._expiry: asyncio.TimerHandle | None = None
        self._announcement: asyncio.Task[None] | None = None
        # messages that come before the answer to the join, and the ids of stored broadcasts
        self._held: list[tuple[str | None, Frame]] | None = []
        self._replay: list[Broadcast] = []
        self._replayed: frozenset[str | None] = frozenset()
        self._is_closed = False

    async def join(self) -> dict[str, JsonValue]:
        """Accepts the join and returns the response; call `start` after it was sent.

        Raises JoinRefusedError.
        """
        try:
            return await self._accept()
        except BaseException:
            # also when the socket ends meanwhile
            self.abandon()
            raise

    async def _accept(self) -> dict[str, JsonValue]:
        if not self._name:
            raise JoinRefusedError("TopicNameRequired: You must provide a topic name")
        token = self._join.token(self._connection.token)
        try:
            caller = TokenCaller.of(self._connection.keys, token)
        except TokenError as error:
            raise JoinRefusedError(f"{code_of(error)}: {error}") from error
        rights = await self._rights_of(caller)
        replay = self._join.config.broadcast.replay
        if replay is not None and not self._join.config.private:
            raise JoinRefusedError(
                "UnableToReplayMessages: Replay is not allowed for public channels"
            )
        if not (rights.may_read("broadcast") if replay else rights.may_read_any):
            raise JoinRefusedError(
                "Unauthorized: You do not have permissions to read from this Channel topic: "
                + self._name
            )
        self._adopt(token, rights)
        if replay is not None:
            await self._read_replay(replay)
        if self._waits_for_changes:
            await self._wait_for_changes(rights)
        self._watch_expiry(rights)
        bindings: list[JsonValue] = [
            {**params, "id": binding_id(params)} for params in self._bindings
        ]
        return {"postgres_changes": bindings}

    async def start(self) -> None:
        """Sends the answer to the join's requests: stored broadcasts, then the messages that came
        meanwhile, the presence state, and the notice that the database is heard.
        """
        for message in self._replay:
            self._send_replayed(message)
        held, self._held, self._replay = self._held or [], None, []
        for message_id, frame in held:
            if message_id is None or message_id not in self._replayed:
                self._connection.send(frame)
        self.show_presence()
        if self._join.config.broadcast.replication_ready:
            self._announcement = asyncio.create_task(self._announce_replication())
        if self._waits_for_changes:
            self.report("postgres_changes", "ok", "Subscribed to PostgreSQL")
        else:
            await self._subscribe()

    async def _subscribe(self) -> None:
        if not self._bindings or self._rights is None:
            return
        outcome = ("ok", "Subscribed to PostgreSQL")
        try:
            await self._services.changes.subscribe(self, self._rights.caller, self._bindings)
        except SubscriptionError as error:
            outcome = ("error", str(error))
        except psycopg.Error as error:
            logger.warning("could not subscribe: %s", error)
            outcome = ("error", DATABASE_AWAY)
        if self._is_closed:
            # the token has expired meanwhile
            self._services.changes.unsubscribe(self)
        else:
            self.report("postgres_changes", *outcome)

    async def refresh(self, payload: JsonValue) -> None:
        """Takes a new token; closes the channel if the token no longer allows it."""
        token = payload.get("access_token") if isinstance(payload, dict) else None
        if not isinstance(token, str) or is_opaque(token) or token == self._token:
            return
        try:
            caller = TokenCaller.of(self._connection.keys, token)
            rights = await self._rights_of(caller)
        except (TokenError, JoinRefusedError) as error:
            self.shut_down(str(error))
            return
        if self._rights is None or rights.has_lost(self._rights):
            self.shut_down(
                f"You no longer have permission to read from this Channel topic: {self._name}"
            )
            return
        if not self._is_closed:
            self._adopt(token, rights)
            self._watch_expiry(rights)
            self.show_presence()
            await self._subscribe()

    async def send_broadcast(self, message: Broadcast) -> bool:
        """Passes on a client's broadcast; returns whether the client wants an answer.

        Without permission to write it is dropped silently, as on a hosted project.
        """
        config = self._join.config
        if self._rights is None or not await self._rights.may_write("broadcast"):
            return False
        # its token may have expired while the database was asked
        if self._is_closed:
            return False
        options = config.broadcast
        sender = None if options.self_ else self
        self._services.bus.publish(self._name, config.private, message, sender=sender)
        return options.ack

    async def handle_presence(self, message: JsonValue) -> bool:
        """Carries out a presence message; False if that closed the channel.

        Call `show_presence` after the client got its answer. Raises PresenceRefusedError.
        """
        if self._rights is None:
            return False
        try:
            await self._attendance.handle(message, self._rights)
        except PresenceAbuseError as error:
            self.shut_down(str(error))
            return False
        return True

    def show_presence(self) -> None:
        """Sends the presence state, if the client asked for it and may see it."""
        state = self._attendance.start_watching(self._rights) if self._rights else None
        if state is not None:
            self._push("presence_state", state, ref=None, join_ref=self.join_ref)

    def deliver(self, message: Encodings) -> None:
        """Sends the client a message, if its version of the protocol can carry it."""
        frame = message.by(self._connection.serializer)
        if frame is None or (message.id is not None and message.id in self._replayed):
            return
        if self._held is None:
            self._connection.send(frame)
        else:
            self._held.append((message.id, frame))

    def deliver_change(self, payload: str) -> None:
        """Sends the client a change of a row, as JSON text."""
        frame = self._connection.serializer.push(
            self.topic, "postgres_changes", payload, ref=None, join_ref=None
        )
        if self._held is None:
            self._connection.send(frame)
        else:
            self._held.append((None, frame))

    def report(self, extension: str, status: str, message: str) -> None:
        """Sends the client the state of its channel."""
        payload = encode(
            {"extension": extension, "status": status, "message": message, "channel": self._name}
        )
        self._push("system", payload, ref=None, join_ref=self.join_ref)

    def shut_down(self, reason: str) -> None:
        """Closes the channel from the server's side, with the reason."""
        if not self._is_closed:
            self.report("system", "error", reason)
            self.close()

    def close(self) -> None:
        """Ends the channel and tells the client."""
        if not self._is_closed:
            self.abandon()
            self._push("phx_close", "{}", ref=self.join_ref, join_ref=self.join_ref)
            self._connection.forget(self)

    def abandon(self) -> None:
        """Ends the channel of a socket that is gone."""
        self._is_closed = True
        if self._expiry:
            self._expiry.cancel()
        # its own end may be what closes the channel
        if self._announcement and self._announcement is not asyncio.current_task():
            self._announcement.cancel()
        self._services.bus.leave(self._name, self._join.config.private, self)
        self._attendance.end()
        self._services.changes.unsubscribe(self)

    @property
    def _bindings(self) -> tuple[dict[str, JsonValue], ...]:
        return self._join.config.postgres_changes

    @property
    def _waits_for_changes(self) -> bool:
        return self._join.config.postgres_changes_options.wait and bool(self._bindings)

    def _adopt(self, token: str, rights: Rights) -> None:
        self._token = token
        self._rights = rights
        if rights.may_read("broadcast"):
            self._services.bus.join(self._name, self._join.config.private, self)

    async def _read_replay(self, replay: ReplayConfig) -> None:
        """Reads stored broadcasts; live ones are held until these were sent."""
        try:
            self._replay = await self._services.stored.since(self._name, replay.since, replay.count)
        except psycopg.Error as error:
            logger.warning("could not replay: %s", error)
            raise JoinRefusedError(
                "UnableToReplayMessages: Realtime was unable to replay messages"
            ) from error
        self._replayed = frozenset(message.id for message in self._replay)

    async def _wait_for_changes(self, rights: Rights) -> None:
        milliseconds = self._join.config.postgres_changes_options.wait_ms
        try:
            async with asyncio.timeout(milliseconds / 1000):
                await self._services.streaming.wait()
                await self._services.changes.subscribe(self, rights.caller, self._bindings)
        except TimeoutError:
            raise JoinRefusedError(
                f"PostgresChangesSubscribeTimeout: Timed out after {milliseconds}ms waiting for "
                "the postgres_changes subscription"
            ) from None
        except SubscriptionError as error:
            raise JoinRefusedError(f"RealtimeDisabledForConfiguration: {error}") from error
        except psycopg.Error as error:
            logger.warning("could not subscribe: %s", error)
            raise JoinRefusedError(DATABASE_AWAY) from error

    async def _announce_replication(self) -> None:
        try:
            async with asyncio.timeout(REPLICATION_SECONDS):
                await self._services.streaming.wait()
        except TimeoutError:
            self.shut_down("Replication connection was not established in time")
            return
        if not self._is_closed:
            self.report("system", "ok", "Replication connection established")

    def _send_replayed(self, message: Broadcast) -> None:
        if not message.is_binary:
            self._push("broadcast", as_payload(message), ref=None, join_ref=self.join_ref)
            return
        frame = self._connection.serializer.broadcast(self.topic, message)
        if frame is not None:
            self._connection.send(frame)

    def _watch_expiry(self, rights: Rights) -> None:
        if self._expiry:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(
            rights.caller.expires_at - time.time(), self._expire, rights.caller
        )

    def _expire(self, caller: TokenCaller) -> None:
        seconds = max(0, int(time.time() - caller.expires_at))
        self.shut_down(f"Token has expired {seconds} seconds ago")

    async def _rights_of(self, caller: TokenCaller) -> Rights:
        rights = Rights(
            self._services.authorizer,
            caller,
            self._connection.headers,
            self._name,
            private=self._join.config.private,
        )
        extensions: list[Extension] = ["broadcast"]
        if self._attendance.is_enabled:
            extensions.append("presence")
        try:
            await rights.ask_to_read(extensions)
        except psycopg.Error as error:
            logger.warning("could not ask who may join: %s", error)
            raise JoinRefusedError(DATABASE_AWAY) from error
        return rights

    def _push(self, event: str, payload: str, *, ref: str | None, join_ref: str | None) -> None:
        self._connection.send(
            self._connection.serializer.push(self.topic, event, payload, ref=ref, join_ref=join_ref)
        )
