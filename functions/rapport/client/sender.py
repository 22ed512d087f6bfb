"""Sends what is in the outbox, in the order of each chat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from uuid import UUID, uuid4

from pydantic import JsonValue

from rapport.client.callbacks import Called, bound, run
from rapport.client.face_feed import Event, Record
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
        self.error: Exception | None = None
        self.pending: list[PendingMessage] = outbox.all()
        self._outbox = outbox
        self._server = server
        self._timing = timing
        self._sent = sent
        self._on_pending = on_pending
        self._on_refused = on_refused
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins, or goes on, to send."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops sending; what is in the file stays there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            # so that nobody has to wait until the claim of one that is gone runs out
            await asyncio.to_thread(self._outbox.release_all)

    def close(self) -> None:
        """Closes the file; after `stop`."""
        self._outbox.close()

    def hurry(self) -> None:
        """Tries again at once, as when the server is back."""
        self._wake.set()

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
        self._wake.set()
        return pending

    async def dismiss(self, client_ref: str) -> None:
        """Forgets a message that was refused."""
        await asyncio.to_thread(self._outbox.remove, client_ref)
        await self._refresh()

    async def _refresh(self) -> None:
        pending = await asyncio.to_thread(self._outbox.all)
        if pending != self.pending:
            self.pending = pending
            await run(bound(self._on_pending, pending))

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            claimed = await asyncio.to_thread(self._outbox.claim)
            try:
                # chats don't wait for each other
                errors = await asyncio.gather(*(self._post(message) for message in claimed))
            finally:
                await self._refresh()
            self.error = next((error for error in errors if error), None)
            if self.error is not None:
                pause = self._timing.backoff(failures)
                failures += 1
            elif claimed:
                failures = 0
                continue
            else:
                pause = _LOOK_AGAIN_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _post(self, message: PendingMessage) -> Exception | None:
        """Sends one message; returns why it could not be, if it is to be tried again."""
        try:
            record = await self._server.post_message(
                **message.model_dump(mode="json", include=_SENT)
            )
        except Exception as error:
            if _is_refusal(error):
                await asyncio.to_thread(self._outbox.refuse, message.client_ref, str(error))
                refused = message.model_copy(update={"refusal": str(error)})
                await run(bound(self._on_refused, refused))
                return None
            await asyncio.to_thread(self._outbox.release, message.client_ref)
            if not isinstance(error, RapportError):
                logger.exception("a message could not be sent")
            return error
        # shown as sent before it is no longer shown as pending
        self._sent(_inserted(record))
        await asyncio.to_thread(self._outbox.remove, message.client_ref)
        return None


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
