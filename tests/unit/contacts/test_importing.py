"""What an import sends, and what it tells of each row."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from rapport.contacts.importing import ROWS_PER_CALL, Result, import_table
from rapport.contacts.table import Table
from rapport.errors import StoreUnavailable
from rapport.store.contacts import Contact, ImportedRow


class Account:
    """The other side: each call is remembered, each phone is a contact of its own."""

    def __init__(self) -> None:
        self.calls: list[list[Contact]] = []
        # for each call whether staff hear of it, and "announced" where they are told once
        self.told: list[bool | str] = []
        self.held: dict[UUID, Contact] = {}
        self.country: str | None = None

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]:
        del dry_run
        assert account == "alpine"
        self.calls.append(list(contacts))
        self.told.append(not quiet)
        return [self.imported(row, contact) for row, contact in enumerate(contacts, 1)]

    def account_country(self, account: str) -> str | None:
        assert account == "alpine"
        return self.country

    def contacts_of_ids(self, account: str, ids: Sequence[UUID]) -> dict[UUID, Contact]:
        assert account == "alpine"
        return {one: self.held[one] for one in ids if one in self.held}

    def announce_import(self, account: str) -> None:
        assert account == "alpine"
        self.told.append("announced")

    def imported(self, row: int, contact: Contact) -> ImportedRow:
        assert contact.phone or contact.id
        return ImportedRow(
            row=row,
            outcome="created",
            contact_id=contact.id or UUID(int=int(contact.phone or 0)),
            field=None,
            reason=None,
        )


class OneContact(Account):
    """An account in which every row is the same contact's."""

    def imported(self, row: int, contact: Contact) -> ImportedRow:
        del contact
        return ImportedRow(
            row=row, outcome="updated", contact_id=UUID(int=1), field=None, reason=None
        )


class Unchanged(Account):
    """Knows every row already."""

    def imported(self, row: int, contact: Contact) -> ImportedRow:
        return super().imported(row, contact).model_copy(update={"outcome": "unchanged"})


class Failing(Account):
    """Takes one call, and is away for the second; whether it has taken that nobody knows."""

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]:
        rows = super().import_contacts(account, contacts, dry_run=dry_run, quiet=quiet)
        if len(self.calls) == 2:
            raise StoreUnavailable("The database can't be reached.")
        return rows

    def announce_import(self, account: str) -> None:
        super().announce_import(account)
        raise StoreUnavailable("The database can't be reached.")


class Silent(Account):
    """Remembers nothing, so that what is measured is the importer."""

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]:
        del account, dry_run, quiet
        return [self.imported(row, contact) for row, contact in enumerate(contacts, 1)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contacts.csv"


def run(account: Account, file: Path, *lines: str, dry_run: bool = True) -> list[Result]:
    file.write_text("phone,email,name\n" + "".join(f"{line}\n" for line in lines))
    calls = import_table(account, "alpine", Table.open(file), region="SI", dry_run=dry_run)
    return [result for results in calls for result in results]


def test_rows_that_can_go_in_do_and_the_others_are_told(file: Path) -> None:
    account = Account()

    results = run(account, file, "040 111 222,,Cilka", "12,,Ana", "", "040 111 333,,Jan")

    assert results == [
        Result(2, "created"),
        Result(3, "refused", "phone", "The number is too short."),
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
        Result(3, "updated", None, "This is the same contact as row 2."),
    ]


def test_a_call_has_at_most_200_rows_and_none_is_empty(file: Path) -> None:
    account = Account()

    results = run(account, file, *phones(2 * ROWS_PER_CALL + 1), *["x,,"] * ROWS_PER_CALL)

    assert [len(call) for call in account.calls] == [200, 200, 1]
    assert [result.row for result in results] == list(range(2, 3 * ROWS_PER_CALL + 3))


def phones(count: int) -> list[str]:
    return [f"0401{number:05},," for number in range(count)]


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (ROWS_PER_CALL - 1, [True]),
        (ROWS_PER_CALL, [False, "announced"]),
        (2 * ROWS_PER_CALL + 1, [False, False, False, "announced"]),
    ],
)
def test_of_many_rows_staff_are_told_once_at_the_end(
    file: Path, count: int, told: list[bool | str]
) -> None:
    account = Account()

    run(account, file, *phones(count), dry_run=False)

    assert account.told == told


def test_nothing_is_told_of_what_has_not_changed_or_is_not_meant(file: Path) -> None:
    trial, unchanged = Account(), Unchanged()
    run(trial, file, *phones(ROWS_PER_CALL + 1))
    run(unchanged, file, *phones(ROWS_PER_CALL + 1), dry_run=False)

    assert trial.told == [True, True]
    assert unchanged.told == [False, False]


