"""Brings changes to the subscriptions: broadcasts as they happen, and by cursor the changes that
were missed.

A broadcast is only a hint. A gap, a row that is too large to send, or a resync makes the client
catch up at once; the slow poll finds everything else. The client takes the cursor first, then reads
the rows, then follows the log from the cursor. So no change falls between.

The changes of one transaction are never seen apart. Each of its broadcasts has their number: they
are taken together, or not at all. A catch-up ends at one moment of the database. All subscriptions
take the one or the other before anything else happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from pydantic import JsonValue, ValidationError

from rapport.client.checkpoints import Checkpoints, OnCheckpoint
from rapport.client.events import Broadcast, Change, Event
from rapport.client.server import Server
from rapport.client.timing import Timing
from rapport.client.tokens import Tokens
from rapport.client.topics import Scope, Topics
from rapport.errors import NotSignedIn, RapportError, StoreError, asked_to_wait

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """A subscription, as the catch-up uses it. `hear` and `settle` return whether only a further
    catch-up can tell the rest.
    """

    @property
    def tables(self) -> frozenset[str]:
        """The tables whose changes it follows."""

    @property
    def scope(self) -> Scope:
        """The topics on which their changes are broadcast."""

    @property
    def is_loaded(self) -> bool:
        """Whether its rows have been read."""

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether a transaction's events can be told now, and none before them was missed."""

    def hear(self, events: Iterable[Event]) -> bool:
        """Takes events that were broadcast together."""

    def mark(self) -> int:
        """Marks the moment before a catch-up."""

    def settle(self, events: Iterable[Event], mark: int) -> bool:
        """Takes all events of one catch-up."""

    async def load(self, server: Server) -> None:
        """Reads the rows."""

    async def reread(self, server: Server) -> None:
        """Reads the rows again, since the log does not tell their changes."""

    def fail(self, error: RapportError | None) -> None:
        """Notes why its rows can't be read; None says that they can be read again."""

    async def close(self) -> None:
        """Ends the subscription."""


