"""Imports the rows of a table, up to 200 in a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol
from uuid import UUID

from rapport.contacts.rows import Read, RefusedRow, Said, read_row
from rapport.contacts.table import Record, Table
from rapport.errors import RapportError
from rapport.phone import is_region
from rapport.store.contacts import Contact, FieldChange, ImportedRow, ImportOutcome

ROWS_PER_CALL = 200


@dataclass(frozen=True)
class Result:
    """The outcome of one row of the file; `reason` explains it where needed.

    `changes` holds, by field, the changes that a dry run found.
    """

    row: int
    outcome: ImportOutcome
    field: str | None = None
    reason: str | None = None
    changes: Mapping[str, FieldChange] = dataclasses.field(default_factory=dict)


class ImportsContacts(Protocol):
    """The calls of the store that an import needs."""

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]: ...

    def account_country(self, account: str) -> str | None: ...

    def contacts_of_ids(self, account: str, ids: Sequence[UUID]) -> dict[UUID, Contact]: ...

    def announce_import(self, account: str) -> None: ...


@dataclass
class _Seen:
    """Which row had an id, phone, email or username, and which row wrote a contact."""

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
            if contact.id is not None and name != "id":
                # two contacts may show the same phone; one of them is known by it
                continue
            if first := self.keys.get(key):
                raise RefusedRow(name, f"Row {first} has the same {name}.")
        for key in keys.values():
            self.keys.setdefault(key, row)

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
    """Imports the rows and yields each call's results, in the file's order.

    A repetition, of the whole or from an interruption, changes nothing more. Phone numbers without
    a country code count as numbers of `region`, or of the account's country. Beyond a few rows,
    staff who follow the contacts are notified once, at the end.

    Raises:
        NotFound: There is no such account.
        StoreError: The database refused a call, or can't be reached; the reported rows
            are imported.
    """
    seen = _Seen()
    # from the first full call on
    is_quiet = False
    is_untold = False

    def called(records: list[Record]) -> list[Result]:
        nonlocal is_untold
        results: list[Result] = []
        contacts: list[tuple[int, Read]] = []
        for record, read in _read(store, account, records, table, region):
            if isinstance(read, RefusedRow):
                results.append(Result(record.row, "refused", read.field, read.reason))
                continue
            try:
                seen.require_new(record.row, read.contact)
            except RefusedRow as refused:
                results.append(Result(record.row, "refused", refused.field, refused.reason))
            else:
                contacts.append((record.row, read))
        imported: list[ImportedRow] = []
        if contacts:
            was_untold, is_untold = is_untold, is_quiet
            imported = store.import_contacts(
                account,
                [read.contact for _, read in contacts],
                dry_run=dry_run,
                quiet=is_quiet,
            )
            # set before the call, in case its answer is lost
            is_untold = was_untold or (
                is_quiet and any(one.outcome in {"created", "updated"} for one in imported)
            )
        told = [
            _result(row, one, seen.other_row_of(row, one.contact_id), read.note)
            for (row, read), one in zip(contacts, imported, strict=True)
        ]
        return sorted(results + told, key=lambda result: result.row)

    try:
        if region is None:
            country = store.account_country(account)
            region = country if country is not None and is_region(country) else None
        rows = table.records()
        while records := list(islice(rows, ROWS_PER_CALL)):
            is_quiet = is_quiet or (len(records) == ROWS_PER_CALL and not dry_run)
            yield called(records)
    finally:
        # also after a failure; a client that misses it finds the changes by polling
        if is_untold:
            with suppress(RapportError):
                store.announce_import(account)


def _read(
    store: ImportsContacts,
    account: str,
    records: list[Record],
    table: Table,
    region: str | None,
) -> Iterator[tuple[Record, Read | RefusedRow]]:
    """The contact of each row, compared with the contact that the row names."""
    said: dict[int, Said | RefusedRow] = {}
    ids: dict[int, UUID] = {}
    for record in records:
        try:
            said[record.row] = row = Said.of(record, table.columns)
            if row.id is not None:
                ids[record.row] = row.id
        except RefusedRow as refused:
            said[record.row] = refused
    held = store.contacts_of_ids(account, sorted(set(ids.values()))) if ids else {}
    for record in records:
        row_or_refusal = said[record.row]
        if isinstance(row_or_refusal, RefusedRow):
            yield record, row_or_refusal
            continue
        named = ids.get(record.row)
        try:
            read = read_row(row_or_refusal, region, held.get(named) if named else None)
        except RefusedRow as refused:
            yield record, refused
        else:
            yield record, read


def _result(row: int, imported: ImportedRow, other: int | None, note: str | None) -> Result:
    reason = imported.reason
    if reason is None and other is not None:
        # found by another key, which only the database could know
        reason = f"This is the same contact as row {other}."
    if imported.outcome in {"created", "updated", "unchanged"}:
        reason = " ".join(filter(None, (reason, note))) or None
    return Result(row, imported.outcome, imported.field, reason, imported.changes)
