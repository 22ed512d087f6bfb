"""The search for a contact's partner, and its answers (`Match`).

A partner is searched by tax number, then by email, then by phone number, each in every spelling
that means the same, and then by the exact name. The first of these that finds anything decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from rapport.errors import MetakockaError
from rapport.metakocka.agreement.clues import (
    Clues,
    clues_of,
    email_spellings,
    phone_spellings,
    proved,
    tax_spellings,
    words,
)
from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.party import LISTS, Party, party_fields
from rapport.metakocka.api.client import Key, MetakockaClient
from rapport.metakocka.api.from_partner import Partner, from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_contact import ref_of
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import DirtyContact, Fields

By = Literal["tax_id_number", "email", "phone", "name"]
_IN_TURN: tuple[By, ...] = ("tax_id_number", "email", "phone", "name")
# a person chooses among this many partners
SHOWN = 20
# one call of the database takes this many partners
_IN_A_CALL = 500
# the fields that get_partner is known to return
_RETURNED = (
    "name",
    "email",
    "phone",
    "gsm",
    "tax_id_number",
    "street",
    "post_number",
    "place",
    "country",
)
_HOME = ("street", "post_number")
# the field of an intent's `sent` with the names of the fields that a customer wrote
UNPROVED = "unproved"


class Known(NamedTuple):
    """The contact is this partner; `base` is the state that both last agreed on."""

    metakocka_id: str
    base: Party | None
    status: Literal["known", "adopted", "created"] = "known"


class Found(NamedTuple):
    """Exactly one partner, found by the field `by`; the contact is not linked with it yet."""

    partner: Partner
    by: By

    @property
    def partners(self) -> tuple[Partner, ...]:
        return (self.partner,)


class Several(NamedTuple):
    """A person has to choose one of these partners, or none."""

    partners: tuple[Partner, ...]
    by: By | None = None
    # the reason, if it is not the field `by`
    why: str | None = None
    # the contact's partner so far
    present: str | None = None
    # a call that may have made one of them
    intent_id: UUID | None = None

    @property
    def error(self) -> MetakockaError:
        """Why a person has to choose, as the contact's outcome tells it."""
        if self.why is not None:
            return MetakockaError(self.why)
        if len(self.partners) == 1:
            return MetakockaError(
                f"A partner has the {self.by} that the customer has written, and nobody has"
                " proved it: a person decides."
            )
        return MetakockaError(
            f"{len(self.partners)} partners have the same {self.by}: a person decides."
        )

    @property
    def shown(self) -> list[Fields]:
        """The partners as a person sees them."""
        return [
            {
                "metakocka_id": one.mk_id,
                **{k: v for k, v in party_fields(one.party).items() if k not in LISTS},
            }
            for one in self.partners[:SHOWN]
        ]


class NoPartner(NamedTuple):
    """Metakocka has no such partner."""

    partners: tuple[Partner, ...] = ()


class NotYet(NamedTuple):
    """The partner can't be known yet; the next try is in `seconds`."""

    seconds: float
    why: str

    @property
    def error(self) -> MetakockaError:
        return MetakockaError(self.why)


# Metakocka has found the partner itself, when it was to make one
ANOTHERS = (
    "Metakocka says that this contact is a partner that another contact is: a person decides."
)
# another contact has taken the partner since, or the contact is gone
TAKEN = NotYet(1.0, "This partner is another contact by now.")


Match = Known | Found | Several | NoPartner | NotYet


class Searching(Protocol):
    """The calls that search partners; a MetakockaClient has them."""

    def find_partners(self, key: Key, value: str) -> list[PartnerRecord]: ...


def look_up(
    client: Searching,
    clues: Clues,
    ruled_out: Collection[str] = (),
    *,
    region: str = "SI",
    home: Party | None = None,
    free: Callable[[Sequence[Partner]], Sequence[Partner]] = lambda partners: partners,
) -> Found | Several | NoPartner:
    """Searches a partner by these clues.

    `ruled_out` are the ids of partners that it is not; `free` leaves those that are no other
    contact's. A partner that the name alone finds has to have the address of `home`, if any:
    many people have the same name. `region` (ISO 3166) is that of partners without a country. A
    search without an answer is no evidence: what the client raises is raised.
    """
    for by in _IN_TURN:
        records = {
            one.mk_id: one
            for key, value in _searches(clues, by)
            for one in client.find_partners(key, value)
            if one.mk_id not in ruled_out
        }
        partners = [from_record(records[id_], region=region) for id_ in sorted(records)]
        alike = [one for one in partners if _is_it(clues, one.party, by, home)]
        found = tuple(free(alike))
        if len(found) == 1:
            return Found(found[0], by)
        if found:
            return Several(found, by)
    return NoPartner()


