"""Brings a table's rows into an account, up to 200 a call."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from rapport.contact_store import Contact, ImportedRow, ImportOutcome
from rapport.contacts.rows import RefusedRow, read_row
from rapport.contacts.table import Table
from rapport.errors import RapportError

ROWS_PER_CALL = 200


@dataclass(frozen=True)
class Result:
    """What became of a row of the file; `reason` says why where there is something to say."""

    row: int
    outcome: ImportOutcome
    field: str | None = None
    reason: str | None = None


class ImportsContacts(Protocol):
    """The part of the store that an import uses."""

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]: ...

    def announce_import(self, account: str) -> None: ...


@dataclass
class _Seen:
    """Which row has said an id, phone, email or username, and which wrote a contact."""

    keys: dict[str, int] = field(default_factory=dict)
    contacts: dict[UUID, int] = field(default_factory=dict)

    def require_new(self, row: int, contact: Contact) -> None:
        said = {
            "id": contact.id and str(contact.id),
            "phone": contact.phone,
            "email": contact.email and contact.email.strip().lower(),
            "username": contact.username and contact.username.strip().lower(),
        }
        keys = {name: f"{name} {value}" for name, value in said.items() if value}
        for name, key in keys.items():
            if first := self.keys.get(key):
                raise RefusedRow(name, f"Row {first} has the same {name}.")
        self.keys.update(dict.fromkeys(keys.values(), row))

    def other_row_of(self, row: int, contact_id: UUID | None) -> int | None:
        if contact_id is None:
            return None
        first = self.contacts.setdefault(contact_id, row)
        return None if first == row else first


def import_table(
    store: ImportsContacts,
    account: str,
    table: Table,
    *,
    region: str | None = None,
    dry_run: bool = False,
) -> Generator[list[Result]]:
    """Imports the rows and tells, call by call, what became of them, in the file's order.

    Repeating it, whole or from where it was interrupted, changes nothing more. Phone numbers
    without a country code are taken as numbers of `region`. Who follows the contacts of the
    account is told once, at the end, unless the rows are few.

    Raises:
        NotFound: There is no account with this external id.
        StoreError: The database refused a call, or can't be reached; what was told is in.
    """
    seen = _Seen()
    results: list[Result] = []
    rows: list[int] = []
    contacts: list[Contact] = []
    # from the first full call on
    is_quiet = False
    is_untold = False

    def called() -> list[Result]:
        nonlocal is_untold
        imported: list[ImportedRow] = []
        if contacts:
            was_untold, is_untold = is_untold, is_quiet
            imported = store.import_contacts(account, contacts, dry_run=dry_run, quiet=is_quiet)
            # now that the answer is not lost
            is_untold = was_untold or (
                is_quiet and any(one.outcome in {"created", "updated"} for one in imported)
            )
        told = [
            _result(row, one, seen.other_row_of(row, one.contact_id))
            for row, one in zip(rows, imported, strict=True)
        ]
        return sorted(results + told, key=lambda result: result.row)

    try:
        for record in table.records():
            try:
                contact = read_row(record, table.columns, region)
                seen.require_new(record.row, contact)
            except RefusedRow as refused:
                results.append(Result(record.row, "refused", refused.field, refused.reason))
            else:
                rows.append(record.row)
                contacts.append(contact)
            if len(results) + len(contacts) == ROWS_PER_CALL:
                is_quiet = not dry_run
                yield called()
                results, rows, contacts = [], [], []
        if results or contacts:
            yield called()
    finally:
        # also when the rest is not in; whoever hears nothing finds it by polling
        if is_untold:
            with suppress(RapportError):
                store.announce_import(account)


def _result(row: int, imported: ImportedRow, other: int | None) -> Result:
    reason = imported.reason
    if other is not None and reason is None:
        # known by another key, so that nobody could tell before
        reason = f"It is of the same contact as row {other}."
    return Result(row, imported.outcome, imported.field, reason)
