"""Users' requests to the sync with Metakocka: permission, a run, the partners of contacts."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from rapport.deferred import Deferred
from rapport.store.metakocka_rows import Direction
from rapport.store.postgrest import Row, UserStore, understood


class Authorized(Deferred):
    """An account that the user administers, and which of the contacts are its own."""

    account_id: UUID
    user_id: UUID
    contact_ids: list[UUID]
    not_found: list[UUID]


class Mappings(Deferred):
    """A page of mappings; the last one has no cursor."""

    mappings: list[Row]
    cursor: str | None


class MetakockaUser(UserStore):
    """The sync as one user sees it; each call raises as `UserStore` says."""

    def authorize(self, account_id: UUID | None, contact_ids: Sequence[UUID] = ()) -> Authorized:
        """The account that is meant, the only one if none is named; for owners and admins."""
        answer = self._call(
            "authorize_sync",
            {
                "account_id": None if account_id is None else str(account_id),
                "contact_ids": _texts(contact_ids),
            },
        )
        return understood(Authorized, answer)

    def request_sync(
        self,
        account_id: UUID,
        direction: Direction,
        contact_ids: Sequence[UUID] = (),
        metakocka_ids: Sequence[str] = (),
    ) -> UUID:
        """Queues a run and answers its id; without any ids it is about everything."""
        answer = self._call(
            "request_sync",
            {
                "direction": direction,
                "account_id": str(account_id),
                "contact_ids": _texts(contact_ids),
                "metakocka_ids": list(metakocka_ids),
            },
        )
        return understood(UUID, answer)

    def mappings(
        self, account_id: UUID, contact_id: UUID | None, cursor: str | None, page_size: int
    ) -> Mappings:
        """The partners of contacts, by page."""
        answer = self._call(
            "metakocka_mappings",
            {
                "account_id": str(account_id),
                "contact_id": None if contact_id is None else str(contact_id),
                "cursor": cursor,
                "page_size": page_size,
            },
        )
        return understood(Mappings, answer)


def _texts(ids: Sequence[UUID]) -> list[str]:
    return [str(one) for one in ids]