def is_like(party: Party, other: Party) -> bool:
    """Whether a search for the party could find the other."""
    clues = clues_of(party)
    return any(_is_it(clues, other, by) for by in _IN_TURN)


@dataclass(frozen=True)
class PartnerFinder:
    """Finds the partners of one run's contacts.

    Partners of other contacts are never found, nor those that a person has ruled out.
    """

    store: RunStore
    client: MetakockaClient
    region: str

    def for_contact(self, job: DirtyContact, party: Party) -> Found | Several | NoPartner:
        """Searches the partner of a claimed contact.

        A value that the customer has written proves nothing: if it finds a partner, a person
        decides. An open question stays while the partners that it offers exist.
        """
        sure = proved(party, job.unproved, self.region, emails=job.emails, phones=job.phones)
        said = words(party, job.unproved, self.region) if job.unproved else None
        found = self._search(job.contact_id, sure, job.not_partners, party)
        if not found.partners and said is not None:
            found = self._search(job.contact_id, said, job.not_partners, party)
            if isinstance(found, Found):
                return Several(found.partners, found.by)
        return found if found.partners else self._offered(job)

    def for_call(
        self, contact_id: UUID, sent: Fields, ruled_out: Sequence[str] = ()
    ) -> Found | Several | NoPartner:
        """Searches the partner that a call may have made of a contact, by the fields of `sent`.

        A value that the customer has written finds it only if the partner has all the other sent
        values too.
        """
        party, unproved = Party.model_validate(sent), _unproved(sent)
        found = self._search(contact_id, proved(party, unproved, self.region), ruled_out)
        if found.partners or not unproved:
            return found
        found = self._search(contact_id, words(party, unproved, self.region), ruled_out)
        if isinstance(found, NoPartner) or found.by is None:
            return found
        given = [name for name in _RETURNED if getattr(party, name) is not None]
        whole = [
            one for one in found.partners if all(_is_same(name, party, one.party) for name in given)
        ]
        if len(whole) == 1:
            return Found(whole[0], found.by)
        return Several(found.partners, found.by)

    def _search(
        self,
        contact_id: UUID,
        clues: Clues,
        ruled_out: Sequence[str],
        home: Party | None = None,
    ) -> Found | Several | NoPartner:
        def free(partners: Sequence[Partner]) -> list[Partner]:
            return [
                partner
                for start in range(0, len(partners), _IN_A_CALL)
                for partner in self._free(contact_id, partners[start : start + _IN_A_CALL])
            ]

        return look_up(self.client, clues, ruled_out, region=self.region, home=home, free=free)

    def _offered(self, job: DirtyContact) -> Several | NoPartner:
        others = [
            id_ for id_ in job.offered_partners if self.store.is_anothers(id_, job.contact_id)
        ]
        records = [one for one in map(self.client.get_partner, others) if one is not None]
        if not records:
            return NoPartner()
        offered = tuple(from_record(one, region=self.region) for one in records)
        return Several(offered, why=ANOTHERS)

    def _free(self, contact_id: UUID, partners: Sequence[Partner]) -> list[Partner]:
        known = self.store.read_partners([ref_of(one, known_hash=False) for one in partners])
        return [
            partner
            for partner, one in zip(partners, known, strict=True)
            if (one.contact_id in (None, contact_id) or one.is_deleted) and not one.is_forgotten
        ]


def _searches(clues: Clues, by: By) -> list[tuple[Key, str]]:
    match by:
        case "tax_id_number":
            # with a customer's words: the tax number is the staff's, and was searched before
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


def _is_it(clues: Clues, other: Party, by: By, home: Party | None = None) -> bool:
    """Whether the other party has the searched value, and no other tax number or email."""
    is_tax_known = clues.tax_id_number is not None and other.tax_id_number is not None
    is_same_tax = is_tax_known and same("tax_id_number", clues.tax_id_number, other.tax_id_number)
    is_same_email = any(same("email", one, other.email) for one in clues.emails)
    if by == "tax_id_number":
        # a company has many addresses, but one tax number
        return is_same_tax
    if by == "email":
        is_match = is_same_email
    elif by == "phone":
        is_match = any(
            same("phone", number, theirs)
            for number in clues.phones
            for theirs in (other.phone, other.gsm)
        )
    else:
        is_match = (
            clues.name is not None
            and same("name", clues.name, other.name)
            and (home is None or all(_is_same(name, home, other) for name in _HOME))
        )
    is_anothers = (is_tax_known and not is_same_tax) or (
        bool(clues.emails) and not clues.are_words and other.email is not None and not is_same_email
    )
    return is_match and not is_anothers


def _is_same(name: str, one: Party, other: Party) -> bool:
    return same(name, getattr(one, name), getattr(other, name))


def _unproved(sent: Fields) -> list[str]:
    """The sent fields that the customer wrote."""
    names = sent.get(UNPROVED)
    return [str(one) for one in names] if isinstance(names, list) else []
