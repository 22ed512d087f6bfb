"""Stores queued webhooks, a batch at a time.

Their signatures were checked before they were queued. They come in any order, which the database
allows, and a webhook that is already stored is not stored again.

While the database is away, each webhook goes back to the queue as a new message, so it is tried
until the database returns. A webhook that fails for another reason is tried five times and then
becomes a dead letter.

Source: docs.aws.amazon.com, "Handling errors for an SQS event source in Lambda".
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypedDict

from pydantic import Field

from rapport.deferred import Deferred
from rapport.errors import (
    ConfigError,
    QueueUnavailable,
    RapportError,
    StoreBusy,
    StoreUnavailable,
)
from rapport.log import WorkerContext, correlated, described, log_crash, logger, worker
from rapport.metrics import tell
from rapport.settings import BacklogSettings, StoreSettings
from rapport.store.webhooks import WebhookStore
from rapport.whatsapp.backlog import KEPT_SINCE, Backlog, unpack
from rapport.whatsapp.intake import take_in
from rapport.whatsapp.webhook import parse

# After this many webhooks in a row that the database can't take, it counts as away and the batch
# ends. A single one may be a webhook that takes too long, which must not stop the others.
AWAY = 2
# How long a webhook is queued again and again: as long as Meta would repeat it.
KEPT = timedelta(days=7)
# Until the next try of a webhook whose conversation another writer had locked.
BUSY_SECONDS = 5
# Tries of a webhook that fails by itself; equals the queue's maxReceiveCount.
TRIES = 5

_settings = cache(BacklogSettings.load)


class _Attribute(Deferred):
    stringValue: str | None = None  # noqa: N815 - SQS' word


class _Attributes(Deferred):
    # milliseconds since 1970
    sent_timestamp: int = Field(alias="SentTimestamp")
    approximate_receive_count: int = Field(alias="ApproximateReceiveCount")


class Record(Deferred):
    """A message of the queue."""

    message_id: str = Field(alias="messageId")
    receipt_handle: str = Field(alias="receiptHandle")
    body: str
    attributes: _Attributes
    message_attributes: dict[str, _Attribute] = Field({}, alias="messageAttributes")


class _Batch(Deferred):
    records: list[Record] = Field(alias="Records")


class Failure(TypedDict):
    """A message that stays on the queue."""

    itemIdentifier: str


class BatchAnswer(TypedDict):
    """The messages that stay on the queue; Lambda deletes the others."""

    batchItemFailures: list[Failure]


@cache
def _store() -> WebhookStore:
    return WebhookStore(StoreSettings.load())


@cache
def _backlog() -> Backlog | None:
    url = _settings().webhook_queue_url
    return Backlog(str(url)) if url else None


@worker
def handler(event: dict[str, object], _context: WorkerContext) -> BatchAnswer:
    """Stores each webhook of the batch, until the database counts as away."""
    failures: list[Failure] = []
    # in a row
    unavailable = 0
    for record in _Batch.model_validate(event).records:
        with correlated(record.message_id):
            is_away = unavailable == AWAY
            is_busy = False
            if not is_away:
                try:
                    _drain(record)
                    unavailable = 0
                    continue
                # without its settings the database can't be reached either
                except (StoreUnavailable, ConfigError) as error:
                    is_away = True
                    is_busy = isinstance(error, StoreBusy)
                    unavailable += not is_busy
                    logger.warning("not stored", extra=described(error))
                except RapportError as error:
                    logger.error("not stored", extra=described(error))
                # one webhook that we can't handle must not stop the others
                except Exception as error:  # noqa: BLE001 - a bug of ours loses no webhook
                    log_crash(error)
            if is_away and _put_back(record, is_busy=is_busy):
                continue
            _put_off(record)
            failures.append({"itemIdentifier": record.message_id})
    return {"batchItemFailures": failures}


def _drain(record: Record) -> None:
    body = unpack(record.body)
    take_in(_store(), body, parse(body))


def _put_back(record: Record, *, is_busy: bool) -> bool:
    """Queues the webhook as a new message in place of the received one; False if that failed."""
    backlog = _backlog()
    kept_since = _kept_since(record)
    age = datetime.now(UTC) - kept_since
    tell(OldestWebhookAge=max(0, age.total_seconds()))
    if backlog is None or age > KEPT:
        return False
    shortest = _settings().webhook_retry_seconds
    if is_busy:
        # the other writer needs only a moment
        shortest = min(shortest, BUSY_SECONDS)
    wait = min(max(shortest, age.total_seconds() / 20), 4 * shortest)
    try:
        # spread, so that they do not all return at the same moment
        delay = round(wait * random.uniform(0.5, 1))  # noqa: S311 - nothing secret
        backlog.put_back(record.body, kept_since, delay)
    except QueueUnavailable as error:
        logger.warning("not put back", extra=described(error))
        return False
    return True


def _kept_since(record: Record) -> datetime:
    attribute = record.message_attributes.get(KEPT_SINCE)
    said = attribute.stringValue if attribute else None
    # a message that a person put on the queue has no such attribute
    millis = record.attributes.sent_timestamp
    return datetime.fromtimestamp(int(said) if said else millis / 1000, UTC)


def _put_off(record: Record) -> None:
    """Lets the next try come soon; after the last one the message becomes a dead letter."""
    backlog = _backlog()
    if backlog is None:
        return
    tries = record.attributes.approximate_receive_count
    wait = 0 if tries >= TRIES else _settings().webhook_retry_seconds * 2 ** (tries - 1)
    try:
        backlog.put_off(record.receipt_handle, wait)
    except QueueUnavailable as error:
        logger.warning("not put off", extra=described(error))
