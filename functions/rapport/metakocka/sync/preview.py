"""What a run would do, and nothing is done: reads on both sides alone."""

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
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.plan import (
    Contact,
    Plan,
    Terms,
    as_fields,
    is_asked,
    match,
    plan_of,
    ref_of,
)
from rapport.metakocka.sync.pull import BATCH, named_by_documents
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import Connection, Direction, DirtyContact, Fields

_DIRTY = 100


@dataclass(frozen=True)
class Change:
    """A field that would be written on one side; without a side a person would be asked."""

    side: Side | None
    field: str
    before: JsonValue
    after: JsonValue


@dataclass(frozen=True)
class Difference:
    """What would become of one contact or partner."""

    kind: Literal["new contact", "new partner", "change", "question", "blocked"]
    name: str | None
    metakocka_id: str | None
    changes: tuple[Change, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Preview:
    """Compares both sides of an account."""

    store: MetakockaStore
    client: MetakockaClient
    connection: Connection
    terms: Terms

    def differences(self, direction: Direction) -> Iterator[Difference]:
        """Those that there are; of contacts that wait to be sent the first 100.

        Raises:
            UpstreamError: Metakocka can't be asked.
            StoreError: The database can't.
        """
        shown: set[str | None] = set()
        if direction != "to_metakocka":
            records = iter(self._partners())
            while batch := list(islice(records, BATCH)):
                for difference in self._of_partners(batch):
                    shown.add(difference.metakocka_id)
                    yield difference
        if direction != "from_metakocka":
            claim = self.store.claim_dirty_contacts(
                self.connection.account_id, "preview", _DIRTY, dry_run=True
            )
            for job in claim.claimed:
                if job.metakocka_id is not None and job.metakocka_id in shown:
                    continue
                try:
                    yield from self._of_contact(job)
                except MetakockaRefused as error:
                    # about this one: the others are to be seen all the same
                    name = Party.model_validate(job.party).name
                    yield Difference("blocked", name, job.metakocka_id, reason=str(error))

    def _partners(self) -> Iterable[PartnerRecord]:
        if self.connection.listing == "all":
            return self.client.list_partners().in_order()
        ids = named_by_documents(self.client, self.connection.documents_seen_until)
        return (one for id_ in ids if (one := self.client.get_partner(id_)) is not None)

    def _of_partners(self, batch: Sequence[PartnerRecord]) -> Iterator[Difference]:
        known = self.store.read_partners(
            self.connection.account_id, [ref_of(one, self.terms) for one in batch]
        )
        for record, one in zip(batch, known, strict=True):
            if one.unchanged or one.is_deleted:
                continue
            if is_asked(record, one, self.terms):
                reason = "Somebody is to tell which partner a contact is."
                yield Difference("question", record.customer, record.mk_id, reason=reason)
                continue
            contact = match(record, one, self.terms)
            if isinstance(contact, Sequence):
                reason = f"{len(contact)} contacts may be this partner."
                yield Difference("question", record.customer, record.mk_id, reason=reason)
                continue
            yield from _difference(contact, plan_of(contact, record, self.terms))

    def _of_contact(self, job: DirtyContact) -> Iterator[Difference]:
        party = Party.model_validate(job.party)
        if job.metakocka_id is None:
            if missing := missing_fields(party):
                reason = f"It lacks {', '.join(missing)}."
                yield Difference("blocked", party.name, None, reason=reason)
            else:
                yield Difference("new partner", party.name, None)
            return
        record = self.client.get_partner(job.metakocka_id)
        if record is None:
            reason = "Metakocka has no such partner any more."
            yield Difference("question", party.name, job.metakocka_id, reason=reason)
            return
        base = None if job.base is None else Party.model_validate(job.base)
        contact = Contact(job.contact_id, job.version, job.updated_at, party, base)
        yield from _difference(contact, plan_of(contact, record, self.terms))


def _difference(contact: Contact | None, plan: Plan) -> Iterator[Difference]:
    ours, theirs = contact.party if contact else Party(), plan.partner.party
    sides: tuple[tuple[Side, Party, Fields], ...] = (
        ("crm", ours, as_fields(plan.merged.crm_changes)),
        ("metakocka", theirs, as_fields(plan.merged.erp_changes)),
    )
    changes = [
        Change(side, name, as_json(getattr(party, name)), value)
        for side, party, written in sides
        for name, value in written.items()
    ]
    changes += [
        Change(None, one.field, as_json(one.crm), as_json(one.erp))
        for one in plan.merged.conflicts
        if one.winner is None
    ]
    if contact is None or changes:
        kind: Literal["new contact", "change"] = "change" if contact else "new contact"
        yield Difference(kind, ours.name or theirs.name, plan.partner.mk_id, tuple(changes))
