"""Is a partner there already? It settles a creation whose answer was lost, and precedes one.

It is looked for by the tax number, then by emails, then by phone numbers, each in every spelling
that is the same, and then by the exact name. The first of these under which there is anything
decides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from rapport.metakocka.client import Key
from rapport.metakocka.clues import (
    Clues,
    clues_of,
    email_spellings,
    phone_spellings,
    tax_spellings,
)
from rapport.metakocka.compare import same
from rapport.metakocka.mapping import Partner, from_record
from rapport.metakocka.party import Party
from rapport.metakocka.wire import PartnerRecord

By = Literal["tax_id_number", "email", "phone", "name"]
_IN_TURN: tuple[By, ...] = ("tax_id_number", "email", "phone", "name")


class Finder(Protocol):
    """What finds partners: a MetakockaClient."""

    def find_partners(self, key: Key, value: str) -> list[PartnerRecord]: ...


@dataclass(frozen=True)
class Found:
    """Exactly one: it is to be adopted; `by` is the field that found it."""

    partner: Partner
    record: PartnerRecord
    by: By

    @property
    def records(self) -> tuple[PartnerRecord, ...]:
        return (self.record,)


@dataclass(frozen=True)
class Several:
    """A person has to choose."""

    records: tuple[PartnerRecord, ...]
    by: By


@dataclass(frozen=True)
class NotThere:
    """Nothing like it; it was not made."""

    by: By | None = None
    records: tuple[PartnerRecord, ...] = ()


def look_up(
    client: Finder, clues: Clues, taken: Collection[str] = (), *, region: str = "SI"
) -> Found | Several | NotThere:
    """Looks for a partner, among those that are no other contact's (`taken`, by mk_id).

    `region` is that of partners without a country. An answer that could not be had is no
    evidence: what the client raises is raised.
    """
    for by in _IN_TURN:
        records = {
            one.mk_id: one
            for key, value in _searches(clues, by)
            for one in client.find_partners(key, value)
            if one.mk_id not in taken
        }
        partners = {id_: from_record(one, region=region) for id_, one in records.items()}
        matches = [id_ for id_, partner in partners.items() if _is_it(clues, partner.party, by)]
        if len(matches) == 1:
            return Found(partners[matches[0]], records[matches[0]], by)
        if matches:
            return Several(tuple(records[id_] for id_ in sorted(matches)), by)
    return NotThere()


def is_like(party: Party, candidate: Party) -> bool:
    """Whether a look-up for the party might find the candidate."""
    clues = clues_of(party)
    return any(_is_it(clues, candidate, by) for by in _IN_TURN)


def _searches(clues: Clues, by: By) -> list[tuple[Key, str]]:
    match by:
        case "tax_id_number":
            # among customers' words it is staff's, and has been looked for
            number = None if clues.are_words else clues.tax_id_number
            spellings = tax_spellings(number, clues.region) if number else ()
            return [("partner_tax_number", one) for one in spellings]
        case "email":
            return [
                ("partner_email", one) for email in clues.emails for one in email_spellings(email)
            ]
        case "phone":
            return [
                ("partner_phone_number", one)
                for number in clues.phones
                for one in phone_spellings(number)
            ]
        case "name":
            return [("partner_name", clues.name)] if clues.name else []


def _is_it(clues: Clues, candidate: Party, by: By) -> bool:
    """It has what is looked for, and neither the tax number nor the email is another's."""
    is_tax_known = clues.tax_id_number is not None and candidate.tax_id_number is not None
    is_same_tax = is_tax_known and same(
        "tax_id_number", clues.tax_id_number, candidate.tax_id_number
    )
    is_same_email = any(same("email", one, candidate.email) for one in clues.emails)
    if by == "tax_id_number":
        # a company has many addresses, but one tax number
        return is_same_tax
    if by == "email":
        is_match = is_same_email
    elif by == "phone":
        is_match = any(
            same("phone", number, other)
            for number in clues.phones
            for other in (candidate.phone, candidate.gsm)
        )
    else:
        is_match = clues.name is not None and same("name", clues.name, candidate.name)
    is_anothers = (is_tax_known and not is_same_tax) or (
        bool(clues.emails)
        and not clues.are_words
        and candidate.email is not None
        and not is_same_email
    )
    return is_match and not is_anothers
