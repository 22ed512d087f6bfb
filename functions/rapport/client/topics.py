"""Joins the topics that subscriptions need, and joins them again after every loss of the
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from rapport.client.connection import RealtimeConnection, Room
from rapport.client.server import Server, Topic
from rapport.client.timing import Timing
from rapport.client.tokens import Tokens
from rapport.errors import (
    NotAllowed,
    NotSignedIn,
    RapportError,
    UpstreamUnavailable,
    asked_to_wait,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scope:
    """What to follow: everything that the user may see, one customer, one conversation, or a room.

    Rooms show presence and typing: the desk of an account, and each side of a conversation.
    """

    kind: Literal[
        "all",
        "customer",
        "conversation",
        "presence_desk",
        "presence_staff",
        "presence_customer",
        "typing_staff",
        "typing_customer",
    ] = "all"
    id: UUID | None = None


class Topics:
    """Holds one connection at a time and opens another after every trouble.

    `hear(event, payload, topic)` gets broadcasts. `changed()` is called when topics were joined or
    lost: then the client has to catch up.
    """

    def __init__(
        self,
        server: Server,
        key: str,
        tokens: Tokens,
        timing: Timing,
        hear: Callable[[str, dict[str, JsonValue], str], None],
        changed: Callable[[], None],
    ) -> None:
        self.error: Exception | None = None
        self._server = server
        self._key = key
        self._tokens = tokens
        self._timing = timing
        self._hear = hear
        self._changed = changed
        self._scopes: Counter[Scope] = Counter()
        self._topics: dict[Scope, frozenset[str]] = {}
        # the user's own topics: they also have the broadcasts of each conversation, together with
        # the other changes of the same transaction; and only they announce new names of topics
        self._news: frozenset[str] = frozenset()
        self._rooms: dict[Scope, Room] = {}
        self._refused: dict[str, RapportError] = {}
        self._connection: RealtimeConnection | None = None
        self._wake = asyncio.Event()
        self._hurried = asyncio.Event()
        # the names of the topics have to be asked for again
        self._is_stale = False
        self._soon: asyncio.TimerHandle | None = None
        self._doubted: set[str] = set()

    @property
    def is_live(self) -> bool:
        """Whether every scope is heard, apart from those that the user may not follow."""
        return all(
            self.hears(scope) or isinstance(self.refusal(scope), NotAllowed)
            for scope in self._scopes
        )

    def hears(self, scope: Scope) -> bool:
        """Whether the broadcasts of a scope arrive."""
        topics = self._topics.get(scope)
        connection = self._connection
        return (
            topics is not None
            and topics != frozenset()
            and connection is not None
            and connection.broken is None
            and topics <= connection.joined.keys()
        )

    def refusal(self, scope: Scope) -> Exception | None:
        """Why the broadcasts of a scope do not arrive."""
        if self.hears(scope):
            return None
        topics = self._topics.get(scope)
        if topics is not None:
            if not topics:
                return NotAllowed("You may not follow this, or no longer may.")
            for topic in topics & self._refused.keys():
                return self._refused[topic]
        return self.error

    def want(self, scope: Scope, room: Room | None = None) -> None:
        """Joins the topics of a scope, once for all who want it."""
        self._scopes[scope] += 1
        if room is not None:
            self._rooms[scope] = room
        self._wake.set()

    def unwant(self, scope: Scope) -> None:
        """Leaves the topics of a scope when nobody wants it any more."""
        self._scopes[scope] -= 1
        if not self._scopes[scope]:
            del self._scopes[scope]
            self._topics.pop(scope, None)
            self._rooms.pop(scope, None)
        self._wake.set()

    def refresh(self) -> None:
        """Asks for the names of the topics again, since a member has left."""
        self._is_stale = True
        self._wake.set()

    def rename(self) -> None:
        """As `refresh`, and once more: others may see it a moment after it is told."""
        self.refresh()
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        """Calls `refresh` after a short random time, since all clients of a desk get the same
        event.
        """

        def refresh() -> None:
            self._soon = None
            self.refresh()

        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(self._timing.backoff(2), refresh)

    def hurry(self) -> None:
        """Connects at once, since the server is back."""
        self._hurried.set()

    async def send(self, scope: Scope, event: str, payload: dict[str, JsonValue]) -> None:
        """Broadcasts to a room, if it is joined now."""
        if self._connection is not None and self.hears(scope):
            for topic in self._topics[scope]:
                await self._connection.send(topic, event, payload)

    async def track(self, scope: Scope) -> None:
        """Shows or hides the user in a room, if it is joined now."""
        if self._connection is not None and self.hears(scope):
            for topic in self._topics[scope]:
                await self._connection.track(topic, self._rooms[scope])

    async def run(self) -> None:
        """Runs until it is cancelled, and closes the connection then."""
        attempt = 0
        while True:
            await self._until_wanted()
            try:
                async for _ in self._keep():
                    attempt = 0
            except Exception as error:
                self.error = error
                if isinstance(error, RapportError):
                    logger.info("Realtime is away: %s", error)
                else:
                    # an error that we did not foresee must not end the task
                    logger.exception("Realtime is away")
                self._changed()
                await asyncio.sleep(asked_to_wait(error))
                self._hurried.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timing.backoff(attempt)):
                        await self._hurried.wait()
                attempt += 1

    async def _until_wanted(self) -> None:
        while not self._scopes:
            self.error = None
            self._wake.clear()
            await self._wake.wait()

    async def _keep(self) -> AsyncGenerator[None]:
        """Serves one connection for as long as it works and is wanted. Yields each time all topics
        are joined.
        """
        token = await self._tokens.current()
        connection = RealtimeConnection(
            self._server.realtime_url, self._key, token, self._timing, self._receive, self._wake.set
        )
        try:
            await connection.open()
            self._connection = connection
            self._is_stale = True
            while self._scopes:
                self._wake.clear()
                await self._sync(connection)
                if connection.broken is not None:
                    raise connection.broken
                self.error = None
                yield
                try:
                    # finds new names whose announcement was missed
                    async with asyncio.timeout(
                        min(self._tokens.seconds_left, self._timing.poll(self._timing.slow_poll))
                    ):
                        await self._wake.wait()
                except TimeoutError:
                    self._is_stale = True
                if token != (token := await self._tokens.current()):
                    await connection.renew(token)
        finally:
            self._connection = None
            await connection.close()

    async def _sync(self, connection: RealtimeConnection) -> None:
        """Joins the topics that are wanted and leaves the others."""
        if self._is_stale or self._topics.keys() != self._scopes.keys():
            self._is_stale = False
            self._refused.clear()
            self._topics = await self._named(set(self._scopes))
        wanted = self._news.union(*self._topics.values())
        missing = wanted - connection.joined.keys() - self._refused.keys()
        for topic in connection.joined.keys() - wanted:
            await connection.leave(topic)
        # in parallel, since each join waits for the server
        async with asyncio.TaskGroup() as joins:
            for topic in sorted(missing):
                joins.create_task(self._join(connection, topic))
        if missing:
            self._changed()

    async def _join(self, connection: RealtimeConnection, topic: str) -> None:
        try:
            await connection.join(topic, self._room(topic))
        except NotAllowed as error:
            self._refused[topic] = error
            # the topic may have been renamed meanwhile: ask once more, and a second refusal is
            # final
            if topic not in self._doubted:
                self._doubted.add(topic)
                self._refresh_soon()
        except NotSignedIn as error:
            self._tokens.discard()
            connection.broken = connection.broken or error
        except UpstreamUnavailable as error:
            connection.broken = connection.broken or error

    async def _named(self, scopes: set[Scope]) -> dict[Scope, frozenset[str]]:
        """The current topics of each scope; none where the user may not follow it."""
        mine = await self._server.my_topics()
        of_conversations: dict[UUID, list[Topic]] = {}
        named: dict[Scope, frozenset[str]] = {}
        self._news = frozenset(t.topic for t in mine if t.kind in {"account", "customer"})
        for scope in scopes:
            if scope.kind == "all":
                names = set(self._news)
            elif scope.kind == "customer":
                own = {t.topic for t in mine if t.kind == "customer" and t.id == scope.id}
                names = own or {t.topic for t in mine if t.kind == "account"}
            else:
                asked = mine
                if scope.kind != "presence_desk" and scope.id is not None:
                    # one answer names the topics of the chat, its presence and its typing
                    if scope.id not in of_conversations:
                        of_conversations[scope.id] = await self._server.my_topics(scope.id)
                    asked = of_conversations[scope.id]
                names = {t.topic for t in asked if t.kind == scope.kind and t.id == scope.id}
                if scope.kind == "conversation" and names:
                    names = set(self._news)
            named[scope] = frozenset(names)
        return named

    def _receive(self, topic: str, event: str, payload: dict[str, JsonValue]) -> None:
        room = self._room(topic)
        if room is not None:
            # clients do not broadcast on presence topics, so this event is the server's
            if event == "topics.changed" and topic.startswith("presence:"):
                self._refresh_soon()
            else:
                room.hear(event, payload)
            return
        # a late broadcast on a topic that was left is dropped; a catch-up finds the change
        if event == "topics.changed" or any(topic in topics for topics in self._topics.values()):
            self._hear(event, payload, topic)

    def _room(self, topic: str) -> Room | None:
        return next(
            (
                room
                for scope, room in self._rooms.items()
                if topic in self._topics.get(scope, frozenset())
            ),
            None,
        )
