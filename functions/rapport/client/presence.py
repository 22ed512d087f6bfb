"""Who is there, and who is typing: passing things, which are kept nowhere.

What a client says of itself proves nothing: who may send on a topic is proven, so a sign is its
side's, and names are those of the tables. One room of a kind and id at a time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID

from pydantic import JsonValue

from rapport.client.callbacks import run_now
from rapport.client.catch_up import CatchUp
from rapport.client.topics import Scope
from rapport.errors import RapportError

TYPING = "typing"
# who types says so again and again; nobody does for longer without a word
TYPING_SECONDS = 5.0
SAY_AGAIN_SECONDS = 2.0


def person_id(user: UUID) -> UUID:
    """How a user is known to others, as `conversation_people` names them."""
    return UUID(bytes=hashlib.sha256(str(user).encode()).digest()[:16])


class _PresenceRoom:
    """A topic on which clients show themselves, until `close`, which `async with` calls."""

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
        """Whether others are heard, and hear the user."""
        return not self._is_closed and self._topics.hears(self._scope)

    @property
    def error(self) -> Exception | None:
        """What is wrong at the moment."""
        return self._topics.refusal(self._scope) or self._refused

    async def close(self) -> None:
        """Leaves the topic."""
        if not self._is_closed:
            self._is_closed = True
            self._topics.unwant(self._scope)

    def enter(self) -> None:
        """Takes that the topic is about to be joined."""

    def show(self, who: frozenset[str]) -> None:
        """Takes the keys of all who are there."""

    def hear(self, event: str, payload: dict[str, JsonValue]) -> None:
        """Takes what another client has broadcast."""

    def turn_away(self, reason: RapportError) -> None:
        """Takes that the user may not be seen here."""
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
    """Who is there, by their keys; a client of ours has its `person_id` for a key.

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
        """The keys of those who are there; nobody while that can't be known."""
        return self._who if self.is_connected else frozenset()

    async def show_me(self, **shown: JsonValue) -> None:
        """Lets others see the user, also after the connection was lost.

        `error` says soon when the server refuses it, as on the other side's topic. The server
        ends a topic on which that changes more than five times in 30 seconds.
        """
        self.tracked = shown
        self._refused = None
        await self._topics.track(self._scope)

    async def hide_me(self) -> None:
        """Ends that."""
        self.tracked = None
        self._refused = None
        await self._topics.track(self._scope)

    def enter(self) -> None:
        """Takes that the topic is about to be joined: who was there before may have left."""
        self._who = frozenset()

    def show(self, who: frozenset[str]) -> None:
        """Takes the keys of all who are there."""
        self._who = who
        if who != self._told and not self._is_closed:
            self._told = who
            if (on_change := self._on_change) is not None:
                run_now([lambda: on_change(who)])


class Typing(_PresenceRoom):
    """Whether one side of a conversation is writing; `on_typing` is a plain function."""

    def __init__(
        self, catch_up: CatchUp, scope: Scope, key: str, on_typing: Callable[[], None] | None = None
    ) -> None:
        self._on_typing = on_typing
        self._heard = float("-inf")
        self._said = float("-inf")
        super().__init__(catch_up, scope, key)

    @property
    def is_typing(self) -> bool:
        """Whether somebody else has been writing a moment ago."""
        return self.is_connected and time.monotonic() - self._heard < TYPING_SECONDS

    async def say(self) -> None:
        """Tells others that the user writes; call it for every key, most calls send nothing."""
        now = time.monotonic()
        if self.is_connected and now - self._said >= SAY_AGAIN_SECONDS:
            self._said = now
            await self._topics.send(self._scope, TYPING, {})

    def hear(self, event: str, payload: dict[str, JsonValue]) -> None:  # noqa: ARG002 - a room's
        """Takes what another client has broadcast, whatever it holds."""
        if event == TYPING and not self._is_closed:
            self._heard = time.monotonic()
            if self._on_typing is not None:
                run_now([self._on_typing])
