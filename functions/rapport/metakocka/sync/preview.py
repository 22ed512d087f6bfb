"""A preview of a run: it reads both sides and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pydantic import JsonValue

from rapport.errors import MetakockaRefused
from rapport.metakocka.agreement.limits import Side, missing_fields
from rapport.metakocka.agreement.party import Party, as_json
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_contact import (
    ContactState,
    claimed_state,
    contact_for,
    needs_person,
    ref_of,
)
from rapport.metakocka.sync.plan import Plan, Terms, as_fields, plan_of
from rapport.metakocka.sync.pull import BATCH, named_by_documents
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import Connection, Direction, DirtyContact, Fields

_DIRTY = 100


@dataclass(frozen=True)
class FieldChange:
    """A field that a run would write on `side`; without a side, a person would decide."""

    side: Side | None
    field: str
    before: JsonValue
    after: JsonValue


@dataclass(frozen=True)
class Difference:
    """The outcome that a run would have for one contact or partner."""

    kind: Literal["new contact", "new partner", "change", "question", "blocked"]
    name: str | None
    metakocka_id: str | None
    changes: tuple[FieldChange, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Preview:
    """Compares both sides of an account."""

    store: MetakockaStore
    client: MetakockaClient
    connection: Connection
    terms: Terms

    def differences(self, direction: Direction) -> Iterator[Difference]:
        """All differences.

        Raises:
            UpstreamError: Metakocka can't be reached, or refuses.
            StoreError: The database can't be reached, or refuses.
        """
        shown: set[str | None] = set()
        if direction != "to_metakocka":
            records = iter(self._partners())
            while batch := list(islice(records, BATCH)):
                for difference in self._of_partners(batch):
                    shown.add(difference.metakocka_id)
                    yield difference
        if direction != "from_metakocka":
            for job in self._contacts():
                if job.metakocka_id is not None and job.metakocka_id in shown:
                    continue
                try:
                    yield from self._of_contact(job)
                except MetakockaRefused as error:
                    # only this contact is blocked: the others are shown
                    name = Party.model_validate(job.party).name
                    yield Difference("blocked", name, job.metakocka_id, reason=str(error))

    def _contacts(self) -> Iterator[DirtyContact]:
        after = 0
        while jobs := self.store.contacts_to_send(self.connection.account_id, after, _DIRTY):
            yield from jobs
            after = jobs[-1].changed_seq

    def _partners(self) -> Iterable[PartnerRecord]:
        if self.connection.listing == "all":
            return self.client.list_partners().in_order()
        ids = named_by_documents(self.client, self.connection.documents_seen_until)
        return (one for id_ in ids if (one := self.client.get_partner(id_)) is not None)

    def _of_partners(self, batch: Sequence[PartnerRecord]) -> Iterator[Difference]:
        partners = [from_record(one, region=self.terms.region) for one in batch]
        known = self.store.read_partners(
            self.connection.account_id, [ref_of(one) for one in partners]
        )
        for partner, one in zip(partners, known, strict=True):
            if one.unchanged or one.is_deleted:
                continue
            if needs_person(partner, one, self.terms.region):
                reason = "A person has to tell which partner a contact is."
                yield Difference("question", partner.party.name, partner.mk_id, reason=reason)
                continue
            contact = contact_for(partner, one, self.terms.region)
            if isinstance(contact, Sequence):
                reason = f"{len(contact)} contacts may be this partner: a person decides."
                yield Difference("question", partner.party.name, partner.mk_id, reason=reason)
                continue
            yield from _difference(contact, plan_of(contact, partner, self.terms))

    def _of_contact(self, job: DirtyContact) -> Iterator[Difference]:
        contact = claimed_state(job)
        name = contact.party.name
        if job.metakocka_id is None:
            if missing := missing_fields(contact.party):
                reason = f"It lacks {', '.join(missing)}."
                yield Difference("blocked", name, None, reason=reason)
            else:
                yield Difference("new partner", name, None)
            return
        record = self.client.get_partner(job.metakocka_id)
        if record is None:
            reason = "Metakocka has no such partner any more."
            yield Difference("question", name, job.metakocka_id, reason=reason)
            return
        partner = from_record(record, region=self.terms.region)
        yield from _difference(contact, plan_of(contact, partner, self.terms))


def _difference(contact: ContactState | None, plan: Plan) -> Iterator[Difference]:
    ours, theirs = contact.party if contact else Party(), plan.partner.party
    sides: tuple[tuple[Side, Party, Fields], ...] = (
        ("crm", ours, as_fields(plan.merged.crm_changes)),
        ("metakocka", theirs, as_fields(plan.merged.erp_changes)),
    )
    changes = [
        FieldChange(side, name, as_json(getattr(party, name)), value)
        for side, party, written in sides
        for name, value in written.items()
    ]
    changes += [
        FieldChange(None, one.field, as_json(one.crm), as_json(one.erp))
        for one in plan.merged.conflicts
        if one.winner is None
    ]
    if contact is None or changes:
        kind: Literal["new contact", "change"] = "change" if contact else "new contact"
        yield Difference(kind, ours.name or theirs.name, plan.partner.mk_id, tuple(changes))
