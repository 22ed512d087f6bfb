"""Sends the messages of the outbox, in the order of each chat."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

from pydantic import JsonValue

from rapport.client.callbacks import Called, bound, run
from rapport.client.events import Event, Record
from rapport.client.outbox import Outbox, PendingMessage
from rapport.client.server import Server
from rapport.client.timing import Timing
from rapport.errors import NotSignedIn, RapportError, StoreError, asked_to_wait

# seconds: other processes share the file, and one may have died while it held a claim
_LOOK_AGAIN_SECONDS = 5.0
_SENT = {
    "conversation_id",
    "booking_id",
    "customer_id",
    "message",
    "type",
    "content",
    "reply_to",
    "client_ref",
}

logger = logging.getLogger(__name__)


@dataclass
class _Trouble:
    """Why a chat waits, how often it failed, and until when it waits by the monotonic clock."""

    error: Exception
    attempts: int
    until: float


class Sender:
    """The outbox of one user and the task that sends its messages.

    `on_pending(messages)` gets all waiting and refused messages whenever they change.
    `on_refused(message)` gets each message that the server refuses. `sent(event)` gets each row
    that the server returns.
    """

    def __init__(
        self,
        outbox: Outbox,
        server: Server,
        timing: Timing,
        sent: Callable[[Event], None],
        on_pending: Callable[[list[PendingMessage]], Called] | None = None,
        on_refused: Callable[[PendingMessage], Called] | None = None,
    ) -> None:
        self.pending: list[PendingMessage] = outbox.all()
        self._outbox = outbox
        self._server = server
        self._timing = timing
        self._sent = sent
        self._on_pending = on_pending
        self._on_refused = on_refused
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # a chat that fails does not hold up the others
        self._troubles: dict[UUID, _Trouble] = {}
        self._failure: Exception | None = None

    @property
    def error(self) -> Exception | None:
        """Why messages are not being sent: an error of the file, or of a chat."""
        return self._failure or next((trouble.error for trouble in self._troubles.values()), None)

    def start(self) -> None:
        """Starts to send, or continues after `stop`."""
        if self._task is None:
            self._troubles.clear()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops sending. The messages stay in the file."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            # other processes need not wait until the claims end
            try:
                await asyncio.to_thread(self._outbox.release_all)
            except sqlite3.Error:
                logger.exception("claims could not be released")

    def close(self) -> None:
        """Closes the file. Call `stop` first."""
        self._outbox.close()

    async def send(
        self,
        conversation_id: UUID | None,
        message: str,
        type_: str = "text",
        content: JsonValue = None,
        reply_to: UUID | None = None,
        *,
        booking_id: UUID | None = None,
        customer_id: UUID | None = None,
    ) -> PendingMessage:
        """Adds a message to the outbox, and returns it so that it can be shown while it waits.

        A chat is named by its conversation, by its booking, or by the customer whose portal chat it
        is; the first message opens that chat. Name a chat always in the same way: the order holds
        only among messages with the same id. Raises ValueError unless exactly one of the three is
        given.
        """
        pending = PendingMessage(
            client_ref=uuid4().hex,
            conversation_id=conversation_id,
            booking_id=booking_id,
            customer_id=customer_id,
            message=message,
            type=type_,
            content=content,
            reply_to=reply_to,
            written_at=time.time(),
        )
        await asyncio.to_thread(self._outbox.put, pending)
        await self._refresh()
        if trouble := self._troubles.get(pending.chat):
            # a user who writes again wants it tried now
            trouble.until = 0
        self._wake.set()
        return pending

    async def dismiss(self, client_ref: str) -> None:
        """Deletes a refused message."""
        await asyncio.to_thread(self._outbox.remove, client_ref)
        await self._refresh()

    async def _refresh(self) -> None:
        # one at a time, so that an older list is never shown after a newer one
        async with self._reading:
            pending = await asyncio.to_thread(self._outbox.all)
            is_news = pending != self.pending
            self.pending = pending
        if is_news:
            await run(bound(self._on_pending, pending))

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                some = await self._send_some()
                self._failure = None
                failures = 0
            except Exception as error:
                # a locked file or a full disk will pass
                self._failure = error
                logger.exception("the outbox can't be worked on")
                await asyncio.sleep(self._timing.backoff(failures))
                failures += 1
                continue
            if some:
                continue
            now = time.monotonic()
            ends = [trouble.until - now for trouble in self._troubles.values()]
            try:
                async with asyncio.timeout(max(0, min([_LOOK_AGAIN_SECONDS, *ends]))):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _send_some(self) -> bool:
        """Sends the next message of every chat that does not wait; True if there was one."""
        now = time.monotonic()
        waiting = [chat for chat, trouble in self._troubles.items() if trouble.until > now]
        claimed = await asyncio.to_thread(self._outbox.claim, waiting)
        chats = {message.chat for message in claimed}
        for chat in self._troubles.keys() - chats - set(waiting):
            # the message was deleted, or another process has claimed it
            del self._troubles[chat]
        # in parallel: chats do not wait for each other
        results = await asyncio.gather(
            *(self._post(message) for message in claimed), return_exceptions=True
        )
        await self._refresh()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return bool(claimed)

    async def _post(self, message: PendingMessage) -> None:
        """Sends one message; on failure its chat waits."""
        try:
            record = await self._server.post_message(
                **message.model_dump(mode="json", include=_SENT)
            )
            event = _inserted(record)
        except Exception as error:  # noqa: BLE001 - told, and logged where it is ours
            if not _is_refusal(error):
                self._hold(message.chat, error)
                await asyncio.to_thread(self._outbox.release, message.client_ref)
                return
            self._troubles.pop(message.chat, None)
            await asyncio.to_thread(self._outbox.refuse, message.client_ref, str(error))
            refused = message.model_copy(update={"refusal": str(error)})
            await run(bound(self._on_refused, refused))
            return
        self._troubles.pop(message.chat, None)
        # show the row first, so that the message is visible at every moment
        try:
            self._sent(event)
        except Exception:
            # the server has the message, and subscriptions find it there
            logger.exception("a message could not be shown as sent")
        await asyncio.to_thread(self._outbox.remove, message.client_ref)

    def _hold(self, chat: UUID, error: Exception) -> None:
        if not isinstance(error, RapportError):
            logger.error("a message could not be sent", exc_info=error)
        before = self._troubles.get(chat)
        attempts = before.attempts + 1 if before else 0
        wait = max(self._timing.backoff(attempts), asked_to_wait(error))
        until = time.monotonic() + wait
        self._troubles[chat] = _Trouble(error, attempts, until)


def _is_refusal(error: Exception) -> bool:
    """Whether the message itself was refused, so that a repetition would be refused too."""
    return (
        isinstance(error, RapportError)
        and not error.retryable
        and not isinstance(error, NotSignedIn)
        # an answer that can't be read does not prove a refusal
        and type(error) is not StoreError
    )


def _inserted(record: Record) -> Event:
    return Event.model_validate(
        {
            "table": "messages",
            "id": record["id"],
            "version": record["version"],
            "operation": "INSERT",
            "record": record,
        }
    )