def test_what_went_in_is_told_when_the_rest_does_not_or_is_not_wanted(file: Path) -> None:
    failing, left = Failing(), Account()
    with pytest.raises(StoreUnavailable):
        run(failing, file, *phones(ROWS_PER_CALL + 1), dry_run=False)
    with closing(import_table(left, "alpine", Table.open(file), region="SI")) as calls:
        next(calls)

    assert failing.told == [False, False, "announced"]
    assert left.told == [False, "announced"]


def test_a_file_is_not_held_in_memory(file: Path) -> None:
    """20 MB of notes. Only the facts that tell repeated rows are kept."""
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


def test_contacts_that_show_one_phone_are_both_imported(file: Path) -> None:
    """An export has the number of a customer who wrote it beside that of its owner."""
    one, other = UUID(int=1), UUID(int=2)
    file.write_text(
        f"id,phone,email\n{one},+38640111222,a@example.si\n{other},+38640111222,a@example.si\n"
        ",+38640111222,\n"
        f"{one},+38640111333,\n"
    )
    account = Account()

    [results] = import_table(account, "alpine", Table.open(file), dry_run=True)

    assert [contact.id for contact in account.calls[0]] == [one, other]
    assert results[2:] == [
        # nothing says that it is not a third
        Result(4, "refused", "phone", "Row 2 has the same phone."),
        Result(5, "refused", "id", "Row 2 has the same id."),
    ]


def test_a_cell_that_a_spreadsheet_has_damaged_says_nothing(file: Path) -> None:
    contact = Contact(
        id=UUID(int=1),
        name="Čilka 😀",
        phone="+436512345678",
        email="ana@example.si",
        username="007",
        tags=["1-2", "vip"],
        notes="Two\r\nlines",
        conversation_status="open",
    )
    account = Account()
    account.held[UUID(int=1)] = contact
    file.write_text(
        "id;name;phone;email;username;tags;notes;conversation_status\n"
        f'{UUID(int=1)};?ilka ??;4,36512E+11;ana@example.si;7;1-2;"Two\nlines";open\n'
    )

    [result], [[sent]] = run_open(account, file)

    assert result.outcome == "created"
    assert sent.phone is None
    assert sent.name is None
    assert sent.username is None
    assert sent.notes is None
    assert (sent.email, sent.tags) == ("ana@example.si", ["1-2"])


def test_a_damaged_cell_that_is_of_another_number_is_refused_with_words(file: Path) -> None:
    account = Account()
    account.held[UUID(int=1)] = Contact(id=UUID(int=1), phone="+38640111222")
    file.write_text(f"id;phone\n{UUID(int=1)};4,36512E+11\n{UUID(int=1)};38640111333\n")

    results, calls = run_open(account, file)

    assert calls == []
    assert [(one.outcome, one.field) for one in results] == [("refused", "phone")] * 2
    assert "last digits are lost" in (results[0].reason or "")
    assert "If it is +38640111333 (SI), write the plus" in (results[1].reason or "")


def run_open(account: Account, file: Path) -> tuple[list[Result], list[list[Contact]]]:
    calls = import_table(account, "alpine", Table.open(file), dry_run=True)
    return [result for results in calls for result in results], account.calls


def test_what_a_contact_has_no_room_for_is_told(file: Path) -> None:
    account = Account()
    file.write_text(
        "First Name,Last Name,E-mail Address,E-mail Type,Business Phone,Mobile Phone\n"
        "Ana,Novak,ana@example.si,SMTP,+38614258888,+38640111222\n"
    )

    [result], [[contact]] = run_open(account, file)

    assert (contact.name, contact.phone) == ("Ana Novak", "+38640111222")
    assert result.outcome == "created"
    assert result.reason == "A contact has one phone: +38614258888 (Business Phone) left out."


@pytest.mark.parametrize(
    ("country", "region", "phone"),
    [("SI", None, "+38640111222"), ("SI", "HR", "+38540111222"), (None, None, None)],
)
def test_numbers_without_a_country_code_are_of_the_account_s_country(
    file: Path, country: str | None, region: str | None, phone: str | None
) -> None:
    account = Account()
    account.country = country
    file.write_text("phone\n040 111 222\n")

    [[result]] = import_table(account, "alpine", Table.open(file), region=region, dry_run=True)

    assert [[contact.phone for contact in call] for call in account.calls] == (
        [[phone]] if phone else []
    )
    assert (result.outcome == "refused") == (phone is None)
