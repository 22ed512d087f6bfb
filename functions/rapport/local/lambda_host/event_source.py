"""Lambda's event source mapping: polls a queue and hands its messages to a function.

One batch at a time, where Lambda runs several. Source: docs.aws.amazon.com, "Using Lambda with
Amazon SQS" and "Handling errors for an SQS event source in Lambda".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from rapport.local.lambda_host.events import Event, queue_event
from rapport.local.lambda_host.queues import QueueSource

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

# seconds; a stop may have to wait for one poll
_POLL = 1
_PAUSE = 1

log = logging.getLogger("rapport.local.lambda_host.event_source")

Invoke = Callable[[Event], object]


class _ItemFailure(BaseModel):
    itemIdentifier: str = Field(min_length=1)  # noqa: N815 - Lambda's word


class _Answer(BaseModel):
    batchItemFailures: list[_ItemFailure] | None = None  # noqa: N815 - Lambda's word


async def run_source(source: QueueSource, queue_url: str, invoke: Invoke) -> None:
    """Feeds a function from a queue, without end, also while the queue can't be reached."""
    # the settings come from the environment, as a function's own
    sqs = await run_in_threadpool(boto3.client, "sqs")
    is_reached = False
    while True:
        try:
            await run_in_threadpool(take_batch, sqs, source, queue_url, invoke)
            is_reached = True
        except (BotoCoreError, ClientError) as error:
            # before its first answer the queue is only starting
            if is_reached:
                log.warning("The queue %s can't be reached: %s", source.queue, error)
            is_reached = False
            await asyncio.sleep(_PAUSE)


def take_batch(sqs: SQSClient, source: QueueSource, queue_url: str, invoke: Invoke) -> None:
    """Receives up to one batch, and deletes the messages that the function has handled.

    Raises:
        BotoCoreError: The queue can't be reached.
        ClientError: It refuses a call.
    """
    messages = sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=source.batch_size,
        WaitTimeSeconds=_POLL,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    ).get("Messages", [])
    if not messages:
        return
    ids = {message["MessageId"] for message in messages}
    try:
        answer = invoke(queue_event(source.queue, messages))
    except Exception:  # a crash leaves the whole batch on the queue
        log.exception("The function of %s crashed", source.queue)
        return
    failed = _failed(answer, ids) if source.response_type else set()
    done = [message for message in messages if message["MessageId"] not in failed]
    if done:
        sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]}
                for place, message in enumerate(done)
            ],
        )


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
