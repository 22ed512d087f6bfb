"""What is to be written where, for one contact and its partner. Pure: nothing is called here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from rapport.metakocka.agreement.clues import clues_of
from rapport.metakocka.agreement.compare import same_tax
from rapport.metakocka.agreement.decisions import Conflict, Held, Rule
from rapport.metakocka.agreement.limits import misfit
from rapport.metakocka.agreement.merge import Merged, merge
from rapport.metakocka.agreement.party import LISTS, Entry, Party, Value, as_json
from rapport.metakocka.api.from_partner import Partner, from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.store.metakocka_rows import (
    Candidate,
    FieldConflict,
    Fields,
    KnownPartner,
    PartnerItem,
    PartnerRef,
)

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class Terms:
    """How an account merges."""

    rule: Rule
    region: str


@dataclass(frozen=True)
class Contact:
    """A contact as it was read, with what was last agreed of it.

    Metakocka gives no times. A partner that was seen with what was agreed at `seen_at`, and
    differs now, was edited later: by `newest` that wins over an edit of the contact that is
    earlier. `edits` has the time of each field that was edited; of others `updated_at` is known.
    """

    contact_id: UUID
    version: int
    updated_at: datetime
    party: Party
    base: Party | None = None
    seen_at: datetime | None = None
    edits: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a merge comes to."""

    partner: Partner
    record: PartnerRecord
    merged: Merged

    @property
    def base(self) -> Party:
        """What both sides hold at present.

        For what is still to be sent that is Metakocka's value: the contact differs from it, and
        so it is the contact that has changed.
        """
        pending: dict[str, object] = {}
        for name, value in self.merged.erp_changes.items():
            theirs = getattr(self.partner.party, name)
            if name in LISTS:
                agreed = getattr(self.merged.party, name)
                pending[name] = _without(agreed, _entries(value), theirs)
            else:
                pending[name] = theirs
        return self.merged.party.model_copy(update=pending)

    @property
    def is_as_agreed(self) -> bool:
        """Whether the partner has nothing that differs from what was agreed."""
        merged = self.merged
        return not merged.crm_changes and not merged.conflicts and not merged.held

    def item(self, contact: Contact | None, seen_at: datetime | None = None) -> PartnerItem:
        """For the database to write; without a contact one is made.

        `seen_at` is when the partner was read, or a little earlier.
        """
        changes = as_fields(self.merged.crm_changes)
        return PartnerItem(
            metakocka_id=self.partner.mk_id,
            partner_hash=self.record.hash,
            base=party_fields(self.base),
            contact_id=contact and contact.contact_id,
            # where nothing is written to it, it may change meanwhile
            expected_version=contact.version if contact and changes else None,
            changes=changes,
            conflicts=field_conflicts(self.merged.conflicts),
            push=bool(self.merged.erp_changes),
            seen_at=seen_at,
        )


def plan_of(contact: Contact | None, record: PartnerRecord, terms: Terms) -> Plan:
    """Merges a partner with the contact that it is, or with none."""
    base = contact.base if contact else None
    partner = from_record(record, own_person=base.own_person if base else None, region=terms.region)
    merged = merge(
        base,
        contact.party if contact else Party(),
        partner.party,
        terms.rule,
        contact.updated_at if contact else None,
        contact.seen_at if contact else None,
        crm_edits=contact.edits if contact else None,
    )
    return Plan(partner, record, merged)


def ref_of(record: PartnerRecord, terms: Terms, *, known_hash: bool = True) -> PartnerRef:
    """What a partner may be known by; without its hash everything is told of it."""
    party = from_record(record, region=terms.region).party
    email = party.email if misfit("crm", "email", party.email) is None else None
    return PartnerRef(
        metakocka_id=record.mk_id,
        partner_hash=record.hash if known_hash else None,
        tax_id_number=party.tax_id_number,
        emails=[email] if email else [],
        phones=[
            number
            for number in (party.phone, party.gsm)
            if number and misfit("crm", "phone", number) is None
        ],
    )


def contact_of(known: KnownPartner | Candidate) -> Contact | None:
    """The contact that a partner is, or may be."""
    if known.contact_id is None or known.version is None or known.updated_at is None:
        return None
    contact = Contact(
        known.contact_id,
        known.version,
        known.updated_at,
        Party.model_validate(known.party or {}),
    )
    if not isinstance(known, KnownPartner):
        return contact
    base = None if known.base is None else Party.model_validate(known.base)
    return replace(contact, base=base, seen_at=known.seen_at, edits=known.edits)


def waiting(record: PartnerRecord, candidates: Iterable[Candidate], terms: Terms) -> PartnerItem:
    """A partner that a person has to find the contact of."""
    party = party_fields(from_record(record, region=terms.region).party)
    return PartnerItem(
        metakocka_id=record.mk_id,
        partner_hash=None,
        base=party,
        candidates=[one.contact_id for one in candidates],
        partner=party,
    )


