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
from dataclasses import dataclass
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
from rapport.metakocka.outcomes import Outcomes
from rapport.metakocka.partners import Asked, Blocked, Known, Later, Partners
from rapport.metakocka.party import Party
from rapport.metakocka.payloads import Body, new_partner
from rapport.metakocka.plan import party_fields
from rapport.metakocka_rows import DirtyContact, Fields, Intent


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
        there = self.partners.look_up(job, party, at_home=True)
        if isinstance(there, Several):
            words = f"{len(there.records)} partners have the same {there.by}: a person decides."
            return Asked(MetakockaError(words), there.records)
        if isinstance(there, Found):
            return self.partners.adopt(job, there.record.mk_id, None, "adopted")
        return self._create(job, party)

    def _create(self, job: DirtyContact, party: Party) -> Known | Later:
        new = new_partner(party)
        sent = party_fields(new.agreed)
        with self.intended(job.contact_id, "add_partner", new.body, sent) as intent:
            self.partners.progress.keep()
            created = self.partners.client.add_partner(new)
        known = self.partners.adopt(job, created.mk_id, new.agreed, "created")
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
