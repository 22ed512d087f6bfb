"""Rows that the server makes of several tables.

A change of one of these tables says that the rows must be asked for again. The server's answer has
the rows; nothing of them is computed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, Unpack
from uuid import UUID

from rapport.client.catch_up import CatchUp
from rapport.client.events import Change, Event, Heard, ShownT
from rapport.client.server import Server
from rapport.client.subscription import RowCallbacks, Subscription
from rapport.client.timing import Timing
from rapport.client.topics import Scope
from rapport.errors import RapportError, StoreError, asked_to_wait

logger = logging.getLogger(__name__)

# seconds
_AGAIN = 1.0


class AskedSource(Generic[ShownT]):
    """The rows that are asked for, as far as they are known."""

    def __init__(self, tables: Iterable[str]) -> None:
        self.tables = frozenset(tables)
        # as they were told
        self.known: dict[UUID, ShownT] = {}
        self._changes: list[Change[ShownT]] = []

    @property
    def rows(self) -> Mapping[UUID, ShownT]:
        """The rows as the user was last told."""
        return self.known

    @property
    def is_unreadable(self) -> bool:
        """An answer is read whole or not at all."""
        return False

    @property
    def due_in(self) -> float | None:
        """After so many seconds some rows must be asked for, even without a change."""
        return None

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether the events name their rows."""
        return all(event.record is not None or event.old_record is not None for event in events)

    def hear(self, events: Iterable[Event]) -> Heard[ShownT]:
        """Notes the rows that must be asked for."""
        self.note(events)
        return Heard(())

    def mark(self) -> int:
        """Moments are of no interest: the next answer is later than all that was noted."""
        return 0

    def settle(self, events: Iterable[Event], mark: int) -> Heard[ShownT]:  # noqa: ARG002 - as Source
        """Notes the rows that must be asked for."""
        self.note(events)
        return Heard(())

    async def load(self, server: Server) -> None:
        """Asks for everything; the user is not told of it."""
        self.doubt()
        await self.ask(server)
        self.take()

    async def reread(self, server: Server) -> Heard[ShownT]:  # noqa: ARG002 - as Source
        """Has everything be asked for."""
        self.doubt()
        return Heard(())

    def take(self) -> tuple[Change[ShownT], ...]:
        """The changes since the last call."""
        changes, self._changes = self._changes, []
        return tuple(changes)

    def doubt(self) -> None:
        """Has everything be asked for."""
        raise NotImplementedError

    def note(self, events: Iterable[Event]) -> None:
        """Notes the rows that must be asked for. Each catch-up calls it at its end, also without
        events.
        """
        raise NotImplementedError

    async def ask(self, server: Server) -> None:
        """Asks for the noted rows."""
        raise NotImplementedError

    def replace(
        self, now: dict[UUID, ShownT], is_told: Callable[[ShownT], bool] = lambda _: True
    ) -> None:
        """Takes what the rows are now. `is_told` is asked of rows that are new here."""
        before, self.known = self.known, now
        for row_id, old in before.items():
            if row_id not in now:
                self._changes.append(Change("DELETE", None, old))
        for row_id, row in now.items():
            known = before.get(row_id)
            if known is None:
                if is_told(row):
                    self._changes.append(Change("INSERT", row, None))
            elif known != row:
                self._changes.append(Change("UPDATE", row, known))


