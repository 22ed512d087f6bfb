"""Is a partner there already? It settles a creation whose answer was lost, and precedes one.

It is looked for by the tax number, then by emails, then by phone numbers, each in every spelling
that is the same, and then by the exact name. The first of these under which there is anything
decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from rapport.errors import MetakockaError, RapportError
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
from rapport.metakocka.agreement.party import LISTS, Party
from rapport.metakocka.api.client import Key, MetakockaClient
from rapport.metakocka.api.from_partner import Partner, from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.plan import Terms, party_fields, ref_of
from rapport.metakocka.sync.progress import Progress
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import DirtyContact, Fields, Intent, PartnerItem, PartnerRef

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


# as many as a person may be shown to choose from
SHOWN = 20
_IN_A_CALL = 500
# fields that get_partner is known to tell
_TOLD = (
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
UNPROVED = "unproved"


@dataclass(frozen=True)
class Known:
    """The partner that a contact is, and what was agreed with it so far."""

    metakocka_id: str
    base: Party | None
    status: Literal["known", "adopted", "created"] = "known"


@dataclass(frozen=True)
class Later:
    """It can't be told yet: after so many seconds it may."""

    seconds: float
    error: RapportError


@dataclass(frozen=True)
class Blocked:
    """It has no partner, and gets none until something changes."""

    error: RapportError
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A person decides which of `records` it is; `present` is the partner that it was so far."""

    error: RapportError
    records: Sequence[PartnerRecord]
    present: str | None = None
    # a call of which nobody knows whether it made one of them
    intent: Intent | None = None


@dataclass(frozen=True)
class Partners:
    """The partners of an account's company, as one run meets them."""

    store: MetakockaStore
    client: MetakockaClient
    progress: Progress
    terms: Terms

    def look_up(self, job: DirtyContact, party: Party) -> Found | Several | NotThere:
        """Looks for a claimed contact's partner.

        Partners of other contacts are none, nor those that a person has ruled out. Namesakes
        are many: one is taken only where the address is the same. What the contact's customer
        has written finds nobody: where it is a partner's, it is for a person to tell.
        """
        region = self.terms.region
        sure = proved(party, job.unproved, region, emails=job.emails, phones=job.phones)
        there = self._at_home(party, self.find(job.contact_id, sure, job.not_partners))
        if there.records or not job.unproved:
            return there
        said = self._at_home(
            party,
            self.find(job.contact_id, words(party, job.unproved, region), job.not_partners),
        )
        return Several(said.records, said.by) if said.by and said.records else NotThere()

    def look_up_sent(
        self, contact_id: UUID, sent: Fields, ruled_out: Sequence[str] = ()
    ) -> Found | Several | NotThere:
        """Looks for what a call may have made of a contact, by what was sent.

        What the contact's customer has written is no proof of it either, unless all the rest
        that was sent is there as well.
        """
        party, unproved = Party.model_validate(sent), _unproved(sent)
        region = self.terms.region
        there = self.find(contact_id, proved(party, unproved, region), ruled_out)
        if there.records or not unproved:
            return there
        said = self.find(contact_id, words(party, unproved, region), ruled_out)
        whole = [one for one in said.records if self._is_all_there(party, one)]
        if len(whole) == 1 and said.by:
            return Found(from_record(whole[0], region=region), whole[0], said.by)
        return Several(said.records, said.by) if said.by and said.records else NotThere()

    def find(
        self, contact_id: UUID, clues: Clues, ruled_out: Sequence[str] = ()
    ) -> Found | Several | NotThere:
        """Looks for a contact's partner, among those that are no other contact's."""
        self.progress.keep()
        free = _FreePartners(
            self.store, self.client, self.progress.account_id, contact_id, self.terms
        )
        return look_up(free, clues, ruled_out, region=self.terms.region)

    def is_anothers(self, metakocka_id: str, contact_id: UUID) -> bool:
        """Whether a partner is another contact that is there."""
        [known] = self.store.read_partners(
            self.progress.account_id, [PartnerRef(metakocka_id=metakocka_id)]
        )
        return known.contact_id not in (None, contact_id) and not known.is_deleted

    def adopt(
        self,
        job: DirtyContact,
        metakocka_id: str,
        base: Party | None,
        status: Literal["adopted", "created"],
    ) -> Known | Later:
        """Notes at once that the contact is this partner; its mark stays."""
        settled = self.store.settle_partner(
            self.progress.account_id,
            self.progress.run.run_id,
            job.contact_id,
            None,
            PartnerItem(
                metakocka_id=metakocka_id,
                partner_hash=None,
                base=party_fields(base or Party()),
            ),
        )
        if settled.status in ("adopted", "updated", "unchanged"):
            return Known(metakocka_id, base, status)
        # another contact has taken it since, or this one is gone
        return Later(1.0, MetakockaError("This partner is another contact by now."))

    def ask(self, job: DirtyContact, asked: Asked, changed_seq: int | None) -> None:
        """Asks people; without `changed_seq` the contact goes on with the partner that it has."""
        is_asked = self.store.ask_partner(
            self.progress.account_id,
            job.contact_id,
            changed_seq,
            asked.present,
            [self._shown(one) for one in asked.records[:SHOWN]],
        )
        if is_asked and asked.intent is not None:
            # in this order: whoever answers settles it
            self.settle_intent(asked.intent, "abandoned")

    def settle_intent(
        self,
        intent: Intent,
        state: Literal["sent", "unknown", "settled", "abandoned"],
        metakocka_id: str | None = None,
    ) -> bool:
        """As the store's."""
        return self.store.settle_intent(
            self.progress.account_id, intent.intent_id, state, metakocka_id
        )

    def _at_home(
        self, party: Party, there: Found | Several | NotThere
    ) -> Found | Several | NotThere:
        if there.by != "name":
            return there
        alike = tuple(one for one in there.records if self._is_at_home(party, one))
        if len(alike) == 1:
            return Found(from_record(alike[0], region=self.terms.region), alike[0], "name")
        return Several(alike, "name") if alike else NotThere()

    def _is_all_there(self, sent: Party, record: PartnerRecord) -> bool:
        """Whether a partner has all that was sent and that Metakocka tells of partners."""
        theirs = from_record(record, region=self.terms.region).party
        return all(
            same(name, getattr(sent, name), getattr(theirs, name))
            for name in _TOLD
            if getattr(sent, name) is not None
        )

    def _is_at_home(self, party: Party, record: PartnerRecord) -> bool:
        theirs = from_record(record, region=self.terms.region).party
        return all(
            same(name, getattr(party, name), getattr(theirs, name))
            for name in ("street", "post_number")
        )

    def _shown(self, record: PartnerRecord) -> Fields:
        fields = party_fields(from_record(record, region=self.terms.region).party)
        known = {name: value for name, value in fields.items() if name not in LISTS}
        return {"metakocka_id": record.mk_id, **known}


@dataclass(frozen=True)
class _FreePartners:
    """Finds partners that are no other contact's."""

    store: MetakockaStore
    client: MetakockaClient
    account_id: UUID
    contact_id: UUID
    terms: Terms

    def find_partners(self, key: Key, value: str) -> list[PartnerRecord]:
        found = self.client.find_partners(key, value)
        free: list[PartnerRecord] = []
        for start in range(0, len(found), _IN_A_CALL):
            part = found[start : start + _IN_A_CALL]
            known = self.store.read_partners(
                self.account_id, [ref_of(one, self.terms, known_hash=False) for one in part]
            )
            free += [
                record
                for record, one in zip(part, known, strict=True)
                if one.contact_id in (None, self.contact_id) or one.is_deleted
            ]
        return free


def _unproved(sent: Fields) -> list[str]:
    """The fields of what was sent that were its customer's words."""
    names = sent.get(UNPROVED)
    return [str(one) for one in names] if isinstance(names, list) else []
