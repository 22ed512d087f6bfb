"""A contact and a partner in the one form in which they are compared.

The fields are the columns that contacts have for them. None is "not known", and so is a text
of spaces. A party may hold more than a side can take; `limits` says what fits where.
"""

from __future__ import annotations

import re
from typing import Annotated

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


class Party(_Canonical):
    """Everything that the two sides are to agree on."""

    name: Text = None
    email: Text = None
    # E.164 in a contact; a partner's may be anything
    phone: Text = None
    gsm: Text = None
    fax: Text = None
    business_entity: bool | None = None
    taxpayer: bool | None = None
    # abroad; the ERP's spelling
    foreign_county: bool | None = None
    buyer: bool | None = None
    supplier: bool | None = None
    tax_id_number: Text = None
    registration_number: Text = None
    street: Text = None
    post_number: Text = None
    place: Text = None
    province: Text = None
    country: Text = None
    people: tuple[Person, ...] = ()
    addresses: tuple[Address, ...] = ()
    # the mk_id of the partner's own person, for the base to remember; no column, and not compared
    own_person: Text = None


FLAGS = ("business_entity", "taxpayer", "foreign_county", "buyer", "supplier")
# of the partner's own person
MEANS = ("email", "phone", "gsm", "fax")
# of the address for invoices
PLACE = ("street", "post_number", "place", "province", "country")
LISTS = ("people", "addresses")
SINGLE = tuple(name for name in Party.model_fields if name not in (*LISTS, "own_person"))

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
