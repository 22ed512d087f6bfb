"""A partner's record as a party.

The partner's own entries:

* The address for invoices (`Račun`) is the party's own address: `street`, `post_number`, `place`
  (the record's `city`), `province` and `country`. If there are several, the oldest counts; it has
  the smallest mk_id. All other addresses are in `addresses`.
* The person without a name, or with the partner's name, is the partner itself; Metakocka makes one
  for `useCustomerAsContact`. The party has the `email`, `phone`, `gsm` and `fax` of this person. A
  mobile number is never taken for a `phone`. If there are several such persons, one at the address
  for invoices comes first, then the oldest. All other persons are in `people`.

A number becomes E.164 where it can be read with certainty; a number without a country code is read
with the country of the address. Other numbers stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.countries import region_of
from rapport.metakocka.agreement.party import (
    ADDRESS_NAMES,
    FIELDS,
    INVOICES,
    MEANS,
    PLACE,
    Address,
    Party,
    Person,
)
from rapport.metakocka.api.records import AddressRecord, PartnerRecord, PersonRecord

R = TypeVar("R", PersonRecord, AddressRecord)


@dataclass(frozen=True)
class Partner:
    """A partner's record, its party, and the person and the address that are the partner's own."""

    record: PartnerRecord
    party: Party
    person: PersonRecord | None = None
    address: AddressRecord | None = None

    @property
    def mk_id(self) -> str:
        return self.record.mk_id


def from_record(
    record: PartnerRecord, *, own_person: str | None = None, region: str = "SI"
) -> Partner:
    """The record as a party.

    `own_person` is the person of the last agreed state. It stays the partner's own after a rename
    of the person or of the partner. `region` (ISO 3166) is used for numbers without a country code
    if the partner has no country. Metakocka gives every entry an mk_id; an entry without one is
    left out.
    """
    own_address = _oldest([one for one in record.addresses if one.address_type == INVOICES])
    person = _own_person(record, own_person, own_address.mk_id if own_address else None)
    country = own_address.country if own_address else record.country
    numbers_of = region_of(country) if country else region
    place = own_address or AddressRecord(
        street=record.street,
        post_number=record.post_number,
        city=record.place,
        province=record.province,
        country=record.country,
    )
    own = _person(person, numbers_of) if person else Person()
    # The values of a record are clean: to validate them again takes as long as to read the record.
    party = Party.model_construct(
        **{name: getattr(record, at.name) for name, at in FIELDS.items() if at.part == "partner"}
        | {name: getattr(place, ADDRESS_NAMES.get(name, name)) for name in PLACE}
        | {name: getattr(own, name) for name in MEANS}
        | {
            "people": tuple(
                _person(one, numbers_of) for one in record.people if one is not person and one.mk_id
            ),
            "addresses": tuple(
                Address.model_construct(**dict(one))
                for one in record.addresses
                if one is not own_address and one.mk_id
            ),
            "own_person": person.mk_id if person else None,
        }
    )
    return Partner(record, party, person, own_address)


def _own_person(
    record: PartnerRecord, known: str | None, address_id: str | None
) -> PersonRecord | None:
    own = [one for one in record.people if known and one.mk_id == known] or [
        one for one in record.people if one.name is None or same("name", one.name, record.customer)
    ]
    at_address = [one for one in own if address_id and one.mk_address_id == address_id]
    return _oldest(at_address or own)


def _oldest(records: Sequence[R]) -> R | None:
    """The record with the smallest mk_id: ids are given in order, lists are in any order."""
    return min(records, key=lambda one: (len(one.mk_id or ""), one.mk_id or ""), default=None)


def _person(record: PersonRecord, region: str | None) -> Person:
    # the numbering plans of all countries, which requests without a partner do without
    from rapport.phone import e164_or_text

    return Person.model_construct(
        mk_id=record.mk_id,
        mk_address_id=record.mk_address_id,
        name=record.name,
        email=record.email,
        phone=e164_or_text(record.phone, region),
        gsm=e164_or_text(record.gsm, region),
        fax=e164_or_text(record.fax, region),
    )
