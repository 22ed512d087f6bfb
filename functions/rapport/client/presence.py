"""Presence and typing. Nothing of it is stored.

The server proves only which side a client belongs to, since that side alone may send on its topic.
So the keys that a client shows are not proof of who it is; take names from the tables. Open one
room of a kind and id at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import UUID

from pydantic import JsonValue

from rapport.client.callbacks import run_now
from rapport.client.catch_up import CatchUp
from rapport.client.topics import Scope
from rapport.errors import RapportError

TYPING = "typing"
# a client that types says so again and again; without a new signal typing ends after this time
TYPING_SECONDS = 5.0
SAY_AGAIN_SECONDS = 2.0
# who is at the desk or in a conversation says so to the database, for which it counts somewhat
# longer
STAY_SECONDS = 60.0
# until it could be said
FIRST_STAY_SECONDS = 1.0


def person_id(user: UUID) -> UUID:
    """The id under which others see a user, as in `conversation_people`."""
    return UUID(bytes=hashlib.sha256(str(user).encode()).digest()[:16])


class _PresenceRoom:
    """A topic for presence or typing, until `close`, which `async with` calls."""

    def __init__(self, catch_up: CatchUp, scope: Scope, key: str) -> None:
        self.key = key
        self.tracked: dict[str, JsonValue] | None = None
        self._refused: RapportError | None = None
        self._topics = catch_up.topics
        self._scope = scope
        self._is_closed = False
        self._topics.want(scope, self)

    @property
    def is_connected(self) -> bool:
        """Whether signals arrive from others and reach them."""
        return not self._is_closed and self._topics.hears(self._scope)

    @property
    def error(self) -> Exception | None:
        """The current error; None if there is none."""
        return self._topics.refusal(self._scope) or self._refused

    async def close(self) -> None:
        """Leaves the topic."""
        if not self._is_closed:
            self._is_closed = True
            self._topics.unwant(self._scope)

    def enter(self) -> None:
        """Is called before the topic is joined."""

    def show(self, who: frozenset[str]) -> None:
        """Takes the keys of all clients that are there."""

    def hear(self, event: str, payload: dict[str, JsonValue]) -> None:
        """Takes another client's broadcast."""

    def turn_away(self, reason: RapportError) -> None:
        """Takes the reason why the server does not show the user here."""
        self.tracked = None
        self._refused = reason

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Presence(_PresenceRoom):
    """The keys of the clients that are online; the key of our client is the user's `person_id`.

    `on_change` is a plain function.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        scope: Scope,
        key: str,
        on_change: Callable[[frozenset[str]], None] | None = None,
    ) -> None:
        self._on_change = on_change
        self._who: frozenset[str] = frozenset()
        self._told = self._who
        super().__init__(catch_up, scope, key)

    @property
    def online(self) -> frozenset[str]:
        """The keys of all clients that are online; empty while there is no connection."""
        return self._who if self.is_connected else frozenset()

    async def show_me(self, **shown: JsonValue) -> None:
        """Shows the user to others, also after a reconnection.

        If the server refuses, as on the other side's topic, `error` says so soon. The server closes
        a topic whose presence changes more than five times in 30 seconds.
        """
        self.tracked = shown
        self._refused = None
        await self._topics.track(self._scope)

    async def hide_me(self) -> None:
        """Hides the user again."""
        self.tracked = None
        self._refused = None
        await self._topics.track(self._scope)

    def enter(self) -> None:
        """Is called before the topic is joined: forgets the keys, since those clients may have
        left.
        """
        self._who = frozenset()

    def show(self, who: frozenset[str]) -> None:
        """Takes the keys of all clients that are there."""
        self._who = who
        if who != self._told and not self._is_closed:
            self._told = who
            if (on_change := self._on_change) is not None:
                run_now([lambda: on_change(who)])


class StayingPresence(Presence):
    """Who is at an account's desk, or in a conversation. While the user is shown there, `stay` says
    so to the database: conversations may be assigned in turn to members at the desk
    (`accounts.assigns_in_turn`), and a user in a conversation is not told of its messages on a
    device.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        scope: Scope,
        stay: Callable[[], Awaitable[None]],
        key: str,
        on_change: Callable[[frozenset[str]], None] | None = None,
    ) -> None:
        self._say_so = stay
        self._staying: asyncio.Task[None] | None = None
        super().__init__(catch_up, scope, key, on_change)

    async def show_me(self, **shown: JsonValue) -> None:
        """Shows the user to others, and says every minute that the user is there."""
        await super().show_me(**shown)
        if self._staying is None:
            self._staying = asyncio.create_task(self._stay())

    async def hide_me(self) -> None:
        """Hides the user again."""
        await super().hide_me()
        self._leave()

    def turn_away(self, reason: RapportError) -> None:
        """Takes the reason why the server does not show the user here."""
        super().turn_away(reason)
        self._leave()

    async def close(self) -> None:
        """Leaves the topic."""
        self._leave()
        await super().close()

    def _leave(self) -> None:
        if self._staying is not None:
            self._staying.cancel()
            self._staying = None

    async def _stay(self) -> None:
        while True:
            pause = FIRST_STAY_SECONDS
            if self.is_connected:
                with suppress(RapportError):
                    await self._say_so()
                    pause = STAY_SECONDS
            await asyncio.sleep(pause)


class Typing(_PresenceRoom):
    """Whether one side of a conversation is typing; `on_typing` is a plain function."""

    def __init__(
        self, catch_up: CatchUp, scope: Scope, key: str, on_typing: Callable[[], None] | None = None
    ) -> None:
        self._on_typing = on_typing
        self._heard = float("-inf")
        self._said = float("-inf")
        super().__init__(catch_up, scope, key)

    @property
    def is_typing(self) -> bool:
        """Whether somebody else typed within the last 5 seconds."""
        return self.is_connected and time.monotonic() - self._heard < TYPING_SECONDS

    async def say(self) -> None:
        """Tells others that the user types. Call it for every key: it sends at most one signal in 2
        seconds.
        """
        now = time.monotonic()
        if self.is_connected and now - self._said >= SAY_AGAIN_SECONDS:
            self._said = now
            await self._topics.send(self._scope, TYPING, {})

    def hear(self, event: str, payload: dict[str, JsonValue]) -> None:  # noqa: ARG002 - a room's
        """Takes another client's broadcast; its content is ignored."""
        if event == TYPING and not self._is_closed:
            self._heard = time.monotonic()
            if self._on_typing is not None:
                run_now([self._on_typing])
