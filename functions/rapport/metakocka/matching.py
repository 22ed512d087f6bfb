"""Which contact a partner is, as far as it can be told without a person."""

from __future__ import annotations

from collections.abc import Sequence

from rapport.metakocka.plan import Contact, Terms, contact_of, is_other, may_be
from rapport.metakocka.wire import PartnerRecord
from rapport.metakocka_rows import Candidate, KnownPartner


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
