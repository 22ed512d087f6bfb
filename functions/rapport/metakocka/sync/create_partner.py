"""Which partner a contact is, if need be a new one: made once, whatever happens meanwhile.

A call that must not happen twice is written down as an intent, with what is to be sent, before
it begins. Whoever finds an intent whose outcome is not known looks for the partner first
(`outcomes`), and calls again only once it is sure that there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from rapport.errors import (
    ConfigError,
    Conflict,
    MetakockaClosed,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    MetakockaUnavailable,
    Unprocessable,
    UpstreamError,
)
from rapport.metakocka.agreement.limits import missing_fields
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.bodies import Body, new_partner
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_partner import (
    UNPROVED,
    Asked,
    Blocked,
    Found,
    Known,
    Later,
    NotThere,
    Partners,
    Several,
)
from rapport.metakocka.sync.plan import party_fields
from rapport.store.metakocka_rows import DirtyContact, Fields, Intent

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


_TAKEN = "Metakocka says that this contact is a partner that another contact is: a person decides."


@dataclass(frozen=True)
class Creation:
    """Finds or makes partners."""

    partners: Partners
    outcomes: Outcomes

    def partner_of(self, job: DirtyContact, party: Party) -> Known | Later | Blocked | Asked:
        """The partner of a claimed contact, found out or made.

        Raises:
            Unprocessable: A field is too long for Metakocka.
            UpstreamError: Metakocka refused, can't be reached, or gave no answer.
            StoreError: As the store.
        """
        end = self.outcomes.settle(job)
        if end is not None:
            return end
        if job.metakocka_id is not None:
            base = None if job.base is None else Party.model_validate(job.base)
            return Known(job.metakocka_id, base)
        if missing := missing_fields(party):
            words = f"Metakocka makes no partner without {', '.join(missing)}."
            return Blocked(Unprocessable(words, field=missing[0]), tuple(missing))
        there = self.partners.look_up(job, party)
        if isinstance(there, Several):
            return Asked(MetakockaError(_several(there)), there.records)
        if isinstance(there, Found):
            return self.partners.adopt(job, there.record.mk_id, None, "adopted")
        asked = self._still_asked(job)
        return asked if asked is not None else self._create(job, party)

    def _still_asked(self, job: DirtyContact) -> Asked | None:
        """The question that a person has not answered, as long as what it is about is there."""
        client = self.partners.client
        taken = [one for one in job.asked_about if self.partners.is_anothers(one, job.contact_id)]
        offered = [one for one in map(client.get_partner, taken) if one is not None]
        return Asked(MetakockaError(_TAKEN), offered) if offered else None

    def _ask_about_taken(self, job: DirtyContact, metakocka_id: str, intent: Intent) -> Asked:
        """Asks once: what Metakocka has answered it would answer again."""
        error = MetakockaError(_TAKEN)
        record = self.partners.client.get_partner(metakocka_id)
        asked = Asked(error, [record or PartnerRecord(mk_id=metakocka_id)], intent=intent)
        self.partners.ask(job, asked, None)
        self.partners.progress.log(
            OPERATION, error, contact_id=job.contact_id, metakocka_id=metakocka_id
        )
        return replace(asked, intent=None)

    def _create(self, job: DirtyContact, party: Party) -> Known | Later | Asked:
        new = new_partner(party)
        sent: Fields = {**party_fields(new.agreed), UNPROVED: [*job.unproved]}
        with self.intended(job.contact_id, "add_partner", new.body, sent) as intent:
            self.partners.progress.keep()
            created = self.partners.client.add_partner(new)
        known = self.partners.adopt(job, created.mk_id, new.agreed, "created")
        if not isinstance(known, Known) and self.partners.is_anothers(
            created.mk_id, job.contact_id
        ):
            return self._ask_about_taken(job, created.mk_id, intent)
        # in this order: an intent that is settled is looked for no more
        if isinstance(known, Known):
            self.partners.settle_intent(intent, "settled", created.mk_id)
        else:
            # deleted or merged meanwhile: whose it is now finds it
            self.partners.settle_intent(intent, "unknown")
        return known

    @contextmanager
    def intended(
        self,
        contact_id: UUID,
        operation: Literal["add_partner", "update_partner"],
        body: Body,
        sent: Fields,
    ) -> Iterator[Intent]:
        """The intent of the one call made within; it is open still after one that succeeds.

        Raises MetakockaOutcomeUnknown where another call may be under way.
        """
        store, account = self.partners.store, self.partners.progress.account_id
        fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        try:
            intent = store.begin_intent(account, contact_id, operation, fingerprint, sent)
        except Conflict:
            # not that the run is another's: the contact is a partner since it was claimed
            raise MetakockaRefused(
                "It has become a partner meanwhile.", operation=operation
            ) from None
        is_ours = intent.state == "intended" and intent.fingerprint == fingerprint
        # granted once: whose answer is lost finds out later that nothing was called
        if not is_ours or not self.partners.settle_intent(intent, "sent"):
            raise MetakockaOutcomeUnknown(
                "What became of an earlier call is not known yet.", operation=operation
            )
        try:
            yield intent
        except MetakockaOutcomeUnknown:
            self.partners.settle_intent(intent, "unknown")
            raise
        except (UpstreamError, ConfigError):
            # refused, or never heard
            self.partners.settle_intent(intent, "abandoned")
            raise


def _several(there: Several) -> str:
    """Why a person is asked, in words."""
    if len(there.records) == 1:
        return (
            f"A partner has the {there.by} that the customer has written, which nobody has"
            " proved: a person decides."
        )
    return f"{len(there.records)} partners have the same {there.by}: a person decides."
