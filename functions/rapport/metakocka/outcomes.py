"""What became of calls whose answers were lost, found out by looking for what was sent.

Until it is known no other partner is made of the contact. A contact that was merged leaves its
calls to the one that was kept; those of a contact that was deleted nobody claims, and a run
settles them before it reads partners, or the contact would come back as a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapport.errors import MetakockaClosed, MetakockaError, MetakockaUnavailable
from rapport.metakocka.lookup import Found, NotThere
from rapport.metakocka.partners import Asked, Known, Later, Partners
from rapport.metakocka.party import Party
from rapport.metakocka.wire import PartnerRecord
from rapport.metakocka_rows import DirtyContact, Intent

OPERATION = "syncContactToMetakocka"


@dataclass(frozen=True)
class Outcomes:
    """Settles intents; `late` is how long a lost call may still take effect, in seconds."""

    partners: Partners
    late: float

    def settle(self, job: DirtyContact) -> Known | Later | Asked | None:
        """The partner that a lost call has made of a claimed contact, if that was so."""
        known: Known | None = None
        for intent in job.intents:
            end = self._settle(job, intent)
            if isinstance(end, Known):
                known = end
                job = job.model_copy(update={"metakocka_id": end.metakocka_id})
            elif end is not None:
                return end
        return known

    def settle_orphans(self) -> None:
        """Those of contacts that were deleted; a partner that was made stays theirs."""
        store, progress = self.partners.store, self.partners.progress
        for intent in store.unsettled_intents(progress.account_id):
            if not intent.is_orphaned:
                continue
            try:
                self._settle_orphan(intent)
            except MetakockaClosed:
                # about all calls: the run ends
                raise
            except MetakockaError as error:
                # it stays open, and what may be its partner waits with it
                progress.log(OPERATION, error, contact_id=intent.contact_id)
                if isinstance(error, MetakockaUnavailable):
                    return

    def _settle(self, job: DirtyContact, intent: Intent) -> Known | Later | Asked | None:
        if _may_have_made_one(intent):
            sent = Party.model_validate(intent.sent)
            there = self.partners.look_up_sent(job.contact_id, intent.sent, job.not_partners)
            records = there.records
            if job.metakocka_id is not None:
                if self._is_told_apart(job, intent, records):
                    return None
            elif isinstance(there, Found):
                known = self.partners.adopt(job, there.record.mk_id, sent, "created")
                if isinstance(known, Known):
                    # in this order: an intent that is settled is looked for no more
                    self.partners.settle_intent(intent, "settled", known.metakocka_id)
                return known
            elif records and not self._is_too_soon(intent):
                words = f"{len(records)} partners may be it: a person decides."
                return Asked(MetakockaError(words), records, intent=intent)
        if self._is_too_soon(intent):
            return Later(
                self.late - intent.age,
                MetakockaError("What became of the last call is being found out."),
            )
        self.partners.settle_intent(intent, "abandoned")
        return None

    def _is_told_apart(
        self, job: DirtyContact, intent: Intent, records: Sequence[PartnerRecord]
    ) -> bool:
        """Of a contact that is a partner by now: whether this one or another was made."""
        if not records:
            return False
        if any(one.mk_id == job.metakocka_id for one in records):
            self.partners.settle_intent(intent, "settled", job.metakocka_id)
            return True
        # it was merged, and is two partners
        present = self.partners.client.get_partner(job.metakocka_id or "")
        words = "This contact may be several partners: a person decides."
        offered = [*([present] if present else []), *records]
        asked = Asked(MetakockaError(words), offered, job.metakocka_id, intent)
        self.partners.ask(job, asked, None)
        return True

    def _settle_orphan(self, intent: Intent) -> None:
        store, progress = self.partners.store, self.partners.progress
        if _may_have_made_one(intent):
            there = self.partners.look_up_sent(intent.contact_id, intent.sent)
            if isinstance(there, Found):
                mk_id = there.record.mk_id
                store.forget_partner(progress.account_id, intent.contact_id, mk_id)
                self.partners.settle_intent(intent, "settled", mk_id)
                return
            if not isinstance(there, NotThere) and not self._is_too_soon(intent):
                words = "Several partners may be that of a contact that was deleted."
                progress.log(OPERATION, MetakockaError(words), contact_id=intent.contact_id)
        if not self._is_too_soon(intent):
            self.partners.settle_intent(intent, "abandoned")

    def _is_too_soon(self, intent: Intent) -> bool:
        return intent.state != "intended" and intent.age < self.late


def _may_have_made_one(intent: Intent) -> bool:
    return intent.operation == "add_partner" and intent.state != "intended"
