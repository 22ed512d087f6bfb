"""Makes the partner of a contact that has none, once, whatever happens meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rapport.errors import MetakockaError
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.bodies import new_partner
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_partner import (
    UNPROVED,
    Known,
    NotYet,
    PartnerFinder,
    Several,
    ask,
)
from rapport.metakocka.sync.intents import OPERATION, intended
from rapport.metakocka.sync.plan import party_fields
from rapport.metakocka.sync.progress import Progress
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import DirtyContact, Fields

_TAKEN = "Metakocka says that this contact is a partner that another contact is: a person decides."


@dataclass(frozen=True)
class Creation:
    """Makes partners in one run."""

    store: RunStore
    client: MetakockaClient
    finder: PartnerFinder
    progress: Progress

    def create(self, job: DirtyContact, party: Party) -> Known | NotYet | Several:
        """Makes the partner of a claimed contact.

        Raises:
            Unprocessable: A field is missing, or longer than Metakocka takes.
            MetakockaOutcomeUnknown: The call had no answer: nobody knows whether it made one.
            UpstreamError: Metakocka refused the call, or can't be reached.
            StoreError: As the store.
        """
        if open_question := self._open_question(job):
            return open_question
        new = new_partner(party)
        sent: Fields = {**party_fields(new.agreed), UNPROVED: [*job.unproved]}
        with intended(self.store, job, "add_partner", new.body, sent) as intent:
            created = self.client.add_partner(new)
        known = self.finder.adopt(job.contact_id, created.mk_id, new.agreed, "created")
        # in this order: a settled intent is searched no more
        if isinstance(known, Known):
            self.store.settle_intent(intent.intent_id, "settled", created.mk_id)
        elif self.finder.is_anothers(created.mk_id, job.contact_id):
            # a person is asked once: the same call would have the same answer
            record = self.client.get_partner(created.mk_id) or PartnerRecord(mk_id=created.mk_id)
            taken = (from_record(record, region=self.finder.region),)
            several = Several(taken, why=_TAKEN, intent=intent)
            ask(self.store, job.contact_id, several)
            self.progress.log(
                OPERATION,
                MetakockaError(_TAKEN),
                contact_id=job.contact_id,
                metakocka_id=created.mk_id,
            )
            return replace(several, intent=None)
        else:
            # the contact was deleted or merged meanwhile: its successor finds the partner
            self.store.settle_intent(intent.intent_id, "unknown")
        return known

    def _open_question(self, job: DirtyContact) -> Several | None:
        """The question that no person has answered, while the partners that it offers exist."""
        taken = [
            one for one in job.offered_partners if self.finder.is_anothers(one, job.contact_id)
        ]
        records = [one for one in map(self.client.get_partner, taken) if one is not None]
        offered = tuple(from_record(one, region=self.finder.region) for one in records)
        return Several(offered, why=_TAKEN) if offered else None
