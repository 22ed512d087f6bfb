"""What keeps messages from being sent, and whom it must not keep waiting."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import JsonValue

from rapport.client.events import Event, Record
from rapport.client.outbox import Outbox, PendingMessage
from rapport.client.sender import Sender
from rapport.client.server import Server
from rapport.client.timing import Timing
from rapport.client.tokens import Tokens
from rapport.errors import StoreError, TooManyRequests

CILKA, FIRST, SECOND = UUID(int=1), UUID(int=11), UUID(int=12)


async def nobodys() -> str:
    raise AssertionError("nothing is asked of the server here")


class Chats(Server):
    """Takes messages, but for those of chats that are out of order."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1", "key", Tokens(nobodys, 0), 1)
        self.taken: list[JsonValue] = []
        self.out_of_order: set[str] = set()
        self.trouble: Exception = StoreError("The database refused the call.")

    async def post_message(self, **fields: JsonValue) -> Record:
        await asyncio.sleep(0)
        if fields["conversation_id"] in self.out_of_order:
            raise self.trouble
        self.taken.append(fields["message"])
        return {"id": str(UUID(int=len(self.taken))), "version": 1}


class Locked(Outbox):
    """A file that another program keeps locked now and then."""

    is_locked = False

    def claim(self, but: Sequence[UUID] = ()) -> list[PendingMessage]:
        self._look()
        return super().claim(but)

    def remove(self, client_ref: str) -> None:
        self._look()
        super().remove(client_ref)

    def release_all(self) -> None:
        self._look()
        super().release_all()

    def _look(self) -> None:
        if self.is_locked:
            raise sqlite3.OperationalError("database is locked")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of what has no event
            await asyncio.sleep(0.01)


def sender(
    tmp_path: Path, server: Server, timing: Timing, sent: Callable[[Event], None]
) -> tuple[Sender, Locked]:
    outbox = Locked(tmp_path / "outbox.db", CILKA)
    return Sender(outbox, server, timing, sent), outbox


async def test_a_file_that_was_locked_for_a_while_is_sent_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Chats()
    quick = Timing(first_backoff=0.01, longest_backoff=0.05)
    sending, outbox = sender(tmp_path, server, quick, lambda _: None)
    await sending.send(FIRST, "one")

    outbox.is_locked = True
    with caplog.at_level(logging.CRITICAL):
        sending.start()
        await until(lambda: isinstance(sending.error, sqlite3.Error))
        outbox.is_locked = False
        await until(lambda: sending.pending == [])
        assert sending.error is None
        await sending.send(FIRST, "two")
        await until(lambda: sending.pending == [])

        outbox.is_locked = True
        await sending.stop()
    assert server.taken == ["one", "two"]
    sending.close()


async def test_a_chat_that_is_out_of_order_keeps_no_other_waiting(tmp_path: Path) -> None:
    server = Chats()
    # such a pause is too long for this test
    sending, _ = sender(tmp_path, server, Timing(first_backoff=600, longest_backoff=600), print)
    server.out_of_order = {str(FIRST)}
    for n in range(5):
        await sending.send(FIRST, f"stuck {n}")
        await sending.send(SECOND, f"fine {n}")

    sending.start()
    await until(lambda: len(server.taken) == 5)
    assert server.taken == [f"fine {n}" for n in range(5)]
    await until(lambda: len(sending.pending) == 5)
    assert isinstance(sending.error, StoreError)

    server.out_of_order.clear()
    await sending.send(FIRST, "stuck 5")
    await until(lambda: sending.pending == [])
    assert server.taken[5:] == [f"stuck {n}" for n in range(6)]
    assert sending.error is None
    await sending.stop()
    sending.close()


async def test_who_has_written_too_much_waits_as_long_as_they_are_told(tmp_path: Path) -> None:
    server = Chats()
    quick = Timing(first_backoff=0.01, longest_backoff=0.01)
    sending, _ = sender(tmp_path, server, quick, print)
    server.out_of_order = {str(FIRST)}
    server.trouble = TooManyRequests(retry_after=600)
    await sending.send(FIRST, "one")

    sending.start()
    await until(lambda: sending.error is server.trouble)
    server.out_of_order.clear()
    # another chat's comes and goes, many times over the pause that failures have
    for n in range(5):
        await sending.send(SECOND, f"{n}")
        await until(lambda: len(sending.pending) == 1)
        await asyncio.sleep(0.02)

    assert server.taken == [f"{n}" for n in range(5)]
    assert [message.refusal for message in sending.pending] == [None]
    await sending.stop()
    sending.close()


async def test_what_can_not_be_shown_as_sent_is_sent_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Chats()

    def fail(_: Event) -> None:
        raise ValueError("no such row")

    sending, _ = sender(tmp_path, server, Timing(), fail)
    with caplog.at_level(logging.CRITICAL):
        await sending.send(FIRST, "one")
        await sending.send(FIRST, "two")
        sending.start()
        await until(lambda: sending.pending == [])
    assert server.taken == ["one", "two"]
    await sending.stop()
    sending.close()
