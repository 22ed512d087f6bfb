"""What an import sends, and what it tells of each row."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from rapport.contacts.importing import ROWS_PER_CALL, Result, import_table
from rapport.contacts.table import Table
from rapport.store import Contact, ImportedRow


class Account:
    """The other side: each call is remembered, each phone is a contact of its own."""

    def __init__(self) -> None:
        self.calls: list[list[Contact]] = []

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
    ) -> list[ImportedRow]:
        assert (account, dry_run) == ("alpine", True)
        self.calls.append(list(contacts))
        return [self.imported(row, contact) for row, contact in enumerate(contacts, 1)]

    def imported(self, row: int, contact: Contact) -> ImportedRow:
        assert contact.phone
        return ImportedRow(
            row=row,
            outcome="created",
            contact_id=UUID(int=int(contact.phone)),
            field=None,
            reason=None,
        )


class OneContact(Account):
    """Whatever a row says, it is known of the same contact."""

    def imported(self, row: int, contact: Contact) -> ImportedRow:
        del contact
        return ImportedRow(
            row=row, outcome="updated", contact_id=UUID(int=1), field=None, reason=None
        )


class Silent(Account):
    """Remembers nothing, so that what is measured is the importer."""

    def import_contacts(
        self, account: str, contacts: Sequence[Contact], *, dry_run: bool = False
    ) -> list[ImportedRow]:
        del account, dry_run
        return [self.imported(row, contact) for row, contact in enumerate(contacts, 1)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contacts.csv"


def run(account: Account, file: Path, *lines: str) -> list[Result]:
    file.write_text("phone,email,name\n" + "".join(f"{line}\n" for line in lines))
    calls = import_table(account, "alpine", Table.open(file), region="SI", dry_run=True)
    return [result for results in calls for result in results]


def test_rows_that_can_go_in_do_and_the_others_are_told(file: Path) -> None:
    account = Account()

    results = run(account, file, "040 111 222,,Cilka", "12,,Ana", "", "040 111 333,,Jan")

    assert results == [
        Result(2, "created"),
        Result(3, "refused", "phone", "It is too short."),
        Result(5, "created"),
    ]
    assert account.calls == [
        [Contact(phone="+38640111222", name="Cilka"), Contact(phone="+38640111333", name="Jan")]
    ]


def test_a_row_that_repeats_another_is_refused_by_its_name(file: Path) -> None:
    results = run(
        Account(),
        file,
        "040 111 222,a@example.si,",
        "+386 40 111 222,,",
        "040 111 333,A@example.si,",
        # refused, so that the next does not repeat it
        "x,b@example.si,",
        "040 111 444,b@example.si,",
    )

    assert [(result.outcome, result.field, result.reason) for result in results[:3]] == [
        ("created", None, None),
        ("refused", "phone", "Row 2 has the same phone."),
        ("refused", "email", "Row 2 has the same email."),
    ]
    assert [result.outcome for result in results[3:]] == ["refused", "created"]


def test_rows_of_one_contact_under_different_names_are_told(file: Path) -> None:
    results = run(OneContact(), file, "040 111 222,,", ",a@example.si,")

    assert results == [
        Result(2, "updated"),
        Result(3, "updated", None, "It is of the same contact as row 2."),
    ]


def test_a_call_has_at_most_200_rows_and_none_is_empty(file: Path) -> None:
    account = Account()
    phones = [f"0401{number:05}" for number in range(2 * ROWS_PER_CALL + 1)]

    results = run(account, file, *(f"{phone},," for phone in phones), *["x,,"] * ROWS_PER_CALL)

    assert [len(call) for call in account.calls] == [200, 200, 1]
    assert [result.row for result in results] == list(range(2, 3 * ROWS_PER_CALL + 3))


def test_a_file_is_not_held_in_memory(file: Path) -> None:
    """20 MB of notes, of which only what tells repeated rows is kept."""
    with file.open("w") as table:
        table.write("phone,notes\n")
        table.writelines(f"0401{number:05},{'n' * 10_000}\n" for number in range(2_000))
    contacts = Table.open(file)
    tracemalloc.start()
    try:
        count = sum(map(len, import_table(Silent(), "alpine", contacts, region="SI")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 2_000
    assert peak < 8_000_000
