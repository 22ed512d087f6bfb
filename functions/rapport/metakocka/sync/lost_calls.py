"""The outcome of calls that had no answer.

A worker that finds an intent with an unknown outcome searches the partner first. The call is made
again only once it is sure that there is no such partner.
"""

from __future__ import annotations

from dataclasses import dataclass

from rapport.errors import (
    MetakockaClosed,
    MetakockaError,
    MetakockaUnavailable,
)
from rapport.metakocka.agreement.party import Party, party_fields
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.sync.find_partner import (
    TAKEN,
    Found,
    Known,
    NoPartner,
    NotYet,
    PartnerFinder,
    Several,
)
from rapport.metakocka.sync.progress import TO_METAKOCKA, Progress
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import DirtyContact, Intent


@dataclass(frozen=True)
class LostCalls:
    """Settles the intents whose outcome is unknown.

    `late` is how many seconds a call without an answer may still take effect.
    """

    store: RunStore
    client: MetakockaClient
    finder: PartnerFinder
    progress: Progress
    late: float

    def settle_intents(self, job: DirtyContact) -> Known | NotYet | Several | None:
        """Settles the intents of a claimed contact; answers the partner that a call has made."""
        known: Known | None = None
        for intent in job.intents:
            match = self._settle(job, intent)
            if isinstance(match, Known):
                known = match
                job = job.model_copy(update={"metakocka_id": match.metakocka_id})
            elif match is not None:
                return match
        return known

    def settle_orphans(self) -> None:
        """Settles the intents of deleted contacts, and notes the partners made for them."""
        for intent in self.store.unsettled_intents():
            if not intent.is_orphaned:
                continue
            try:
                self._settle_orphan(intent)
            except MetakockaClosed:
                # the error concerns all calls: the run ends
                raise
            except MetakockaError as error:
                # the intent stays open, and so no partner that may be its becomes a contact
                self.progress.log(TO_METAKOCKA, error, contact_id=intent.contact_id)
                if isinstance(error, MetakockaUnavailable):
                    return

    def _settle(self, job: DirtyContact, intent: Intent) -> Known | NotYet | Several | None:
        found: Found | Several | NoPartner = NoPartner()
        if _may_have_made_one(intent):
            found = self.finder.for_call(job.contact_id, intent.sent, job.not_partners)
        is_too_soon = intent.state != "intended" and intent.age < self.late
        is_this = any(one.mk_id == job.metakocka_id for one in found.partners)
        if found.partners and job.metakocka_id is not None and not is_this:
            # two contacts with a partner each were merged
            record = self.client.get_partner(job.metakocka_id)
            present = () if record is None else (from_record(record, region=self.finder.region),)
            offered = Several((*present, *found.partners)).shown
            self.store.ask_partner(
                job.contact_id, None, job.metakocka_id, offered, intent.intent_id
            )
            return None
        if is_this:
            self.store.settle_intent(intent.intent_id, "settled", job.metakocka_id)
            return None
        if isinstance(found, Found):
            mk_id, sent = found.partner.mk_id, Party.model_validate(intent.sent)
            fields = party_fields(sent)
            if self.store.adopt_partner(job.contact_id, mk_id, fields, intent.intent_id):
                return Known(mk_id, sent, "created")
            return TAKEN
        if is_too_soon:
            why = "The outcome of the last call is not known yet. The next run looks for it."
            return NotYet(self.late - intent.age, why)
        if found.partners:
            why = f"{len(found.partners)} partners may be it: a person decides."
            return Several(found.partners, why=why, intent_id=intent.intent_id)
        self.store.settle_intent(intent.intent_id, "abandoned")
        return None

    def _settle_orphan(self, intent: Intent) -> None:
        is_too_soon = intent.state != "intended" and intent.age < self.late
        if _may_have_made_one(intent):
            found = self.finder.for_call(intent.contact_id, intent.sent)
            if isinstance(found, Found):
                mk_id = found.partner.mk_id
                self.store.forget_partner(intent.contact_id, mk_id)
                self.store.settle_intent(intent.intent_id, "settled", mk_id)
                return
            if isinstance(found, Several) and not is_too_soon:
                words = "Several partners may belong to a contact that was deleted."
                self.progress.log(TO_METAKOCKA, MetakockaError(words), contact_id=intent.contact_id)
        if not is_too_soon:
            self.store.settle_intent(intent.intent_id, "abandoned")


def _may_have_made_one(intent: Intent) -> bool:
    return intent.operation == "add_partner" and intent.state != "intended"