def is_other(candidate: Candidate, record: PartnerRecord) -> bool:
    """Whether a contact that shares an address or number has a tax number of its own."""
    ours = Party.model_validate(candidate.party).tax_id_number
    theirs = record.tax_id_number
    return (
        ours is not None
        and theirs is not None
        and "tax" not in candidate.matched_by
        and not same_tax(ours, theirs)
    )


def may_be(candidate: Candidate, record: PartnerRecord, terms: Terms) -> bool:
    """Whether a contact is known by something of the partner's.

    One that was found by the end of its mobile number has to have the number, read as one of
    its country.
    """
    if candidate.matched_by != ["gsm"]:
        return True
    ours = clues_of(Party.model_validate(candidate.party), terms.region)
    theirs = ref_of(record, terms)
    return any(number in ours.phones for number in theirs.phones)


def party_fields(party: Party) -> Fields:
    """A party as the database keeps it: what is known, and both lists."""
    fields: Fields = party.model_dump(mode="json", exclude_none=True)
    return fields


def as_fields(changes: Mapping[str, Value]) -> Fields:
    return {name: as_json(value) for name, value in changes.items()}


def field_conflicts(conflicts: Iterable[Conflict]) -> list[FieldConflict]:
    """Conflicts as the database takes them, one for each field."""
    return list(
        {
            one.field: FieldConflict(
                field=one.field,
                base=as_json(one.base),
                crm=as_json(one.crm),
                erp=as_json(one.erp),
                decided_by=None if one.winner is None else one.decided_by,
                winner=one.winner,
            )
            for one in conflicts
        }.values()
    )


def _entries(value: Value) -> tuple[Entry, ...]:
    return value if isinstance(value, tuple) else ()


def _without(
    agreed: tuple[E, ...], pending: tuple[Entry, ...], theirs: tuple[E, ...]
) -> tuple[E, ...]:
    """The agreed entries, those that are still to be sent as Metakocka has them."""
    changed = {one.mk_id for one in pending if one.mk_id}
    there = {one.mk_id: one for one in theirs}
    return tuple(
        there.get(one.mk_id, one) if one.mk_id in changed else one
        for one in agreed
        if one.mk_id is not None
    )


@dataclass(frozen=True)
class Agreed:
    """How far two sides have come: the contact as it is to be, and the last merge.

    The version is that of the contact as it was claimed.
    """

    contact: Contact
    plan: Plan
    # of the merges before the last
    changes: Mapping[str, Value] = field(default_factory=dict)
    decided: tuple[Conflict, ...] = ()
    held: tuple[Held, ...] = ()
    has_sent: bool = False
    # when the partner was read last
    seen_at: datetime | None = None

    def __post_init__(self) -> None:
        known = {one.field: one for one in (*self.held, *self.plan.merged.held)}
        object.__setattr__(self, "held", tuple(known.values()))

    def after(self, record: PartnerRecord, terms: Terms, seen_at: datetime) -> Agreed:
        """The same once more, with the partner as it is now."""
        merged = self.plan.merged
        contact = replace(
            self.contact,
            party=self.contact.party.model_copy(update=dict(merged.crm_changes)),
            base=merged.party,
        )
        return Agreed(
            contact,
            plan_of(contact, record, terms),
            {**self.changes, **merged.crm_changes},
            (*self.decided, *(one for one in merged.conflicts if one.winner is not None)),
            self.held,
            has_sent=True,
            seen_at=seen_at,
        )

    @property
    def is_open(self) -> bool:
        return any(one.winner is None for one in self.plan.merged.conflicts)

    @property
    def has_changes(self) -> bool:
        return self.has_sent or bool(self.changes) or not self.plan.merged.is_quiet

    def item(self) -> PartnerItem:
        changes = as_fields({**self.changes, **self.plan.merged.crm_changes})
        return self.plan.item(self.contact, self.seen_at).model_copy(
            update={
                "changes": changes,
                "expected_version": self.contact.version if changes else None,
                "conflicts": field_conflicts((*self.decided, *self.plan.merged.conflicts)),
                # what Metakocka has not taken after some rounds it would not take now
                "push": False,
            }
        )


def match(
    record: PartnerRecord, known: KnownPartner, terms: Terms
) -> Contact | Sequence[Candidate] | None:
    """The contact that a partner is, None for a new one, or those among whom a person chooses."""
    contact = contact_of(known)
    candidates = [one for one in known.candidates if may_be(one, record, terms)]
    if contact is not None or not candidates:
        return contact
    [first, *others] = candidates
    return candidates if others or is_other(first, record) else contact_of(first)


def is_asked(record: PartnerRecord, known: KnownPartner, terms: Terms) -> bool:
    """Whether somebody is to tell first which partner a contact is, and it may be this one."""
    return known.is_asked or any(
        one.is_asked and may_be(one, record, terms) for one in known.candidates
    )


def is_known(known: KnownPartner) -> bool:
    """Whether it is a contact already."""
    return known.unchanged or known.contact_id is not None
