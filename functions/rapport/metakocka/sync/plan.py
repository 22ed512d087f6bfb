"""The values to write on each side, for one contact and its partner. Pure: calls nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.decisions import Conflict, Held, Rule
from rapport.metakocka.agreement.merge import Merged, merge
from rapport.metakocka.agreement.party import (
    LISTS,
    SINGLE,
    Entry,
    Party,
    Value,
    as_json,
    party_fields,
)
from rapport.metakocka.api.bodies import PartnerUpdate, partner_update
from rapport.metakocka.api.from_partner import Partner, from_record
from rapport.metakocka.sync.find_contact import ContactState
from rapport.store.metakocka_rows import Candidate, FieldConflict, Fields, PartnerItem

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class Terms:
    """How an account merges; `region` (ISO 3166) is that of numbers without a country."""

    rule: Rule
    region: str


@dataclass(frozen=True)
class Plan:
    """The result of one merge."""

    partner: Partner
    merged: Merged

    @property
    def base(self) -> Party:
        """The values that both sides have now.

        A value that is still to be sent stands here as Metakocka has it. So the next merge sees
        that the contact has changed.
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
        """Whether the partner has the agreed values and no others."""
        merged = self.merged
        return not merged.crm_changes and not merged.conflicts and not merged.held

    def item(self, contact: ContactState | None, seen_at: datetime | None = None) -> PartnerItem:
        """The item for the database, which makes a contact if there is none.

        `seen_at` is when the partner was read, or a little earlier.
        """
        changes = as_fields(self.merged.crm_changes)
        return PartnerItem(
            metakocka_id=self.partner.mk_id,
            partner_hash=self.partner.record.hash,
            base=party_fields(self.base),
            contact_id=contact and contact.contact_id,
            # a contact that gets no new value may change meanwhile
            expected_version=contact.version if contact and changes else None,
            changes=changes,
            conflicts=field_conflicts(self.merged.conflicts),
            push=bool(self.merged.erp_changes),
            seen_at=seen_at,
        )


def plan_of(contact: ContactState | None, partner: Partner, terms: Terms) -> Plan:
    """Merges a partner with its contact, or with none."""
    base = contact.base if contact else None
    own = base.own_person if base else None
    if own is not None and own != partner.party.own_person:
        # a person who was renamed stays the partner's own
        partner = from_record(partner.record, own_person=own, region=terms.region)
    if base is not None and contact is not None:
        base = base.model_copy(update=_arrived(contact, partner.party))
    merged = merge(
        base,
        contact.party if contact else Party(),
        partner.party,
        terms.rule,
        contact.updated_at if contact else None,
        contact.seen_at if contact else None,
        crm_edits=contact.edits if contact else None,
    )
    return Plan(partner, merged)


@dataclass(frozen=True)
class Agreed:
    """How far two sides have come while a contact is sent: its state, and the last merge.

    `contact` has the version that was claimed, and the values of the merges before the last.
    """

    contact: ContactState
    plan: Plan
    # when the partner was read last
    seen_at: datetime
    # the results of the merges before the last
    changes: Mapping[str, Value] = field(default_factory=dict)
    decided: tuple[Conflict, ...] = ()
    held: tuple[Held, ...] = ()
    has_sent: bool = False

    @property
    def is_open(self) -> bool:
        """Whether a person has to decide a field."""
        return any(one.winner is None for one in self.plan.merged.conflicts)

    @property
    def has_changes(self) -> bool:
        return self.has_sent or bool(self.changes) or not self.plan.merged.is_quiet

    @property
    def update(self) -> PartnerUpdate | None:
        """What Metakocka still lacks.

        Raises:
            Unprocessable: A field is longer than Metakocka takes.
        """
        return partner_update(self.plan.partner, self.plan.merged.erp_changes)

    @property
    def sent(self) -> Fields:
        """The values of single fields that the update has."""
        changes = self.plan.merged.erp_changes
        return as_fields({name: changes[name] for name in changes if name in SINGLE})

    @property
    def theirs(self) -> Fields | None:
        """The agreed state while an update is on its way; None if it stays as it was.

        A field that is decided for the contact stands here as Metakocka has it so far.
        """
        if self.plan.is_as_agreed:
            return None
        base = self.plan.base
        pending = {name: getattr(base, name) for name in self.plan.merged.erp_changes}
        return party_fields((self.contact.base or Party()).model_copy(update=pending))

    @property
    def item(self) -> PartnerItem:
        """The item for the database after the last merge."""
        changes = as_fields({**self.changes, **self.plan.merged.crm_changes})
        return self.plan.item(self.contact, self.seen_at).model_copy(
            update={
                "changes": changes,
                "expected_version": self.contact.version if changes else None,
                "conflicts": field_conflicts((*self.decided, *self.plan.merged.conflicts)),
                # Metakocka has refused the rest several times, and would refuse it again now
                "push": False,
            }
        )


def agree(
    contact: ContactState,
    partner: Partner,
    terms: Terms,
    seen_at: datetime,
    before: Agreed | None = None,
) -> Agreed:
    """Merges a contact with its partner as it is now.

    `before` is the last merge, if any; then `contact` comes from it.
    """
    merged = before.plan.merged if before else None
    if merged is not None:
        party = contact.party.model_copy(update=dict(merged.crm_changes))
        contact = replace(contact, party=party, base=merged.party)
    plan = plan_of(contact, partner, terms)
    if before is None or merged is None:
        held = {one.field: one for one in plan.merged.held}
        return Agreed(contact, plan, seen_at, held=tuple(held.values()))
    held = {one.field: one for one in (*before.held, *plan.merged.held)}
    return Agreed(
        contact,
        plan,
        seen_at,
        {**before.changes, **merged.crm_changes},
        (*before.decided, *(one for one in merged.conflicts if one.winner is not None)),
        tuple(held.values()),
        has_sent=True,
    )


def waiting(partner: Partner, candidates: Iterable[Candidate]) -> PartnerItem:
    """A partner that waits until a person has chosen its contact."""
    party = party_fields(partner.party)
    return PartnerItem(
        metakocka_id=partner.mk_id,
        partner_hash=None,
        base=party,
        candidates=[one.contact_id for one in candidates],
        partner=party,
    )


def as_fields(changes: Mapping[str, Value]) -> Fields:
    """Changed fields as the database takes them."""
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


def _arrived(contact: ContactState, theirs: Party) -> dict[str, Value]:
    """The partner's values that were sent, and of whose arrival no answer told."""
    return {
        name: value
        for name, sent in contact.sent.items()
        if name in SINGLE
        for value in [getattr(theirs, name)]
        if any(same(name, value, one) for one in sent if one is None or isinstance(one, str | bool))
    }


def _entries(value: Value) -> tuple[Entry, ...]:
    return value if isinstance(value, tuple) else ()


def _without(
    agreed: tuple[E, ...], pending: tuple[Entry, ...], theirs: tuple[E, ...]
) -> tuple[E, ...]:
    """The agreed entries; those that are still to be sent stand as Metakocka has them."""
    changed = {one.mk_id for one in pending if one.mk_id}
    there = {one.mk_id: one for one in theirs}
    return tuple(
        there.get(one.mk_id, one) if one.mk_id in changed else one
        for one in agreed
        if one.mk_id is not None
    )
