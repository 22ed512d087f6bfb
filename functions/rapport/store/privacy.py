"""All that is known of one person: read for an export, erased, held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from rapport.deferred import Deferred
from rapport.store.postgrest import Row, Store, understood


class PersonTable(Deferred):
    """A table with rows about a person; `rows` is None where they were not counted."""

    table: str
    rows: int | None
    # the description of the table
    about: str | None


class PersonOverview(Deferred):
    """What is known of a person: the contact, those that were merged into it, and the tables."""

    account_id: UUID
    account_name: str
    contact_ids: list[UUID]
    # under a legal hold: it can't be erased
    is_held: bool = False
    tables: list[PersonTable]


class Found(Deferred):
    """A row in which words of an erased person were found, by their kinds.

    Without an id the table could not be read.
    """

    table: str
    id: str | None
    kinds: list[str]


class PrivacyAction(Deferred):
    """What was done about a person's data; of an erasure, how far it is."""

    id: UUID
    account_id: UUID
    contact_id: UUID
    action: Literal["export", "erase", "hold", "release"]
    # None: the people who run the service
    user_id: UUID | None
    state: Literal["running", "done"]
    # rows by table, and files
    counts: dict[str, int]
    # in rows of others in the account, and outside the account's own tables
    remaining: list[Found]
    elsewhere: list[Found]
    created_at: datetime
    finished_at: datetime | None
    step: Literal["rows", "partners", "files", "statistics", "search"] | None
    # keys in the bucket that are to be removed, the first 100
    files: list[str]


class _Page(Deferred):
    rows: list[Row]
    after: JsonValue


class PrivacyStore(Store):
    """Calls raise as `Store` says, and NotFound for a contact or an erasure that is not there."""

    def overview(self, contact_id: UUID, *, is_logged: bool) -> PersonOverview:
        """What is known of a contact; `is_logged` records it as an export."""
        answer = self._call(
            "export_overview", {"contact_id": str(contact_id), "is_logged": is_logged}
        )
        return understood(PersonOverview, answer)

    def rows(self, contact_id: UUID, table: str) -> Iterator[Row]:
        """The rows of a table about a contact, page by page."""
        after: JsonValue = None
        while True:
            answer = self._call(
                "export_page",
                {"contact_id": str(contact_id), "table_name": table, "after": after},
            )
            page = understood(_Page, answer)
            yield from page.rows
            after = page.after
            if after is None:
                return

    def begin_erasure(self, contact_id: UUID) -> PrivacyAction:
        """Begins to erase a contact; of one that has begun, the same.

        Raises:
            Conflict: The contact is under a legal hold.
        """
        answer = self._call("erase_contact", {"contact_id": str(contact_id)})
        return understood(PrivacyAction, answer)

    def erase_some(self, action_id: UUID) -> PrivacyAction:
        """Goes on with an erasure for about a second.

        Raises:
            Conflict: The contact is under a legal hold.
        """
        return understood(PrivacyAction, self._call("erase_some", {"action_id": str(action_id)}))

    def note_erased_files(self, action_id: UUID, object_keys: Sequence[str]) -> None:
        """Notes files that are no longer in the bucket."""
        self._call(
            "note_erased_files", {"action_id": str(action_id), "object_keys": list(object_keys)}
        )

    def running_erasures(self) -> list[UUID]:
        """The erasures that are not finished, the oldest first."""
        return understood(list[UUID], self._call("running_erasures", {}))

    def actions(self, account: str, since: datetime | None) -> list[PrivacyAction]:
        """The latest 1,000 actions of an account, named by its external id or id."""
        answer = self._call(
            "privacy_actions", {"account": account, "since": since and since.isoformat()}
        )
        return understood(list[PrivacyAction], answer)

    def hold(self, contact_id: UUID, reason: str) -> None:
        """Places a contact under a legal hold; one that is held stays held.

        Raises:
            Conflict: The contact is being erased.
            Unprocessable: The reason has not 1 to 500 characters.
        """
        self._call("hold_contact", {"contact_id": str(contact_id), "reason": reason})

    def release(self, contact_id: UUID) -> None:
        """Ends the legal hold of a contact, if there is one."""
        self._call("release_contact", {"contact_id": str(contact_id)})
