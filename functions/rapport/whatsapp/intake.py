"""Takes a webhook in: parses it, stores it, applies its items, logs the result."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import JsonValue
from typing_extensions import TypedDict

from rapport.log import about, logger
from rapport.metrics import tell
from rapport.store.webhooks import IngestResult, WebhookStore
from rapport.whatsapp.items import items_of

_NOT_REGISTERED = frozenset({"unknown_phone_number_id", "unknown_account"})


class TakenIn(TypedDict):
    """What became of the updates of a webhook."""

    received: int
    applied: int
    duplicates: int
    rejected: int


class Queued(TypedDict):
    """The database can't be reached: the webhook is kept, and applied later."""

    queued: Literal[True]


class Intake(NamedTuple):
    """A stored webhook: its number of items, and how many were applied."""

    items: int
    result: IngestResult

    @property
    def answer(self) -> TakenIn:
        """What Meta is answered."""
        return {
            "received": self.items,
            "applied": self.result.applied,
            "duplicates": self.result.duplicates,
            "rejected": len(self.result.rejected),
        }


def take_in(store: WebhookStore, body: str, payload: JsonValue) -> Intake:
    """Stores a verified webhook's `body` and applies the items of its `payload`.

    Raises:
        StoreUnavailable: As WebhookStore.ingest_whatsapp.
        StoreError: As WebhookStore.ingest_whatsapp.
    """
    items = items_of(payload)
    # whose numbers they are is known by Meta's ids, also where the database does not answer
    numbers = {number for item in items if (number := getattr(item, "phone_number_id", None))}
    about(phone_number_ids=",".join(sorted(numbers)) or None)
    result = store.ingest_whatsapp(body, items)
    logger.info(
        "stored",
        event_id=result.event_id,
        items=len(items),
        applied=result.applied,
        duplicates=result.duplicates,
        rejected=[rejection.model_dump() for rejection in result.rejected],
    )
    _tell_rejections(result)
    return Intake(len(items), result)


def _tell_rejections(result: IngestResult) -> None:
    """Logs a line for each number or account that is not registered; an alarm counts them."""
    if result.rejected:
        logger.warning("rejected", event_id=result.event_id, updates=len(result.rejected))
    nobodys = {
        (one.reason, one.phone_number_id, one.waba_id)
        for one in result.rejected
        if one.reason in _NOT_REGISTERED
    }
    if nobodys:
        tell(UnregisteredNumbers=len(nobodys))
    for reason, phone_number_id, waba_id in sorted(nobodys, key=str):
        logger.warning(
            "not registered",
            event_id=result.event_id,
            reason=reason,
            phone_number_id=phone_number_id,
            waba_id=waba_id,
        )
