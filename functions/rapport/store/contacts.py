"""Import and export of an account's contacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from rapport.errors import StoreError
from rapport.store.postgrest import Store, understood


class Contact(BaseModel):
    """A contact in the contacts page's words. In an import, None leaves a field as it is."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    id: UUID | None = None
    name: str | None = None
    phone: str | None = None
    email: str | None = None
    username: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    conversation_status: str | None = None


ImportOutcome = Literal["created", "updated", "unchanged", "refused", "ambiguous"]


class FieldChange(BaseModel):
    """The value of a field before and after a change."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    old: str | list[str] | None
    new: str | list[str] | None


class ImportedRow(BaseModel):
    """The outcome of an imported contact; `row` is its place in the call, from 1."""

    row: int
    outcome: ImportOutcome
    contact_id: UUID | None
    field: str | None
    reason: str | None
    # by field; told by a dry run alone
    changes: dict[str, FieldChange] = {}


class ContactStore(Store):
    """Contacts by the page; every call may be repeated, and raises as `Store` says."""

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]:
        """Writes up to 200 contacts of an account, named by its external id or id, or tries to.

        Answers a row for each, in their order. Repeating it changes nothing. Quietly, staff
        hear nothing of it before `announce_import`.

        Raises:
            NotFound: There is no such account.
            StoreUnavailable: The database can't be reached, or others write these contacts.
        """
        answer = self._call(
            "import_contacts",
            {
                "account": account,
                "contacts": [
                    contact.model_dump(mode="json", exclude_none=True) for contact in contacts
                ],
                "dry_run": dry_run,
                "quiet": quiet,
            },
        )
        imported = understood(list[ImportedRow], answer)
        if [one.row for one in imported] != list(range(1, len(contacts) + 1)):
            raise StoreError("The database's answer is of other rows.")
        return imported

    def account_country(self, account: str) -> str | None:
        """The account's country (ISO 3166, two letters), if it is known.

        Raises:
            NotFound: There is no such account.
        """
        answer = self._call("account_country", {"account": account})
        return None if answer is None else understood(str, answer)

    def contacts_of_ids(self, account: str, ids: Sequence[UUID]) -> dict[UUID, Contact]:
        """Up to 200 contacts by the requested ids.

        A merged contact is shown as the one into which it was merged. Unknown ids are left out.

        Raises:
            NotFound: There is no such account.
        """
        answer = self._call(
            "contacts_of_ids", {"account": account, "ids": [str(one) for one in ids]}
        )
        return understood(dict[UUID, Contact], answer)

    def announce_import(self, account: str) -> None:
        """Tells the account's staff once that contacts were imported.

        Raises:
            NotFound: There is no such account.
        """
        self._call("announce_import", {"account": account})

    def export_contacts(self, account: str, *, after: UUID | None, page_size: int) -> list[Contact]:
        """A page of the account's contacts by id, beyond `after`; the last page is shorter.

        Raises:
            NotFound: There is no such account.
        """
        answer = self._call(
            "export_contacts",
            {"account": account, "after": after and str(after), "page_size": page_size},
        )
        return understood(list[Contact], answer)
