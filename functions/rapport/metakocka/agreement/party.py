"""The form in which a contact and a partner are compared.

The fields are columns of contacts. None means "not known"; a text of spaces is None. A party may
have values that a side can't take; `limits` has the limits of each side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

# characters that Postgres' text can't hold, or that no name has; line breaks and tabs stay
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

_BEYOND_NUMBERS = 10**300


def clean(value: object) -> str | None:
    """A text without control characters and outer spaces; None if nothing is left.

    A number becomes a text, and any other value becomes None: entries of lists may have been
    written by hand.
    """
    if isinstance(value, str):
        # nearly every text is printable
        return (value if value.isprintable() else _CONTROLS.sub("", value)).strip() or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        # a number of thousands of digits has no text
        return str(value) if abs(value) < _BEYOND_NUMBERS else None
    return None


Text = Annotated[str | None, BeforeValidator(clean)]


class _Canonical(BaseModel):
    # errors are logged, and the input is personal data
    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )


class Entry(_Canonical):
    """An element of a list; `mk_id` is None until Metakocka has given one."""

    mk_id: Text = None


class Person(Entry):
    """A further person of a partner; the partner's own person is in the party itself."""

    # the address of the person
    mk_address_id: Text = None
    name: Text = None
    email: Text = None
    phone: Text = None
    gsm: Text = None
    fax: Text = None


class Address(Entry):
    """A further address; the address for invoices is in the party itself."""

    # Račun (invoices), Dobava (delivery) or Poslovna enota (business unit)
    address_type: Text = None
    street: Text = None
    post_number: Text = None
    city: Text = None
    province: Text = None
    country: Text = None


@dataclass(frozen=True)
class At:
    """The place of a field in a partner's record: its name, its part, and its longest value.

    `longest` is in characters. The database has the same list (private.contact_fields).
    """

    name: str
    # the record itself, its own person, its address for invoices, or a list of entries
    part: Literal["partner", "person", "address", "list"] = "partner"
    longest: int | None = None


class Party(_Canonical):
    """All fields that the two sides agree on."""

    name: Annotated[Text, At("customer", longest=100)] = None
    email: Annotated[Text, At("email", "person", 255)] = None
    # E.164 in a contact, any text in a partner
    phone: Annotated[Text, At("phone", "person", 255)] = None
    gsm: Annotated[Text, At("gsm", "person", 255)] = None
    fax: Annotated[Text, At("fax", "person", 255)] = None
    business_entity: Annotated[bool | None, At("business_entity")] = None
    taxpayer: Annotated[bool | None, At("taxpayer")] = None
    # abroad; the ERP's spelling
    foreign_county: Annotated[bool | None, At("foreign_county")] = None
    buyer: Annotated[bool | None, At("buyer")] = None
    supplier: Annotated[bool | None, At("supplier")] = None
    tax_id_number: Annotated[Text, At("tax_id_number", longest=50)] = None
    registration_number: Annotated[Text, At("registration_number", longest=50)] = None
    street: Annotated[Text, At("street", "address", 150)] = None
    post_number: Annotated[Text, At("post_number", "address", 20)] = None
    # called city in an address
    place: Annotated[Text, At("place", "address", 100)] = None
    province: Annotated[Text, At("province", "address", 50)] = None
    country: Annotated[Text, At("country", "address", 50)] = None
    people: Annotated[tuple[Person, ...], At("partner_contact_list", "list")] = ()
    addresses: Annotated[tuple[Address, ...], At("partner_delivery_address_list", "list")] = ()
    # the mk_id of the partner's own person, which only the base keeps; it is not compared
    own_person: Text = None


FIELDS = {
    name: at
    for name, field in Party.model_fields.items()
    for at in field.metadata
    if isinstance(at, At)
}
FLAGS = tuple(name for name in FIELDS if Party.model_fields[name].annotation == bool | None)
# fields of the partner's own person
MEANS = tuple(name for name, at in FIELDS.items() if at.part == "person")
# fields of the address for invoices
PLACE = tuple(name for name, at in FIELDS.items() if at.part == "address")
LISTS = tuple(name for name, at in FIELDS.items() if at.part == "list")
SINGLE = tuple(name for name in FIELDS if name not in LISTS)
# the fields of a party that have another name in an address
ADDRESS_NAMES = {"place": "city"}

INVOICES = "Račun"
ADDRESS_TYPES = (INVOICES, "Dobava", "Poslovna enota")

Single = str | bool | None
Value = Single | tuple[Person, ...] | tuple[Address, ...]


def party_fields(party: Party) -> dict[str, JsonValue]:
    """A party as the database stores it: the known fields and both lists."""
    fields: dict[str, JsonValue] = party.model_dump(mode="json", exclude_none=True)
    return fields


def as_json(value: Value | Entry) -> JsonValue:
    """A value as the database stores it; an entry with its known fields."""
    if isinstance(value, Entry):
        known: JsonValue = value.model_dump(mode="json", exclude_none=True)
        return known
    if isinstance(value, tuple):
        return [as_json(entry) for entry in value]
    return value
