"""From a row of the file to the contact that it says."""

from __future__ import annotations

import re
from uuid import UUID

from rapport.contact_store import Contact
from rapport.contacts.cells import split_tags, unguarded
from rapport.contacts.table import Record
from rapport.errors import MalformedTable, NotAPhoneNumber
from rapport.phone import to_e164

# characters; more than any field has, notes and a hundred tags in quotes included: what the
# database would refuse anyway need not travel
CELL_LIMIT = 25_000

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")


class RefusedRow(Exception):  # noqa: N818 - what it is, as in the error tree
    """A row that can't go in: the field that is wrong, if it is one, and why."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def read_row(record: Record, columns: list[str], region: str | None) -> Contact:
    """The contact that a row says; an empty cell says nothing.

    Raises:
        RefusedRow: A cell is not what its column holds.
    """
    if len(record.cells) != len(columns):
        raise RefusedRow(
            None, f"It has {len(record.cells)} cells, and the first row {len(columns)}."
        )
    said = {
        column: text
        for column, cell in zip(columns, record.cells, strict=True)
        # what is around a text is for the database to trim, so that one rule does
        if (text := unguarded(cell)).strip()
    }
    for column, text in said.items():
        if "\0" in text:
            raise RefusedRow(column, "It holds a NUL, which no text has.")
        if len(text) > CELL_LIMIT:
            raise RefusedRow(column, f"It has more than {CELL_LIMIT:,} characters.")

    named = said.get("id")
    phone = said.get("phone")
    tags = said.get("tags")
    status = said.get("conversation_status")
    return Contact(
        id=None if named is None else _id(named),
        name=said.get("name"),
        phone=None if phone is None else _phone(phone, region, is_ours=named is not None),
        email=said.get("email"),
        username=said.get("username"),
        tags=None if tags is None else _tags(tags),
        notes=said.get("notes"),
        conversation_status=None if status is None else status.strip(),
    )


def _id(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise RefusedRow("id", "This is not an id.") from None


def _phone(text: str, region: str | None, *, is_ours: bool) -> str:
    # WhatsApp has numbers that no list of countries' numbers has: what was exported is right
    if is_ours and _E164.fullmatch(text.strip()):
        return text.strip()
    try:
        return to_e164(text, region)
    except NotAPhoneNumber as error:
        raise RefusedRow("phone", str(error)) from None


def _tags(text: str) -> list[str]:
    try:
        return split_tags(text)
    except MalformedTable as error:
        raise RefusedRow("tags", str(error)) from None
