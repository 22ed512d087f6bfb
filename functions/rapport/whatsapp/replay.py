"""Parses stored webhooks again, since today's parser understands more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rapport.errors import RapportError, StoreBusy, StoreUnavailable
from rapport.log import described, log_crash, logger
from rapport.store.webhooks import Item, RawEvent, ReplayResult, WebhookStore
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse

PAGE_SIZE = 100
# tries of an event whose conversation another writer has locked
TRIES = 20
_PAUSE = 0.25  # seconds


@dataclass(frozen=True)
class Replayed:
    """The outcome of one raw event; the counts are of its items."""

    event_id: int
    applied: int = 0
    corrected: int = 0
    rejected: int = 0
    # a sentence that says why nothing was changed
    failure: str | None = None


def replay(
    store: WebhookStore,
    *,
    since: datetime,
    until: datetime | None = None,
    last_id: int,
    first_id: int = 0,
    dry_run: bool = False,
) -> Iterator[Replayed]:
    """Replays the raw events of a time span up to `last_id`, in order of arrival.

    An event that fails is reported and does not stop the others. A replay may be stopped and
    started again at any time, since a repetition changes nothing.

    Raises:
        StoreUnavailable: The database can't be reached, or is too busy.
        StoreError: The events can't be read.
    """
    after_id = first_id - 1
    while page := store.read_webhook_events(after_id, since, until, PAGE_SIZE):
        for event in page:
            if event.id > last_id:
                return
            yield _replay_one(store, event, dry_run=dry_run)
        after_id = page[-1].id


def replay_each(
    store: WebhookStore, events: Iterable[RawEvent], *, dry_run: bool
) -> Iterator[Replayed]:
    """Replays raw events one after the other, as `replay`; raises as that."""
    for event in events:
        yield _replay_one(store, event, dry_run=dry_run)


def _replay_one(store: WebhookStore, event: RawEvent, *, dry_run: bool) -> Replayed:
    try:
        items = items_of(parse(event.body))
        result = _insist(store, event.id, items, dry_run=dry_run)
    except StoreBusy:
        return Replayed(
            event.id, failure="Another writer had its conversation locked. Replay it again."
        )
    except StoreUnavailable:
        raise
    except RapportError as error:
        logger.error("not replayed", extra={"event_id": event.id, **described(error)})
        return Replayed(event.id, failure=str(error))
    # a parser error in one event must not stop the events after it
    except Exception as error:  # noqa: BLE001 - any crash of the parser
        log_crash(error, event_id=event.id)
        return Replayed(event.id, failure=f"The parser crashed ({type(error).__name__}).")
    return Replayed(event.id, result.applied, result.corrected, len(result.rejected))


def _insist(
    store: WebhookStore, event_id: int, items: Sequence[Item], *, dry_run: bool
) -> ReplayResult:
    for _ in range(TRIES - 1):
        try:
            return store.replay_webhook(event_id, items, dry_run=dry_run)
        except StoreBusy:
            time.sleep(_PAUSE)
    return store.replay_webhook(event_id, items, dry_run=dry_run)
