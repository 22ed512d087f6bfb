"""Which partner a contact is, if need be a new one: made once, whatever happens meanwhile.

A call that must not happen twice is written down as an intent, with what is to be sent, before
it begins. Whoever finds an intent whose outcome is not known looks for the partner first
(`outcomes`), and calls again only once it is sure that there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from rapport.errors import (
    ConfigError,
    Conflict,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    Unprocessable,
    UpstreamError,
)
from rapport.metakocka.limits import missing_fields
from rapport.metakocka.lookup import Found, Several
from rapport.metakocka.outcomes import OPERATION, Outcomes
from rapport.metakocka.partners import UNPROVED, Asked, Blocked, Known, Later, Partners
from rapport.metakocka.party import Party
from rapport.metakocka.payloads import Body, new_partner
from rapport.metakocka.plan import party_fields
from rapport.metakocka.wire import PartnerRecord
from rapport.metakocka_rows import DirtyContact, Fields, Intent

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
