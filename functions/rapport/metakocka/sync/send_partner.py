"""Sends a contact to Metakocka: makes its partner once, or changes the partner that it has."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.errors import MetakockaError, MetakockaRefused
from rapport.metakocka.agreement.party import Party, party_fields
from rapport.metakocka.api.bodies import AddingUpdate, PartnerUpdate, new_partner
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_partner import (
    TAKEN,
    UNPROVED,
    Known,
    NotYet,
    PartnerFinder,
    Several,
)
from rapport.metakocka.sync.intents import OPERATION, intended
from rapport.metakocka.sync.progress import Progress
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import DirtyContact, Fields

_TAKEN = "Metakocka says that this contact is a partner that another contact is: a person decides."


@dataclass(frozen=True)
class PartnerSender:
    """Makes and changes partners in one run."""

    store: RunStore
    client: MetakockaClient
    finder: PartnerFinder
    progress: Progress

    def make_partner(self, job: DirtyContact, party: Party) -> Known | NotYet | Several:
        """Makes the partner of a claimed contact that has none.

        Raises:
            Unprocessable: A field is missing, or longer than Metakocka takes.
            MetakockaOutcomeUnknown: The call had no answer: it may have made a partner.
            UpstreamError: Metakocka refused the call, or can't be reached.
            StoreError: As the store.
        """
        region = self.finder.region
        # a question that no person has answered stays, while the partners that it offers exist
        others = [
            id_ for id_ in job.offered_partners if self.store.is_anothers(id_, job.contact_id)
        ]
        records = [one for one in map(self.client.get_partner, others) if one is not None]
        if records:
            return Several(tuple(from_record(one, region=region) for one in records), why=_TAKEN)
        new = new_partner(party)
        agreed = party_fields(new.agreed)
        sent: Fields = {**agreed, UNPROVED: [*job.unproved]}
        with intended(self.store, job, "add_partner", new.body, sent) as intent:
            mk_id = self.client.add_partner(new).mk_id
        if self.store.adopt_partner(job.contact_id, mk_id, agreed, intent.intent_id):
            return Known(mk_id, new.agreed, "created")
        if not self.store.is_anothers(mk_id, job.contact_id):
            # the contact was deleted or merged meanwhile: its successor finds the partner
            self.store.settle_intent(intent.intent_id, "unknown")
            return TAKEN
        # a person is asked once: the same call would have the same answer
        record = self.client.get_partner(mk_id) or PartnerRecord(mk_id=mk_id)
        several = Several((from_record(record, region=region),), why=_TAKEN)
        self.store.ask_partner(job.contact_id, None, None, several.shown, intent.intent_id)
        self.progress.log(
            OPERATION, MetakockaError(_TAKEN), contact_id=job.contact_id, metakocka_id=mk_id
        )
        return several

    def change_partner(self, job: DirtyContact, update: PartnerUpdate) -> PartnerRecord:
        """Changes the partner of a claimed contact; answers the partner as it is then.

        Raises:
            MetakockaOutcomeUnknown: The call had no answer: it may have added an entry.
            UpstreamError: Metakocka refused the call, or can't be reached.
            StoreError: As the store.
        """
        if isinstance(update, AddingUpdate):
            with intended(self.store, job, "update_partner", update.body, {}, update.mk_id):
                shown = self.client.update_partner(update)
        else:
            shown = self.client.update_partner(update)
        shown = shown or self.client.get_partner(update.mk_id)
        if shown is None:
            raise MetakockaRefused("Metakocka does not show it.", operation="update_partner")
        return shown
