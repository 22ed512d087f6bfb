"""Sends a contact to Metakocka: makes its partner once, or changes the partner that it has.

Before a call that must not happen twice an intent is written, with what will be sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rapport.errors import (
    ConfigError,
    Conflict,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    UpstreamError,
)
from rapport.metakocka.agreement.party import Party, party_fields
from rapport.metakocka.api.bodies import AddingUpdate, Body, PartnerUpdate, new_partner
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_partner import (
    ANOTHERS,
    TAKEN,
    UNPROVED,
    Known,
    NotYet,
    PartnerFinder,
    Several,
)
from rapport.metakocka.sync.progress import TO_METAKOCKA, Progress
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import DirtyContact, Fields, Intent


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
        new = new_partner(party)
        agreed = party_fields(new.agreed)
        sent: Fields = {**agreed, UNPROVED: [*job.unproved]}
        with _intended(self.store, job, "add_partner", new.body, sent) as intent:
            mk_id = self.client.add_partner(new).mk_id
        if self.store.adopt_partner(job.contact_id, mk_id, agreed, intent.intent_id):
            return Known(mk_id, new.agreed, "created")
        if not self.store.is_anothers(mk_id, job.contact_id):
            # the contact was deleted or merged meanwhile: its successor finds the partner
            self.store.settle_intent(intent.intent_id, "unknown")
            return TAKEN
        # a person is asked once: the same call would have the same answer
        record = self.client.get_partner(mk_id) or PartnerRecord(mk_id=mk_id)
        several = Several((from_record(record, region=self.finder.region),), why=ANOTHERS)
        self.store.ask_partner(job.contact_id, None, None, several.shown, intent.intent_id)
        self.progress.log(
            TO_METAKOCKA, MetakockaError(ANOTHERS), contact_id=job.contact_id, metakocka_id=mk_id
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
            with _intended(self.store, job, "update_partner", update.body, {}, update.mk_id):
                shown = self.client.update_partner(update)
        else:
            shown = self.client.update_partner(update)
        shown = shown or self.client.get_partner(update.mk_id)
        if shown is None:
            raise MetakockaRefused("Metakocka does not show it.", operation="update_partner")
        return shown


@contextmanager
def _intended(
    store: RunStore,
    job: DirtyContact,
    operation: Literal["add_partner", "update_partner"],
    body: Body,
    sent: Fields,
    metakocka_id: str | None = None,
) -> Iterator[Intent]:
    """The intent of one call; the call is made in the `with` block.

    After a success the intent is settled where the call changes the partner `metakocka_id`.
    Otherwise it is still open, and the caller settles it once the contact has its new partner.

    Raises:
        MetakockaOutcomeUnknown: Another call may be under way, or this one had no answer.
        MetakockaRefused: The contact has become a partner since it was claimed.
    """
    fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    try:
        intent = store.begin_intent(job.contact_id, operation, fingerprint, sent)
    except Conflict:
        raise MetakockaRefused("It has become a partner meanwhile.", operation=operation) from None
    is_ours = intent.state == "intended" and intent.fingerprint == fingerprint
    # `sent` is granted once: if our answer is lost, the next worker sees a call that was never made
    if not is_ours or not store.settle_intent(intent.intent_id, "sent"):
        raise MetakockaOutcomeUnknown(
            "The outcome of an earlier call is not known yet.", operation=operation
        )
    try:
        yield intent
    except MetakockaOutcomeUnknown:
        store.settle_intent(intent.intent_id, "unknown")
        raise
    except (UpstreamError, ConfigError):
        # refused, or never heard
        store.settle_intent(intent.intent_id, "abandoned")
        raise
    else:
        if metakocka_id is not None:
            store.settle_intent(intent.intent_id, "settled", metakocka_id)