class CatchUp:
    """All subscriptions of one user, which share one catch-up."""

    def __init__(self, server: Server, key: str, tokens: Tokens, timing: Timing) -> None:
        self.topics = Topics(server, key, tokens, timing, self.hear, self.request)
        self.error: Exception | None = None
        self._server = server
        self._timing = timing
        self._followers: list[Follower] = []
        self._stale: set[Follower] = set()
        self._cursor: str | None = None
        # events of a catch-up whose last page has not been read yet
        self._events: list[Event] = []
        self._is_between_pages = False
        self._requested = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # broadcasts of transactions that are not whole yet, by topic and transaction
        self._parts: defaultdict[tuple[str, JsonValue], list[Event]] = defaultdict(list)
        self._giving_up: asyncio.TimerHandle | None = None
        self._noted: list[Change[Any]] = []
        self._checkpoints: list[Checkpoints] = []

    @property
    def is_running(self) -> bool:
        """Whether it follows the log; False while it is paused."""
        return bool(self._tasks)

    def start(self) -> None:
        """Starts to follow, or continues after `stop`."""
        if not self._tasks:
            self.request()
            self._tasks = [
                asyncio.create_task(self.topics.run()),
                asyncio.create_task(self._run()),
            ]

    async def stop(self) -> None:
        """Ends the connection and the polls. The rows and the cursor stay, so that `start`
        continues from there.
        """
        self._give_up_parts()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Ends the connection, the polls and every subscription."""
        await self.stop()
        for follower in list(self._followers):
            await follower.close()
        for checkpoints in self._checkpoints:
            checkpoints.close()

    def on_checkpoint(self, callback: OnCheckpoint) -> Checkpoints:
        """Calls a function with all changes that were taken together."""
        checkpoints = Checkpoints(callback)
        self._checkpoints.append(checkpoints)
        return checkpoints

    def note(self, changes: Iterable[Change[Any]]) -> None:
        """Notes what a subscription tells, for the next checkpoint."""
        self._noted += changes

    def attach(self, follower: Follower) -> None:
        """Adds a subscription; its rows are read soon."""
        self._followers.append(follower)
        self.topics.want(follower.scope)
        self.request()

    def detach(self, follower: Follower) -> None:
        """Removes a subscription."""
        self._followers.remove(follower)
        self._stale.discard(follower)
        self.topics.unwant(follower.scope)

    def request(self) -> None:
        """Asks for a catch-up soon."""
        self._requested.set()

    def take(self, *events: Event) -> None:
        """Takes the events of a transaction, or one made from the server's answer."""
        for follower, its in self._loaded(events):
            try:
                if follower.hear(its):
                    self.request()
            except Exception:
                logger.exception("a subscription could not take a change")
                follower.fail(_unreadable())
                self._stale.add(follower)
                self.request()
        self.check()

    def _loaded(self, events: Iterable[Event]) -> Iterator[tuple[Follower, list[Event]]]:
        """The events that each subscription follows. A change that comes while its rows are being
        read is in the log as well.
        """
        for follower in list(self._followers):
            if follower.is_loaded:
                its = [event for event in events if event.table in follower.tables]
                if its:
                    yield follower, its

    def check(self) -> None:
        """Tells a checkpoint: all that the subscriptions have taken since the last one."""
        noted, self._noted = self._noted, []
        for checkpoints in self._checkpoints:
            checkpoints.take(noted)

    def hear(self, name: str, payload: dict[str, JsonValue], topic: str) -> None:
        """Takes one message of a topic."""
        if name == "topics.changed":
            self.topics.rename()
        elif name != "resync":
            try:
                broadcast = Broadcast.model_validate(payload)
            except ValidationError:
                logger.warning("a broadcast of %s can't be read", name)
            else:
                self._gather(broadcast, topic)
                return
        # there are too many changes to broadcast one by one, or they can't be read
        self.request()

    def _gather(self, broadcast: Broadcast, topic: str) -> None:
        """Waits for all that a transaction has told a topic."""
        key = topic, broadcast.transaction
        events = self._parts[key]
        events.append(broadcast)
        if len(events) < broadcast.count:
            if self._giving_up is None:
                loop = asyncio.get_running_loop()
                self._giving_up = loop.call_later(self._timing.gather, self._give_up_parts)
            return
        del self._parts[key]
        # rows that are read anew are not of one moment
        if not self._stale and all(f.is_sure(its) for f, its in self._loaded(events)):
            self.take(*events)
        else:
            self.request()

    def _give_up_parts(self) -> None:
        """Leaves to the log what did not come whole."""
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        if self._parts:
            self._parts.clear()
            self.request()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._requested.clear()
            try:
                await self._catch_up()
                if self.error is not None:
                    self.error = None
                    self.topics.hurry()
                failures = 0
            except Exception as error:
                self.error = error
                if isinstance(error, RapportError):
                    logger.info("could not catch up: %s", error)
                else:
                    # an error that we did not foresee must not end the task
                    logger.exception("could not catch up")
                # an outage causes many requests: none of them shortens the wait
                longest = self._timing.poll(self._timing.fast_poll)
                wait = min(self._timing.backoff(failures), longest)
                await asyncio.sleep(max(wait, asked_to_wait(error)))
                failures += 1
                continue
            timing = self._timing
            interval = timing.slow_poll if self.topics.is_live else timing.fast_poll
            try:
                async with asyncio.timeout(timing.poll(interval)):
                    await self._requested.wait()
            except TimeoutError:
                pass

    async def _catch_up(self) -> None:
        if not self._followers:
            # the next subscription starts from a new cursor
            self._cursor = None
            return
        if self._cursor is None:
            self._cursor = (await self._server.changes_since(None)).cursor
            self._events.clear()
            self._is_between_pages = False
        elif any(not follower.is_loaded for follower in self._followers):
            # a new subscription is not told what happened before it: settle the log for the others
            # first
            await self._follow_log()
        await self._read_rows()
        await self._follow_log()

    async def _follow_log(self) -> None:
        """Settles all entries of the log, up to the moment of its last answer."""
        followers = [follower for follower in self._followers if follower.is_loaded]
        marks = [follower.mark() for follower in followers]
        while True:
            # further pages lead only up to the moment of the first one: an answer in a single page
            # tells of now
            begins_anew = not self._is_between_pages
            page = await self._server.changes_since(self._cursor)
            self._cursor = page.cursor
            self._is_between_pages = page.more
            if page.resync:
                self._events.clear()
                self._stale.update(followers)
                self.topics.refresh()
                await self._read_rows()
                continue
            self._events += page.changes
            if begins_anew and not page.more:
                break
        events, self._events = self._events, []
        for follower, mark in zip(followers, marks, strict=True):
            if follower not in self._followers:
                continue
            tables = follower.tables
            try:
                if follower.settle([event for event in events if event.table in tables], mark):
                    self.request()
            except Exception:
                # the cursor has moved on: the other subscriptions get these events, this one reads
                # its rows again
                logger.exception("a subscription could not take the changes")
                follower.fail(_unreadable())
                self._stale.add(follower)
        self.check()

    async def _read_rows(self) -> None:
        """Reads the rows of new subscriptions, and of every subscription after a resync."""
        for follower in list(self._followers):
            try:
                if follower in self._stale:
                    await follower.reread(self._server)
                    self._stale.discard(follower)
                elif not follower.is_loaded:
                    await follower.load(self._server)
                else:
                    continue
                follower.fail(None)
            except NotSignedIn:
                raise
            except RapportError as error:
                # a refused subscription must not stop the others; an outage stops them all
                follower.fail(error)
                if error.retryable:
                    raise
            except Exception:
                logger.exception("a subscription could not take its rows")
                follower.fail(_unreadable())


def _unreadable() -> RapportError:
    return StoreError("The database has rows that can't be read.")
