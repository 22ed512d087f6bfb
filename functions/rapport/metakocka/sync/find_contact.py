"""A partner's contact: the values by which it is searched, and the choice among the found. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue

from rapport.metakocka.agreement.clues import clues_of
from rapport.metakocka.agreement.compare import same_tax
from rapport.metakocka.agreement.limits import misfit
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.from_partner import Partner
from rapport.store.metakocka_rows import Candidate, DirtyContact, KnownPartner, PartnerRef


@dataclass(frozen=True)
class ContactState:
    """A contact as it was read, with what both sides last agreed on.

    Metakocka gives no times. A partner that had the agreed values at `seen_at`, and differs now,
    was edited later: by `newest` that edit wins over an earlier edit of the contact. `edits` has
    the time of each field that was edited; other fields have `updated_at`. `sent` has values that
    were sent and may have arrived: a partner that has one of them was not edited.
    """

    contact_id: UUID
    version: int
    updated_at: datetime
    party: Party
    base: Party | None = None
    seen_at: datetime | None = None
    edits: Mapping[str, datetime] = field(default_factory=dict)
    sent: Mapping[str, Sequence[JsonValue]] = field(default_factory=dict)


def ref_of(partner: Partner, *, known_hash: bool = True) -> PartnerRef:
    """The values by which the database finds a partner's contact.

    Without the hash the database tells all facts, of an unchanged partner too.
    """
    party = partner.party
    email = party.email if misfit("crm", "email", party.email) is None else None
    return PartnerRef(
        metakocka_id=partner.mk_id,
        partner_hash=partner.record.hash if known_hash else None,
        tax_id_number=party.tax_id_number,
        emails=[email] if email else [],
        phones=[
            number
            for number in (party.phone, party.gsm)
            if number and misfit("crm", "phone", number) is None
        ],
    )


def claimed_state(job: DirtyContact) -> ContactState:
    """A contact that was claimed to be sent."""
    return ContactState(
        job.contact_id,
        job.version,
        job.updated_at,
        Party.model_validate(job.party),
        None if job.base is None else Party.model_validate(job.base),
        job.seen_at,
        job.edits,
        job.sent,
    )


def known_state(known: KnownPartner) -> ContactState | None:
    """A partner's contact, if it is one."""
    if known.contact_id is None or known.version is None or known.updated_at is None:
        return None
    return ContactState(
        known.contact_id,
        known.version,
        known.updated_at,
        Party.model_validate(known.party or {}),
        None if known.base is None else Party.model_validate(known.base),
        known.seen_at,
        known.edits,
        known.sent,
    )


def contact_for(
    partner: Partner, known: KnownPartner, region: str
) -> ContactState | Sequence[Candidate] | None:
    """A partner's contact, or the candidates among which a person chooses; None for a new one."""
    contact = known_state(known)
    candidates = [one for one in known.candidates if may_be(one, partner, region)]
    if contact is not None or not candidates:
        return contact
    [first, *others] = candidates
    if others or is_other(first, partner):
        return candidates
    party = Party.model_validate(first.party)
    return ContactState(first.contact_id, first.version, first.updated_at, party)


def needs_person(partner: Partner, known: KnownPartner, region: str) -> bool:
    """Whether an open question offers this partner, or is about a candidate."""
    return known.needs_person or any(
        one.needs_person and may_be(one, partner, region) for one in known.candidates
    )


def is_known(known: KnownPartner) -> bool:
    """Whether the partner is a contact already."""
    return known.unchanged or known.contact_id is not None


def is_other(candidate: Candidate, partner: Partner) -> bool:
    """Whether a contact with the same email or number has another tax number."""
    ours = Party.model_validate(candidate.party).tax_id_number
    theirs = partner.party.tax_id_number
    return (
        ours is not None
        and theirs is not None
        and "tax" not in candidate.matched_by
        and not same_tax(ours, theirs)
    )


def may_be(candidate: Candidate, partner: Partner, region: str) -> bool:
    """Whether a candidate shares something with the partner.

    A candidate that was found by the end of its mobile number alone must have the same number,
    read with its own country.
    """
    if candidate.matched_by != ["gsm"]:
        return True
    ours = clues_of(Party.model_validate(candidate.party), region)
    theirs = ref_of(partner, known_hash=False)
    return any(number in ours.phones for number in theirs.phones)
