"""The raw webhook inbox: webhooks are taken in, read and applied anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rapport.store import Store, understood
from rapport.webhook_rows import EventSpan, IngestResult, Item, RawEvent, ReplayResult


class WebhookStore(Store):
    """Webhooks in the database; every call may be repeated, and raises as `Store` says."""

    def ingest_whatsapp(self, body: str, items: Sequence[Item]) -> IngestResult:
        """Stores a webhook's `body` as it came and applies its `items`, in one transaction.

        Repeating it changes nothing: each message and status is known by its provider's id.
        """
        answer = self._call(
            "ingest_whatsapp",
            {"body": body, "items": [item.model_dump(mode="json") for item in items]},
        )
        return understood(IngestResult, answer)

    def span_of_webhook_events(self, since: datetime, until: datetime | None) -> EventSpan:
        """How many raw events came from `since` to before `until`, and their first and last id."""
        answer = self._call("span_of_webhook_events", _span(since, until))
        return understood(EventSpan, answer)

    def read_webhook_events(
        self, after_id: int, since: datetime, until: datetime | None, page_size: int
    ) -> list[RawEvent]:
        """The next raw events of a span of time, by id; none at the end.

        A page has up to `page_size`, and fewer where they are large.
        """
        answer = self._call(
            "read_webhook_events",
            {"after_id": after_id, "page_size": page_size, **_span(since, until)},
        )
        return understood(list[RawEvent], answer)

    def replay_webhook(
        self, event_id: int, items: Sequence[Item], *, dry_run: bool = False
    ) -> ReplayResult:
        """Applies a stored webhook's `items` as they are parsed now, in one transaction.

        What is missing is added, and customers' messages are shown as the items say. Repeating
        it changes nothing; with `dry_run` it is undone at once.

        Raises:
            NotFound: There is no such event.
        """
        answer = self._call(
            "replay_webhook",
            {
                "event_id": event_id,
                "items": [item.model_dump(mode="json") for item in items],
                "dry_run": dry_run,
            },
        )
        return understood(ReplayResult, answer)


def _span(since: datetime, until: datetime | None) -> dict[str, object]:
    return {"since": since.isoformat(), "until": until and until.isoformat()}