class AskedSubscription(Subscription[ShownT]):
    """Rows that are asked for when something has happened: at once, and while things go on
    happening at most once in `pause` seconds.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        server: Server,
        timing: Timing,
        asked: AskedSource[ShownT],
        pause: float = 0.1,
        **callbacks: Unpack[RowCallbacks[ShownT]],
    ) -> None:
        super().__init__(catch_up, asked, Scope(), **callbacks)
        self._asked = asked
        self._server = server
        self._timing = timing
        self._pause = pause
        self._bell = asyncio.Event()
        self._heard: list[Event] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._asker = asyncio.create_task(self._run())

    async def refresh(self) -> None:
        """Asks for everything again, and waits for the answer. Raises what the server refuses."""
        self._asked.doubt()
        await self._answered()

    async def close(self) -> None:
        """Ends the subscription, its callbacks and its iterations."""
        await super().close()
        self._release(len(self._waiting), None)
        if self._asker is not asyncio.current_task():
            self._asker.cancel()
            await asyncio.wait([self._asker])

    def hear(self, events: Iterable[Event]) -> bool:
        """Takes events that were broadcast together.

        A broadcast may come a moment before others can see the transaction that it tells of, so
        the rows that are asked for at once are asked for again.
        """
        events = list(events)
        if not self._heard:
            asyncio.get_running_loop().call_later(_AGAIN, self._note_again)
        self._heard += events
        doubt = super().hear(events)
        self._bell.set()
        return doubt

    def _note_again(self) -> None:
        heard, self._heard = self._heard, []
        self._asked.note(heard)
        self._bell.set()

    def settle(self, events: Iterable[Event], mark: int) -> bool:
        """Takes all events of one catch-up."""
        doubt = super().settle(events, mark)
        self._bell.set()
        return doubt

    async def reread(self, server: Server) -> None:
        """Has everything be asked for."""
        await super().reread(server)
        self._bell.set()

    def fail(self, error: RapportError | None) -> None:
        """Notes why the rows can't be read; None says that they can be read again."""
        super().fail(error)
        if error is not None and not error.retryable:
            self._release(len(self._waiting), error)

    async def _answered(self) -> None:
        """Waits for the answer about the noted rows."""
        if self._is_closed:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._bell.set()
        await waiting

    def _release(self, number: int, error: RapportError | None) -> None:
        released, self._waiting = self._waiting[:number], self._waiting[number:]
        for one in released:
            # who waited may have given up
            if one.done():
                continue
            if error is None:
                one.set_result(None)
            else:
                one.set_exception(error)

    async def _run(self) -> None:
        failures = 0
        is_refused = False
        while True:
            is_ready = self.is_loaded and self._catch_up.is_running and not is_refused
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._asked.due_in if is_ready else None):
                    await self._bell.wait()
            self._bell.clear()
            # a catch-up follows, and rings
            if not self.is_loaded or not self._catch_up.is_running:
                continue
            # later callers wait for the next answer
            waiting = len(self._waiting)
            error = await self._try()
            self._take(Heard(self._asked.take()))
            self._catch_up.check()
            self.fail(error)
            is_refused = error is not None and not error.retryable
            if error is None or is_refused:
                failures = 0
                self._release(waiting, error)
                await asyncio.sleep(self._pause)
            else:
                longest = self._timing.poll(self._timing.fast_poll)
                wait = min(self._timing.backoff(failures), longest)
                failures += 1
                await asyncio.sleep(max(wait, asked_to_wait(error)))
                self._bell.set()

    async def _try(self) -> RapportError | None:
        try:
            await self._asked.ask(self._server)
        except RapportError as error:
            return error
        except Exception:
            # an error that we did not foresee must not end the task
            logger.exception("a subscription could not take its rows")
            return StoreError("The database has rows that can't be read.")
        return None


class AskedList(AskedSource[ShownT]):
    """A list that is one answer. `is_over` says that it is not right any more since time has gone
    by.
    """

    def __init__(
        self,
        tables: Iterable[str],
        read: Callable[[Server], Awaitable[list[ShownT]]],
        is_over: Callable[[Iterable[ShownT]], bool] = lambda _: False,
    ) -> None:
        super().__init__(tables)
        self._read = read
        self._is_over = is_over
        self._is_stale = True

    def is_sure(self, events: Iterable[Event]) -> bool:  # noqa: ARG002 - as AskedSource
        """All rows are asked for, so no event has to name its row."""
        return True

    def doubt(self) -> None:
        """Has the list be asked for."""
        self._is_stale = True

    def note(self, events: Iterable[Event]) -> None:
        """Has the list be asked for where something has happened."""
        if any(True for _ in events) or self._is_over(self.known.values()):
            self._is_stale = True

    async def ask(self, server: Server) -> None:
        """Asks for the list if it may have changed."""
        if not self._is_stale:
            return
        self._is_stale = False
        try:
            self.replace({row.id: row for row in await self._read(server)})
        except BaseException:
            self._is_stale = True
            raise
