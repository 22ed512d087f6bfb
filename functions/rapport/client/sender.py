"""Sends what is in the outbox, in the order of each chat."""

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
from rapport.errors import NotSignedIn, RapportError, StoreError

# of other processes that share the file, or that have died with a message in hand
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
    """Why a chat waits, after how many failures, and until when by the monotonic clock."""

    error: Exception
    attempts: int
    until: float


class Sender:
    """The outbox of one user and the task that empties it.

    `on_pending(messages)` is called with all that waits or was refused whenever that changes,
    `on_refused(message)` when the server refuses one. `sent(event)` takes each row that the
    server answers with.
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
        # one chat that can't be written to keeps no other waiting
        self._troubles: dict[UUID, _Trouble] = {}
        self._failure: Exception | None = None

    @property
    def error(self) -> Exception | None:
        """Why something waits that should have been sent: the file's trouble, or a chat's."""
        return self._failure or next((trouble.error for trouble in self._troubles.values()), None)

    def start(self) -> None:
        """Begins, or goes on, to send."""
        if self._task is None:
            self._troubles.clear()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops sending; what is in the file stays there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            # so that nobody has to wait until the claim of one that is gone runs out
            try:
                await asyncio.to_thread(self._outbox.release_all)
            except sqlite3.Error:
                logger.exception("claims could not be released")

    def close(self) -> None:
        """Closes the file; after `stop`."""
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
        """Keeps a message to be sent, and returns it as it is shown meanwhile.

        Instead of its conversation, a chat may be named by its booking, or by the customer whose
        chat in the portal it is, which the first message opens. Name it in one way: what is sent
        by two names is not in order. Raises ValueError unless it is one of the three.
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
            # whoever writes wants it tried now
            trouble.until = 0
        self._wake.set()
        return pending

    async def dismiss(self, client_ref: str) -> None:
        """Forgets a message that was refused."""
        await asyncio.to_thread(self._outbox.remove, client_ref)
        await self._refresh()

    async def _refresh(self) -> None:
        # one at a time: what was read first must not be shown last
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
                # a file that is locked, or a disk that is full, is so for a while only
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
        """Sends the next message of every chat that is not waiting; whether there was any."""
        now = time.monotonic()
        waiting = [chat for chat, trouble in self._troubles.items() if trouble.until > now]
        claimed = await asyncio.to_thread(self._outbox.claim, waiting)
        chats = {message.chat for message in claimed}
        for chat in self._troubles.keys() - chats - set(waiting):
            # what waited was given up, or another process has it
            del self._troubles[chat]
        # chats don't wait for each other
        results = await asyncio.gather(
            *(self._post(message) for message in claimed), return_exceptions=True
        )
        await self._refresh()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return bool(claimed)

    async def _post(self, message: PendingMessage) -> None:
        """Sends one message, or lets its chat wait."""
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
        # shown as sent before it is no longer shown as pending
        try:
            self._sent(event)
        except Exception:
            # the server has it, and whoever follows finds it there
            logger.exception("a message could not be shown as sent")
        await asyncio.to_thread(self._outbox.remove, message.client_ref)

    def _hold(self, chat: UUID, error: Exception) -> None:
        if not isinstance(error, RapportError):
            logger.error("a message could not be sent", exc_info=error)
        before = self._troubles.get(chat)
        attempts = before.attempts + 1 if before else 0
        wait = self._timing.backoff(attempts)
        if isinstance(error, RapportError):
            wait = max(wait, error.retry_after or 0)
        until = time.monotonic() + wait
        self._troubles[chat] = _Trouble(error, attempts, until)


def _is_refusal(error: Exception) -> bool:
    """Whether the message itself is at fault, and would be at every repetition."""
    return (
        isinstance(error, RapportError)
        and not error.retryable
        and not isinstance(error, NotSignedIn)
        # an answer that can't be read does not say that it was not taken
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
