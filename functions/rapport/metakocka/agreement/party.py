"""A contact and a partner in the one form in which they are compared.

The fields are the columns that contacts have for them. None is "not known", and so is a text
of spaces. A party may hold more than a side can take; `limits` says what fits where.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

# what Postgres' text can't hold, or what no name has; line breaks and tabs stay
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

_BEYOND_NUMBERS = 10**300


def clean(value: object) -> str | None:
    """A text without control characters and outer spaces, None if that leaves nothing.

    A number is a text, too, and anything else is none: a list's entries may have been written
    by hand.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # those of thousands of digits have no text
        value = str(value) if abs(value) < _BEYOND_NUMBERS else None
    return (_CONTROLS.sub("", value).strip() or None) if isinstance(value, str) else None


Text = Annotated[str | None, BeforeValidator(clean)]


class _Canonical(BaseModel):
    # errors are logged, and the input is a customer's
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Entry(_Canonical):
    """An element of a list; `mk_id` is Metakocka's, and absent until it has given one."""

    mk_id: Text = None


class Person(Entry):
    """A further person of a partner; the partner's own entry is the party itself."""

    # of the address that the person belongs to
    mk_address_id: Text = None
    name: Text = None
    email: Text = None
    phone: Text = None
    gsm: Text = None
    fax: Text = None


class Address(Entry):
    """A further address; the one for invoices is the party's own."""

    # Račun (invoices), Dobava (delivery) or Poslovna enota (business unit)
    address_type: Text = None
    street: Text = None
    post_number: Text = None
    city: Text = None
    province: Text = None
    country: Text = None


@dataclass(frozen=True)
class At:
    """Where a partner's record has a field: under which name, in which part, how much of it.

    `longest` is in characters. The database has the same list (private.contact_fields).
    """

    name: str
    # of the record itself, of its own person, of its address for invoices, or a list of entries
    part: Literal["partner", "person", "address", "list"] = "partner"
    longest: int | None = None


class Party(_Canonical):
    """Everything that the two sides are to agree on."""

    name: Annotated[Text, At("customer", longest=100)] = None
    email: Annotated[Text, At("email", "person", 255)] = None
    # E.164 in a contact; a partner's may be anything
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
    # an address has it as city
    place: Annotated[Text, At("place", "address", 100)] = None
    province: Annotated[Text, At("province", "address", 50)] = None
    country: Annotated[Text, At("country", "address", 50)] = None
    people: Annotated[tuple[Person, ...], At("partner_contact_list", "list")] = ()
    addresses: Annotated[tuple[Address, ...], At("partner_delivery_address_list", "list")] = ()
    # the mk_id of the partner's own person, for the base to remember; no column, and not compared
    own_person: Text = None


FIELDS = {
    name: at
    for name, field in Party.model_fields.items()
    for at in field.metadata
    if isinstance(at, At)
}
FLAGS = tuple(name for name in FIELDS if Party.model_fields[name].annotation == bool | None)
# of the partner's own person
MEANS = tuple(name for name, at in FIELDS.items() if at.part == "person")
# of the address for invoices
PLACE = tuple(name for name, at in FIELDS.items() if at.part == "address")
LISTS = tuple(name for name, at in FIELDS.items() if at.part == "list")
SINGLE = tuple(name for name in FIELDS if name not in LISTS)
# an address' names for the fields of a party; the rest are called the same
ADDRESS_NAMES = {"place": "city"}

INVOICES = "Račun"
ADDRESS_TYPES = (INVOICES, "Dobava", "Poslovna enota")

Single = str | bool | None
Value = Single | tuple[Person, ...] | tuple[Address, ...]


def party_fields(party: Party) -> dict[str, JsonValue]:
    """A party as the database keeps it: the known fields and both lists."""
    fields: dict[str, JsonValue] = party.model_dump(mode="json", exclude_none=True)
    return fields


def as_json(value: Value | Entry) -> JsonValue:
    """A value as the database takes it; of an entry what is known."""
    if isinstance(value, Entry):
        known: JsonValue = value.model_dump(mode="json", exclude_none=True)
        return known
    if isinstance(value, tuple):
        return [as_json(entry) for entry in value]
    return value
