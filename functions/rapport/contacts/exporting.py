"""Exports an account's contacts, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

from rapport.store.contacts import Contact

PAGE_SIZE = 500


class ExportsContacts(Protocol):
    """The calls of the store that an export needs."""

    def export_contacts(
        self, account: str, *, after: UUID | None, page_size: int
    ) -> list[Contact]: ...


def export_contacts(store: ExportsContacts, account: str) -> Iterator[Contact]:
    """Yields the account's contacts in the order of their ids.

    Raises:
        NotFound: There is no such account.
        StoreError: The database refused a call, or can't be reached.
    """
    after: UUID | None = None
    while True:
        page = store.export_contacts(account, after=after, page_size=PAGE_SIZE)
        yield from page
        if len(page) < PAGE_SIZE:
            return
        after = page[-1].id
