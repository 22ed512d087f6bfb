"""The bodies for Metakocka: a new partner, or the changes of one.

A new partner is sent with its own person and the address for invoices. add_partner takes one more
of each at most. So further people and addresses follow as an update, once there are ids.

An update has only the changed fields of the partner. Its entries are whole, because Metakocka does
not document the effect of a field that an entry leaves out. An empty text erases a value. The
partner's own address is sent twice: as fields of the partner, as the documentation shows, and as an
entry, because in one documented answer only the entry has an effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from rapport.errors import Unprocessable
from rapport.metakocka.agreement.countries import region_of
from rapport.metakocka.agreement.limits import missing_fields, require_fit
from rapport.metakocka.agreement.party import (
    ADDRESS_NAMES,
    FIELDS,
    FLAGS,
    INVOICES,
    MEANS,
    PLACE,
    SINGLE,
    Address,
    Party,
    Person,
    Single,
    Value,
)
from rapport.metakocka.api.from_partner import Partner

Body = dict[str, JsonValue]

_OWN_COUNTRY = "SI"


@dataclass(frozen=True)
class NewPartner:
    """The partner for add_partner, and the party that both sides agree on once it exists."""

    body: Body = field(repr=False)
    agreed: Party = field(repr=False)


@dataclass(frozen=True)
class _Update:
    mk_id: str
    body: Body = field(repr=False)


@dataclass(frozen=True)
class RepeatableUpdate(_Update):
    """An update that may be sent again: each of its entries names the entry that it changes."""

    def __post_init__(self) -> None:
        if _adds_entries(self.body):
            raise ValueError("each repetition adds an entry without mk_id once more")


@dataclass(frozen=True)
class AddingUpdate(_Update):
    """An update that adds people or addresses, which must not be sent twice."""


PartnerUpdate = RepeatableUpdate | AddingUpdate


def new_partner(party: Party) -> NewPartner:
    """The body of add_partner for the party.

    Raises:
        Unprocessable: A field is missing, or longer than Metakocka takes; the error names it.
    """
    if missing := missing_fields(party):
        raise Unprocessable(
            f"Metakocka makes no partner without {', '.join(missing)}.",
            field=missing[0],
            hint="Fill in the missing fields.",
        )
    flags = {
        "business_entity": False,
        "taxpayer": False,
        "foreign_county": region_of(party.country) not in (None, _OWN_COUNTRY),
        "buyer": True,
    }
    given = {name: value for name in FLAGS if (value := getattr(party, name)) is not None}
    agreed = party.model_copy(update={**flags, **given, "people": (), "addresses": ()})
    body = _fields(agreed, [name for name in SINGLE if name not in MEANS])
    if means := _fields(agreed, MEANS):
        body["partner_contact"] = {"useCustomerAsContact": "true", **means}
    return NewPartner(body, agreed)


def partner_update(partner: Partner, changes: Mapping[str, Value]) -> PartnerUpdate | None:
    """The body of update_partner that changes the partner; None if nothing changes.

    `changes` are a merge's `erp_changes`.

    Raises:
        Unprocessable: A field is longer than Metakocka takes; the error names it.
    """
    body: Body = {"mk_id": partner.mk_id}
    single = {name: value for name, value in changes.items() if isinstance(value, _SINGLE)}
    for name, value in single.items():
        require_fit(name, value)
        if name not in MEANS:
            body[FIELDS[name].name] = _text(value)
    people = [_own_person(partner, single)] if _touches_person(partner, single) else []
    people += [_further_person(partner, one) for one in _people(changes)]
    addresses = [_own_address(partner, single)] if _touches_address(partner, single) else []
    addresses += [_entry("addresses", one, partner.party.addresses) for one in _places(changes)]
    if people:
        body["partner_contact_list"] = list[JsonValue](people)
    if addresses:
        body["partner_delivery_address_list"] = list[JsonValue](addresses)
    if len(body) == 1:
        return None
    kind = AddingUpdate if _adds_entries(body) else RepeatableUpdate
    return kind(partner.mk_id, body)


_SINGLE = (str, bool, type(None))


def _fields(party: Party, names: list[str] | tuple[str, ...]) -> Body:
    sent: Body = {}
    for name in names:
        value = getattr(party, name)
        require_fit(name, value)
        if value is not None:
            sent[FIELDS[name].name] = _text(value)
    return sent


def _text(value: Single) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value or ""


def _touches_person(partner: Partner, changes: Mapping[str, Single]) -> bool:
    is_renamed = "name" in changes and partner.person is not None and partner.person.name
    return bool(is_renamed) or any(name in changes for name in MEANS)


def _own_person(partner: Partner, changes: Mapping[str, Single]) -> Body:
    """The partner's own entry, which has the partner's name."""
    known = partner.person
    entry: Body = {}
    if known is not None and known.mk_id:
        entry["mk_id"] = known.mk_id
    address_id = known.mk_address_id if known else None
    if address_id is None and partner.address is not None:
        address_id = partner.address.mk_id
    if address_id:
        entry["mk_address_id"] = address_id
    if known is None:
        # an entry without a name stays the partner's own when the partner is renamed
        entry["useCustomerAsContact"] = "true"
    elif known.name is not None:
        entry["name"] = _text(changes.get("name", partner.party.name))
    for name in MEANS:
        # an unchanged value goes back in Metakocka's spelling
        value = changes[name] if name in changes else getattr(known, name, None)
        if value is not None or name in changes:
            entry[name] = _text(value)
    return entry


def _touches_address(partner: Partner, changes: Mapping[str, Single]) -> bool:
    return partner.address is not None and any(name in changes for name in PLACE)


def _own_address(partner: Partner, changes: Mapping[str, Single]) -> Body:
    entry: Body = {"address_type": INVOICES}
    if partner.address is not None and partner.address.mk_id:
        entry["mk_id"] = partner.address.mk_id
    for name in PLACE:
        value = changes.get(name, getattr(partner.party, name))
        if value is not None or name in changes:
            entry[ADDRESS_NAMES.get(name, name)] = _text(value)
    return entry


def _people(changes: Mapping[str, Value]) -> list[Person]:
    value = changes.get("people", ())
    return [one for one in value if isinstance(one, Person)] if isinstance(value, tuple) else []


def _places(changes: Mapping[str, Value]) -> list[Address]:
    value = changes.get("addresses", ())
    return [one for one in value if isinstance(one, Address)] if isinstance(value, tuple) else []


def _further_person(partner: Partner, person: Person) -> Body:
    sent = _entry("people", person, partner.party.people)
    if "mk_address_id" not in sent and partner.address is not None and partner.address.mk_id:
        # Metakocka adds no person without an address
        sent["mk_address_id"] = partner.address.mk_id
    return sent


def _entry(
    field: str, entry: Person | Address, known: tuple[Person, ...] | tuple[Address, ...]
) -> Body:
    """A whole entry; a value that was removed is sent empty."""
    before = next((one for one in known if entry.mk_id and one.mk_id == entry.mk_id), None)
    sent: Body = {}
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        require_fit(f"{field}.{name}", value)
        if value is not None or getattr(before, name, None) is not None:
            sent[name] = _text(value)
    return sent


def _adds_entries(body: Body) -> bool:
    lists = (body.get("partner_contact_list"), body.get("partner_delivery_address_list"))
    return any(
        not (isinstance(entry, dict) and entry.get("mk_id"))
        for entries in lists
        if isinstance(entries, list)
        for entry in entries
    )
