"""Brings queued webhooks into the database, a batch at a time.

They were verified before they were queued, and come in any order: that of arrival decides
nothing in the database, and one that is stored already is stored once.

Source: docs.aws.amazon.com, "Handling errors for an SQS event source in Lambda".
"""

from __future__ import annotations

from functools import cache
from typing import TypedDict

from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from rapport.errors import QueueUnavailable, RapportError, StoreUnavailable
from rapport.log import correlated, log_crash, logger
from rapport.settings import BacklogSettings, StoreSettings
from rapport.webhook_store import WebhookStore
from rapport.whatsapp.backlog import Backlog, unpack
from rapport.whatsapp.intake import take_in
from rapport.whatsapp.webhook import parse

# So many webhooks in a row that the database can't take, and it is away: asked no more this time.
# One alone may be a webhook that takes the database too long, and that must not keep the others,
# which would be put off with it and come back with it, try after try, to the dead letters.
AWAY = 2

_settings = cache(BacklogSettings.load)


class Failure(TypedDict):
    """A message that stays on the queue."""

    itemIdentifier: str


class Answer(TypedDict):
    """What of a batch stays on the queue; the rest is deleted from it."""

    batchItemFailures: list[Failure]


@cache
def _store() -> WebhookStore:
    return WebhookStore(StoreSettings.load())


@cache
def _backlog() -> Backlog | None:
    url = _settings().webhook_queue_url
    return Backlog(str(url)) if url else None


def handler(event: dict[str, object], _context: object) -> Answer:
    """Stores each webhook of the batch, until the database is found away."""
    failures: list[Failure] = []
    # in a row
    unavailable = 0
    for record in SQSEvent(event).records:
        with correlated(record.message_id):
            is_put_off = unavailable == AWAY
            if not is_put_off:
                try:
                    _drain(record)
                    unavailable = 0
                    continue
                except StoreUnavailable as error:
                    unavailable += 1
                    is_put_off = True
                    logger.warning("not stored", code=error.code, reason=str(error))
                except RapportError as error:
                    logger.error("not stored", code=error.code, reason=str(error))
                # one webhook that we can't handle must not keep the others
                except Exception as error:  # noqa: BLE001 - a bug of ours loses no webhook
                    log_crash(error)
            if is_put_off:
                _put_off(record)
            failures.append({"itemIdentifier": record.message_id})
    return {"batchItemFailures": failures}


def _drain(record: SQSRecord) -> None:
    body = unpack(record.body)
    take_in(_store(), body, parse(body))


def _put_off(record: SQSRecord) -> None:
    """Stretches the five tries over most of an hour: an outage is not the message's fault."""
    backlog = _backlog()
    if backlog is None:
        return
    tries = int(record.attributes.approximate_receive_count)
    try:
        backlog.put_off(record.receipt_handle, _settings().webhook_retry_seconds * 4 ** (tries - 1))
    except QueueUnavailable as error:
        logger.warning("not put off", code=error.code, reason=str(error))
