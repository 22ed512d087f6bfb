"""The partners and documents of one company, and the operations on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import TypeAdapter

from rapport.local.fakes.metakocka.fields import (
    PARTNER,
    PLACE,
    TYPES,
    Fields,
    MetakockaFault,
    Payload,
    entries,
    take,
    take_address,
    take_contact,
)
from rapport.local.fakes.shelf import Kept, Shelf

_NEEDED = ("customer", "street", "post_number", "place", "country")
_FIRST_ID = 228_000_000_000
_RESERVED = 1000


@dataclass
class FakePartner:
    """A partner; its people and addresses by mk_id, in the order of their creation."""

    mk_id: str
    count_code: str
    fields: Fields
    people: dict[str, Fields] = field(default_factory=dict)
    addresses: dict[str, Fields] = field(default_factory=dict)


@dataclass(frozen=True)
class FakeDocument:
    """A document that names a partner, and perhaps another partner as the receiver."""

    mk_id: str
    doc_type: str
    partner: str
    receiver: str
    changed_at: datetime


_PARTNER = TypeAdapter(FakePartner)
_DOCUMENT = TypeAdapter(FakeDocument)
_ID = TypeAdapter(int)


@dataclass
class FakeCompany:
    """All data of a company; `kept` ones are also on a shelf."""

    partners: dict[str, FakePartner] = field(default_factory=dict)
    documents: list[FakeDocument] = field(default_factory=list)
    _last_id: int = _FIRST_ID
    _kept_documents: dict[str, FakeDocument] = field(default_factory=dict)
    # after a restart no id up to these is given again
    _reserved: dict[str, int] = field(default_factory=dict)

    @classmethod
    def kept(cls, shelf: Shelf, company_id: str) -> FakeCompany:
        """The company as stored on the shelf."""
        partners = Kept.of(shelf, f"partners {company_id}", _PARTNER)
        documents = Kept.of(shelf, f"documents {company_id}", _DOCUMENT)
        reserved = Kept.of(shelf, f"ids {company_id}", _ID)
        last_id = reserved.get("last", _FIRST_ID)
        return cls(partners, list(documents.values()), last_id, documents, reserved)

    def add(self, payload: Payload) -> FakePartner:
        """Creates a partner from the fields of add_partner.

        Raises:
            MetakockaFault: A field is missing or wrong; nothing is created.
        """
        for name in _NEEDED:
            if payload.get(name) in (None, ""):
                raise MetakockaFault("6", f"{name} is required")
        fields = take(payload, PARTNER)
        own = {"address_type": TYPES[0], **_as_address(take(payload, PLACE))}
        further = [take_address(one) for one in entries(payload, "partner_delivery_address")]
        people = [take_contact(one) for one in entries(payload, "partner_contact")]
        partner = FakePartner(self._id(), "", fields)
        partner.count_code = f"WE{partner.mk_id[-7:]}"
        for address in (own, *further):
            partner.addresses[self._id()] = address
        for person in people:
            partner.people[self._id()] = {"mk_address_id": next(iter(partner.addresses)), **person}
        self.partners[partner.mk_id] = partner
        return partner

    def update(self, payload: Payload) -> FakePartner:
        """Changes a partner as update_partner does: the given fields, and entries by their mk_id.

        Address fields of the partner itself change no address, as in the documented sample.

        Raises:
            MetakockaFault: A field is wrong; nothing is changed.
        """
        partner = self.known(payload)
        fields = take(payload, {**PARTNER, **PLACE})
        if fields.get("customer") == "":
            raise MetakockaFault("6", "customer is required")
        people = [(one, take_contact(one)) for one in entries(payload, "partner_contact_list")]
        places = [
            (one, take_address(one)) for one in entries(payload, "partner_delivery_address_list")
        ]
        for entry, _ in people:
            _require(entry, partner.people, "Contact")
            if entry.get("mk_id") is None or "mk_address_id" in entry:
                if entry.get("mk_address_id") in (None, ""):
                    raise MetakockaFault("6", "mk_address_id is required")
                if entry["mk_address_id"] not in partner.addresses:
                    raise MetakockaFault("2", "Address not found")
        for entry, _ in places:
            _require(entry, partner.addresses, "Address")
        _lay(partner.fields, {name: fields[name] for name in fields if name in PARTNER})
        for entry, given in places:
            _lay(partner.addresses.setdefault(str(entry.get("mk_id") or self._id()), {}), given)
        for entry, given in people:
            person = partner.people.setdefault(str(entry.get("mk_id") or self._id()), {})
            if "mk_address_id" in entry:
                given = {"mk_address_id": str(entry["mk_address_id"]), **given}
            _lay(person, given)
        self.partners[partner.mk_id] = partner
        return partner

    def known(self, payload: Payload) -> FakePartner:
        """The partner with this mk_id, or else with this count_code."""
        if "mk_id" in payload:
            partner = self.partners.get(str(payload["mk_id"]))
        else:
            number = payload.get("count_code")
            partner = next(
                (one for one in self.partners.values() if one.count_code == number), None
            )
        if partner is None:
            raise MetakockaFault("2", "Partner not found")
        return partner

    def merge(self, keep: str, drop: str) -> FakePartner:
        """Joins two partners: one is deleted, and the other gets its entries and documents."""
        kept, dropped = self.known({"mk_id": keep}), self.known({"mk_id": drop})
        kept.people |= dropped.people
        kept.addresses |= dropped.addresses
        self.partners[keep] = kept
        del self.partners[drop]
        self.documents = [
            FakeDocument(
                one.mk_id,
                one.doc_type,
                keep if one.partner == drop else one.partner,
                keep if one.receiver == drop else one.receiver,
                datetime.now(UTC),
            )
            if drop in (one.partner, one.receiver)
            else one
            for one in self.documents
        ]
        for one in self.documents:
            if keep in (one.partner, one.receiver):
                self._kept_documents[one.mk_id] = one
        return kept

    def issue(
        self, doc_type: str, partner: str, receiver: str | None = None, at: datetime | None = None
    ) -> FakeDocument:
        """Creates a document."""
        self.known({"mk_id": partner})
        document = FakeDocument(
            self._id(), doc_type, partner, receiver or partner, at or datetime.now(UTC)
        )
        self.documents.append(document)
        self._kept_documents[document.mk_id] = document
        return document

    def _id(self) -> str:
        self._last_id += 1
        if self._last_id > self._reserved.get("last", _FIRST_ID):
            self._reserved["last"] = self._last_id + _RESERVED
        return str(self._last_id)


def _as_address(fields: Fields) -> Fields:
    return {"city" if name == "place" else name: value for name, value in fields.items()}


def _require(entry: Payload, known: dict[str, Fields], what: str) -> None:
    if entry.get("mk_id") is not None and entry["mk_id"] not in known:
        raise MetakockaFault("2", f"{what} with mk_id {entry['mk_id']} not found")


def _lay(fields: Fields, given: Fields) -> None:
    """Changes the given fields of an entry; an empty value erases."""
    for name, value in given.items():
        if value:
            fields[name] = value
        else:
            fields.pop(name, None)
