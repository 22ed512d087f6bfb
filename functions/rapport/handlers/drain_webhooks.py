"""Brings queued webhooks into the database, a batch at a time.

They were verified before they were queued, and come in any order: that of arrival decides
nothing in the database, and one that is stored already is stored once.

While the database is away a webhook is put on the queue anew, so that it is tried again soon
after the database's return, however long that takes. One that fails for any other reason has five
tries, and is among the dead letters some minutes later.

Source: docs.aws.amazon.com, "Handling errors for an SQS event source in Lambda".
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypedDict

from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from rapport.errors import (
    ConfigError,
    QueueUnavailable,
    RapportError,
    StoreBusy,
    StoreUnavailable,
)
from rapport.log import correlated, described, log_crash, logger, worker
from rapport.settings import BacklogSettings, StoreSettings
from rapport.store.webhooks import WebhookStore
from rapport.whatsapp.backlog import KEPT_SINCE, Backlog, unpack
from rapport.whatsapp.intake import take_in
from rapport.whatsapp.webhook import parse

# So many webhooks in a row that the database can't take, and it is away: asked no more this time.
# One alone may be a webhook that takes the database too long, and that must not keep the others.
AWAY = 2
# How long a webhook is put on the queue anew: Meta would have repeated it for as long.
KEPT = timedelta(days=7)
# Before the next try of a webhook whose conversation somebody else was writing.
BUSY_SECONDS = 5
# The tries of a webhook that is at fault itself: the queue's maxReceiveCount.
TRIES = 5

_settings = cache(BacklogSettings.load)


class Failure(TypedDict):
    """A message that stays on the queue."""

    itemIdentifier: str


class BatchAnswer(TypedDict):
    """What of a batch stays on the queue; the rest is deleted from it."""

    batchItemFailures: list[Failure]


@cache
def _store() -> WebhookStore:
    return WebhookStore(StoreSettings.load())


@cache
def _backlog() -> Backlog | None:
    url = _settings().webhook_queue_url
    return Backlog(str(url)) if url else None


@worker
def handler(event: dict[str, object], _context: LambdaContext) -> BatchAnswer:
    """Stores each webhook of the batch, until the database is found away."""
    failures: list[Failure] = []
    # in a row
    unavailable = 0
    for record in SQSEvent(event).records:
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
                # one webhook that we can't handle must not keep the others
                except Exception as error:  # noqa: BLE001 - a bug of ours loses no webhook
                    log_crash(error)
            if is_away and _put_back(record, is_busy=is_busy):
                continue
            _put_off(record)
            failures.append({"itemIdentifier": record.message_id})
    return {"batchItemFailures": failures}


def _drain(record: SQSRecord) -> None:
    body = unpack(record.body)
    take_in(_store(), body, parse(body))


def _put_back(record: SQSRecord, *, is_busy: bool) -> bool:
    """Whether the webhook is on the queue anew, in place of the message that was received."""
    backlog = _backlog()
    kept_since = _kept_since(record)
    age = datetime.now(UTC) - kept_since
    if backlog is None or age > KEPT:
        return False
    shortest = _settings().webhook_retry_seconds
    if is_busy:
        # whoever writes there has done so in a moment
        shortest = min(shortest, BUSY_SECONDS)
    wait = min(max(shortest, age.total_seconds() / 20), 4 * shortest)
    try:
        # not all at the same moment
        delay = round(wait * random.uniform(0.5, 1))  # noqa: S311 - nothing secret
        backlog.put_back(record.body, kept_since, delay)
    except QueueUnavailable as error:
        logger.warning("not put back", extra=described(error))
        return False
    return True


def _kept_since(record: SQSRecord) -> datetime:
    attribute = record.message_attributes[KEPT_SINCE]
    said = attribute.string_value if attribute else None
    # one that was put there by hand
    millis = int(record.attributes.sent_timestamp)
    return datetime.fromtimestamp(int(said) if said else millis / 1000, UTC)


def _put_off(record: SQSRecord) -> None:
    """Has the next try come soon, and after the last one nothing more: then it is a dead letter."""
    backlog = _backlog()
    if backlog is None:
        return
    tries = int(record.attributes.approximate_receive_count)
    wait = 0 if tries >= TRIES else _settings().webhook_retry_seconds * 2 ** (tries - 1)
    try:
        backlog.put_off(record.receipt_handle, wait)
    except QueueUnavailable as error:
        logger.warning("not put off", extra=described(error))
