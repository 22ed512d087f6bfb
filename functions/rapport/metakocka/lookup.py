"""Is a partner there already? It settles a creation whose answer was lost, and precedes one.

Looked for is what the partner was made with: its tax number, then its email, then its phone
numbers, then its exact name. The first of these under which there is anything decides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from rapport.metakocka.client import Key
from rapport.metakocka.compare import code, same
from rapport.metakocka.mapping import Partner, from_record
from rapport.metakocka.party import Party
from rapport.metakocka.wire import PartnerRecord


class Finder(Protocol):
    """What finds partners: a MetakockaClient."""

    def find_partners(self, key: Key, value: str) -> list[PartnerRecord]: ...


@dataclass(frozen=True)
class Found:
    """Exactly one: it is to be adopted; `by` is the field that found it."""

    partner: Partner
    record: PartnerRecord
    by: str

    @property
    def records(self) -> tuple[PartnerRecord, ...]:
        return (self.record,)


@dataclass(frozen=True)
class Several:
    """A person has to choose."""

    records: tuple[PartnerRecord, ...]
    by: str


@dataclass(frozen=True)
class NotThere:
    """Nothing like it; it was not made."""

    by: str | None = None
    records: tuple[PartnerRecord, ...] = ()


_KEYS: tuple[tuple[str, Key], ...] = (
    ("tax_id_number", "partner_tax_number"),
    ("email", "partner_email"),
    ("phone", "partner_phone_number"),
    ("gsm", "partner_phone_number"),
    ("name", "partner_name"),
)


def look_up(
    client: Finder, party: Party, taken: Collection[str] = (), *, region: str = "SI"
) -> Found | Several | NotThere:
    """Looks for the party, among partners that are no other contact's (`taken`, by mk_id).

    An answer that could not be had is no evidence: what the client raises is raised.
    """
    for field, key in _KEYS:
        value = getattr(party, field)
        if value is None:
            continue
        records = {
            one.mk_id: one for one in client.find_partners(key, value) if one.mk_id not in taken
        }
        partners = {id_: from_record(one, region=region) for id_, one in records.items()}
        matches = [id_ for id_, partner in partners.items() if _is_it(party, partner.party, field)]
        if len(matches) == 1:
            return Found(partners[matches[0]], records[matches[0]], field)
        if matches:
            return Several(tuple(records[id_] for id_ in sorted(matches)), field)
    return NotThere()


def is_like(party: Party, candidate: Party) -> bool:
    """Whether a look-up for the party might find the candidate."""
    return any(
        getattr(party, field) is not None and _is_it(party, candidate, field) for field, _ in _KEYS
    )


def _is_it(party: Party, candidate: Party, field: str) -> bool:
    """The field is the same, and neither the tax number nor the email is another's."""
    if field in ("phone", "gsm"):
        number = getattr(party, field)
        is_match = any(same("phone", number, other) for other in (candidate.phone, candidate.gsm))
    elif field == "tax_id_number":
        is_match = _same_tax(party.tax_id_number, candidate.tax_id_number)
    else:
        is_match = same(field, getattr(party, field), getattr(candidate, field))
    return is_match and not (
        _differ(party.email, candidate.email, field)
        or (
            party.tax_id_number is not None
            and candidate.tax_id_number is not None
            and not _same_tax(party.tax_id_number, candidate.tax_id_number)
        )
    )


def _differ(one: str | None, other: str | None, field: str) -> bool:
    # a company has many addresses, but one tax number
    if field == "tax_id_number" or one is None or other is None:
        return False
    return not same("email", one, other)


def _same_tax(one: str | None, other: str | None) -> bool:
    """Tax numbers are one with and without the country before them."""
    if one is None or other is None:
        return False
    first, second = code(one), code(other)
    return first == second or (
        min(len(first), len(second)) >= 8 and (first[2:] == second or second[2:] == first)
    )
