"""Lambda's event source mapping: polls a queue and hands its messages to a function.

One batch at a time, where Lambda runs several. Source: docs.aws.amazon.com, "Using Lambda with
Amazon SQS" and "Handling errors for an SQS event source in Lambda".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from rapport.aws.service import AwsRefused, AwsService, AwsUnreachable
from rapport.errors import ConfigError
from rapport.log import Crash, log_crash, logger
from rapport.server.events import Event, QueueMessage, queue_event
from rapport.server.queues import QueueSource

# seconds; a stop may have to wait for one poll
_POLL = 1
_PAUSE = 1

Invoke = Callable[[Event], object]


class _ItemFailure(BaseModel):
    itemIdentifier: str = Field(min_length=1)  # noqa: N815 - Lambda's word


class _Answer(BaseModel):
    batchItemFailures: list[_ItemFailure] | None = None  # noqa: N815 - Lambda's word


class _Received(BaseModel):
    messages: list[QueueMessage] = Field([], alias="Messages")


class Queue:
    """The SQS queue at `url`. Each call raises as those of `AwsService`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sqs = AwsService("sqs", timeout=_POLL + 5, connect=2, attempts=1)

    def receive(self, count: int) -> list[QueueMessage]:
        """Up to `count` messages, waited for a second."""
        answer = self._ask(
            "ReceiveMessage",
            {
                "MaxNumberOfMessages": count,
                "WaitTimeSeconds": _POLL,
                "MessageAttributeNames": ["All"],
                "MessageSystemAttributeNames": ["All"],
            },
        )
        return _Received.model_validate(answer).messages

    def delete(self, messages: Iterable[QueueMessage]) -> None:
        """Removes messages that were received."""
        entries = [
            {"Id": str(place), "ReceiptHandle": message.receipt_handle}
            for place, message in enumerate(messages)
        ]
        self._ask("DeleteMessageBatch", {"Entries": entries})

    def _ask(self, operation: str, body: Mapping[str, object]) -> dict[str, object]:
        return self._sqs.ask(f"AmazonSQS.{operation}", "1.0", {"QueueUrl": self._url, **body})


async def run_source(source: QueueSource, queue_url: str, invoke: Invoke) -> None:
    """Feeds a function from a queue, without end, also while the queue can't be reached."""
    queue = Queue(queue_url)
    is_reached = False
    while True:
        try:
            await run_in_threadpool(take_batch, queue, source, invoke)
            is_reached = True
        except (AwsRefused, AwsUnreachable, ConfigError) as error:
            # before its first answer the queue is only starting
            if is_reached:
                logger.warning("no queue", queue=source.queue, reason=str(error))
            is_reached = False
            await asyncio.sleep(_PAUSE)


def take_batch(queue: Queue, source: QueueSource, invoke: Invoke) -> None:
    """Receives up to one batch, and deletes the messages that the function has handled.

    Raises:
        AwsUnreachable: The queue can't be reached.
        AwsRefused: It refuses a call.
        ConfigError: There are no credentials, or no region.
    """
    messages = queue.receive(source.batch_size)
    if not messages:
        return
    ids = {message.message_id for message in messages}
    try:
        answer = invoke(queue_event(source.queue, messages))
    except Crash:
        # it is in the log already; the whole batch stays on the queue
        return
    except Exception as error:  # noqa: BLE001 - the batch stays, and the next one is tried
        log_crash(error, queue=source.queue)
        return
    failed = _failed(answer, ids) if source.response_type else set()
    done = [message for message in messages if message.message_id not in failed]
    if done:
        queue.delete(done)


def _failed(answer: object, ids: set[str]) -> set[str]:
    """The messages of a batch that the answer names as failed; all if it can't be understood."""
    if not answer:
        return set()
    try:
        failures = _Answer.model_validate(answer).batchItemFailures or []
    except ValidationError:
        return ids
    failed = {failure.itemIdentifier for failure in failures}
    return ids if failed - ids else failed
