"""Reads a contact from a row of the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from rapport.contacts.cells import join_tags, split_tags, text_of
from rapport.contacts.columns import Column
from rapport.contacts.damage import is_damaged
from rapport.contacts.table import Record
from rapport.email_address import is_email
from rapport.errors import MalformedTable, NotAPhoneNumber
from rapport.phone import to_e164
from rapport.store.contacts import Contact

# characters: more than any field may have, notes and a hundred quoted tags included
CELL_LIMIT = 25_000

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_NAMED_EMAIL = re.compile(r"[^<>@]*<([^<>]+)>")
_SEVERAL_EMAILS = re.compile(r"[\s,;|]+")
# marks groups that Google adds itself
_GOOGLE_S_OWN = "*"


class RefusedRow(Exception):  # noqa: N818 - what it is, as in the error tree
    """A row that can't be imported: the wrong field, if it is one, and the reason."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True)
class Said:
    """The filled cells of a row, each with its column."""

    cells: list[tuple[Column, str]]

    @classmethod
    def of(cls, record: Record, columns: Sequence[Column]) -> Said:
        """Assigns each cell to its column.

        Raises:
            RefusedRow: There are more cells than columns, or one is too long.
        """
        # spreadsheets omit or add empty cells at the end of a row
        beyond = [cell for cell in record.cells[len(columns) :] if cell.strip()]
        if beyond:
            raise RefusedRow(
                None, f"The row has {len(record.cells)} cells; the first row has {len(columns)}."
            )
        cells = []
        for column, cell in zip(columns, record.cells, strict=False):
            # the database trims texts, so that there is one rule
            text = text_of(cell)
            if not text.strip():
                continue
            if not column.title:
                raise RefusedRow(
                    None,
                    f"The row has {text.strip()[:32]!r} in a column without a title.",
                )
            if column.target is None:
                continue
            if "\0" in text:
                raise RefusedRow(column.target, "The cell contains a NUL character. Remove it.")
            if len(text) > CELL_LIMIT:
                raise RefusedRow(
                    column.target, f"The cell has more than {CELL_LIMIT:,} characters."
                )
            cells.append((column, text))
        return cls(sorted(cells, key=lambda cell: cell[0].rank))

    def first(self, target: str) -> str | None:
        """The text of the first column of this field."""
        return next((text for column, text in self.cells if column.target == target), None)

    def all(self, target: str) -> list[tuple[Column, str]]:
        """The values of all columns of a field; a cell may hold several values."""
        found = []
        for column, text in self.cells:
            if column.target == target:
                values = [text] if column.separator is None else text.split(column.separator)
                found += [(column, value) for value in values if value.strip()]
        return found

    @property
    def id(self) -> UUID | None:
        """The id of the contact that the row names.

        Raises:
            RefusedRow: It is no id.
        """
        named = self.first("id")
        try:
            return None if named is None else UUID(named.strip())
        except ValueError:
            raise RefusedRow(
                "id",
                "This is not a contact's id, as exports have it. Leave the column out with --map"
                " id= ; rows are then matched by phone, email or username.",
            ) from None


@dataclass(frozen=True)
class Read:
    """The contact of a row, and a sentence about values that did not fit into it."""

    contact: Contact
    note: str | None = None


def read_row(said: Said, region: str | None, held: Contact | None = None) -> Read:
    """Reads the contact of a row.

    `held` is the contact that the row names. A cell that is only a damaged form of its value counts
    as empty.

    Raises:
        RefusedRow: A cell has no valid value for its column.
    """
    named = said.id
    if held is not None:
        said = Said([cell for cell in said.cells if not _is_only_damaged(*cell, held)])
    notes: list[str] = []
    phone = _phone(said, region, notes, is_ours=named is not None)
    email = _email(said, notes)
    tags = _tags(said)
    status = said.first("conversation_status")
    contact = Contact(
        id=named,
        name=_name(said),
        phone=phone,
        email=email,
        username=said.first("username"),
        tags=tags,
        notes=said.first("notes"),
        conversation_status=None if status is None else status.strip(),
    )
    return Read(contact, " ".join(notes) or None)


def _is_only_damaged(column: Column, text: str, held: Contact) -> bool:
    if column.target in (None, "id"):
        return False
    value = getattr(held, column.target) if column.target in Contact.model_fields else None
    if isinstance(value, list):
        value = join_tags(value)
    # an equal value is sent: the database reports it as unchanged
    return isinstance(value, str) and text != value and is_damaged(text, value)


def _name(said: Said) -> str | None:
    if (name := said.first("name")) is not None:
        return name
    parts = [said.first(part) for part in ("first_name", "middle_name", "last_name")]
    joined = " ".join(part.strip() for part in parts if part is not None)
    return joined or said.first("company")


def _phone(said: Said, region: str | None, notes: list[str], *, is_ours: bool) -> str | None:
    code = said.first("country_code")

    def read(text: str) -> str:
        # WhatsApp has numbers that no numbering plan has: an exported number is accepted as it is
        if is_ours and _E164.fullmatch(text.strip()):
            return text.strip()
        return to_e164(text, region, country_code=code)

    return _one(said, "phone", read, notes)


def _email(said: Said, notes: list[str]) -> str | None:
    return _one(said, "email", _one_email, notes)


def _one(said: Said, field: str, read: Callable[[str], str], notes: list[str]) -> str | None:
    """The first readable value. The others go into the notes, since a contact has one."""
    found: str | None = None
    refusal: str | None = None
    others: list[str] = []
    for column, text in said.all(field):
        try:
            value = read(text)
        except (NotAPhoneNumber, ValueError) as error:
            refusal = refusal or str(error)
            others.append(f"{text.strip()[:40]} ({column.title[:40]})")
            continue
        if found is None:
            found = value
        elif value != found:
            others.append(f"{value} ({column.title[:40]})")
    if found is None and refusal is not None:
        raise RefusedRow(field, refusal)
    if found is not None and others:
        notes.append(f"A contact has one {field}: {', '.join(others)} left out.")
    return found


def _one_email(text: str) -> str:
    """The address in `ana@example.com` or `Ana <ana@example.com>`."""
    text = text.strip().removeprefix("mailto:")
    if named := _NAMED_EMAIL.fullmatch(text):
        text = named[1].strip()
    if is_email(text):
        return text
    addresses = [one for one in _SEVERAL_EMAILS.split(text) if one]
    if len(addresses) > 1:
        raise ValueError(
            f"The cell has {len(addresses)} addresses or words; a contact has one email. Keep only"
            f" {addresses[0][:64]!r}, if it is the right one."
        )
    raise ValueError("This is not an email address. Write one, such as ana@example.com.")


def _tags(said: Said) -> list[str] | None:
    tags: list[str] = []
    for column, text in said.all("tags"):
        if column.separator is None:
            try:
                tags += split_tags(text)
            except MalformedTable as error:
                raise RefusedRow("tags", str(error)) from None
        elif not text.strip().startswith(_GOOGLE_S_OWN):
            tags.append(text.strip())
    return tags or None
