"""Documents of Metakocka's, which name the partners that have something to do with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rapport.metakocka.client import PAGE_LIMIT, MetakockaClient
from rapport.metakocka.wire import in_order

DOC_TYPES = ("sales_order", "sales_offer", "sales_bill_domestic", "sales_bill_foreign")
# clocks differ, and documents are written before they can be seen
_OVERLAP = timedelta(minutes=10)
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def looked_at_from(seen_until: datetime | None) -> datetime:
    """From when documents are to be looked through, after they were until `seen_until`."""
    return _BEGINNING if seen_until is None else seen_until - _OVERLAP


def named_by_documents(client: MetakockaClient, seen_until: datetime | None) -> list[str]:
    """The ids of the partners that changed documents name, in order."""
    since = looked_at_from(seen_until)
    found: set[str] = set()
    for doc_type in DOC_TYPES:
        offset, is_last = 0, False
        while not is_last:
            page = client.search_documents(doc_type, since, offset=offset)
            found.update(page.partner_ids)
            offset += page.count
            is_last = page.count < PAGE_LIMIT
    return sorted(found, key=in_order)
