"""Which partner a contact is, if need be a new one: made once, whatever happens meanwhile.

A call that must not happen twice is written down as an intent, with what is to be sent, before
it begins. Whoever finds an intent whose outcome is not known looks for the partner by what was
sent, and calls again only once it is sure that there is none.
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
    MetakockaError,
    MetakockaOutcomeUnknown,
    RapportError,
    Unprocessable,
    UpstreamError,
)
from rapport.metakocka.client import Key, MetakockaClient
from rapport.metakocka.compare import same
from rapport.metakocka.limits import missing_fields
from rapport.metakocka.lookup import Found, NotThere, Several, look_up
from rapport.metakocka.mapping import from_record
from rapport.metakocka.party import Party
from rapport.metakocka.payloads import Body, new_partner
from rapport.metakocka.plan import Terms, party_fields, ref_of
from rapport.metakocka.progress import Progress
from rapport.metakocka.wire import PartnerRecord
from rapport.metakocka_rows import DirtyContact, Fields, Intent, PartnerItem
from rapport.metakocka_store import MetakockaStore

_IN_A_CALL = 500


@dataclass(frozen=True)
class Known:
    """The partner that a contact is, and what was agreed with it so far."""

    metakocka_id: str
    base: Party | None
    status: Literal["known", "adopted", "created"] = "known"


@dataclass(frozen=True)
class Later:
    """It can't be told yet: after so many seconds it may."""

    seconds: float
    error: RapportError


@dataclass(frozen=True)
class Blocked:
    """It has no partner, and gets none until something changes."""

    state: Literal["blocked", "conflict"]
    error: RapportError
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Creation:
    """Finds or makes partners; `late` is how long a lost call may still take effect, in seconds."""

    store: MetakockaStore
    client: MetakockaClient
    progress: Progress
    terms: Terms
    late: float

    def partner_of(self, job: DirtyContact, party: Party) -> Known | Later | Blocked:
        """The partner of a claimed contact, found out or made.

        Raises:
            Unprocessable: A field is too long for Metakocka.
            UpstreamError: Metakocka refused, can't be reached, or gave no answer.
            StoreError: As the store.
        """
        if job.intent is not None:
            end = self._found_out(job, job.intent)
            if end is not None:
                return end
        if job.metakocka_id is not None:
            base = None if job.base is None else Party.model_validate(job.base)
            return Known(job.metakocka_id, base)
        if missing := missing_fields(party):
            words = f"Metakocka makes no partner without {', '.join(missing)}."
            return Blocked("blocked", Unprocessable(words, field=missing[0]), tuple(missing))
        there = self._look_up(job, party, self._is_at_home(party))
        if isinstance(there, Several):
            return _ask(there)
        if isinstance(there, Found):
            return self._adopt(job, there.record.mk_id, None, "adopted")
        return self._create(job, party)

    def _create(self, job: DirtyContact, party: Party) -> Known | Blocked:
        new = new_partner(party)
        sent = party_fields(new.agreed)
        with self.intended(job.contact_id, "add_partner", new.body, sent) as intent:
            self.progress.keep()
            created = self.client.add_partner(new)
        # in this order: an intent that is settled is looked for no more
        known = self._adopt(job, created.mk_id, new.agreed, "created")
        self._settle(intent, created.mk_id)
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
        account = self.progress.account_id
        fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        intent = self.store.begin_intent(account, contact_id, operation, fingerprint, sent)
        is_ours = intent.state == "intended" and intent.fingerprint == fingerprint
        # granted once: whose answer is lost finds out later that nothing was called
        if not is_ours or not self.store.settle_intent(account, intent.intent_id, "sent"):
            raise MetakockaOutcomeUnknown(
                "What became of an earlier call is not known yet.", operation=operation
            )
        try:
            yield intent
        except MetakockaOutcomeUnknown:
            self.store.settle_intent(account, intent.intent_id, "unknown")
            raise
        except (UpstreamError, ConfigError):
            # refused, or never heard
            self.store.settle_intent(account, intent.intent_id, "abandoned")
            raise

    def _found_out(self, job: DirtyContact, intent: Intent) -> Known | Later | Blocked | None:
        """What became of an earlier call; None where it no longer matters."""
        may_have_begun = intent.state != "intended"
        if may_have_begun and intent.operation == "add_partner":
            if job.metakocka_id is not None:
                self._settle(intent, job.metakocka_id)
                return None
            sent = Party.model_validate(intent.sent)
            there = self._look_up(job, sent)
            if isinstance(there, Several):
                return _ask(there)
            if isinstance(there, Found):
                known = self._adopt(job, there.record.mk_id, sent, "created")
                self._settle(intent, there.record.mk_id)
                return known
        if may_have_begun and intent.age < self.late:
            return Later(
                self.late - intent.age,
                MetakockaError("What became of the last call is being found out."),
            )
        self.store.settle_intent(self.progress.account_id, intent.intent_id, "abandoned")
        return None

    def _settle(self, intent: Intent, metakocka_id: str) -> None:
        self.store.settle_intent(
            self.progress.account_id, intent.intent_id, "settled", metakocka_id
        )

    def _adopt(
        self,
        job: DirtyContact,
        metakocka_id: str,
        base: Party | None,
        status: Literal["adopted", "created"],
    ) -> Known | Blocked:
        """Notes at once that the contact is this partner; its mark stays."""
        settled = self.store.settle_partner(
            self.progress.account_id,
            self.progress.run.run_id,
            job.contact_id,
            None,
            PartnerItem(
                metakocka_id=metakocka_id,
                partner_hash=None,
                base=party_fields(base or Party()),
            ),
        )
        if settled.status in ("adopted", "updated", "unchanged"):
            return Known(metakocka_id, base, status)
        return Blocked("conflict", MetakockaError("This partner is another contact already."))

    def _look_up(
        self, job: DirtyContact, party: Party, is_it: _Same | None = None
    ) -> Found | Several | NotThere:
        self.progress.keep()
        free = _FreePartners(self.store, self.client, self.progress.account_id, job, self.terms)
        there = look_up(free, party, region=self.terms.region)
        if is_it is None or isinstance(there, NotThere) or there.by != "name":
            return there
        records = (there.record,) if isinstance(there, Found) else there.records
        alike = tuple(one for one in records if is_it.tells(one))
        if len(alike) == 1:
            return Found(from_record(alike[0], region=self.terms.region), alike[0], "name")
        return Several(alike, "name") if alike else NotThere()

    def _is_at_home(self, party: Party) -> _Same:
        return _Same(party, self.terms.region)


@dataclass(frozen=True)
class _Same:
    """Namesakes are many: before one is taken for another, the address has to be the same."""

    party: Party
    region: str

    def tells(self, record: PartnerRecord) -> bool:
        theirs = from_record(record, region=self.region).party
        return all(
            same(name, getattr(self.party, name), getattr(theirs, name))
            for name in ("street", "post_number")
        )


@dataclass(frozen=True)
class _FreePartners:
    """Finds partners that are no other contact's."""

    store: MetakockaStore
    client: MetakockaClient
    account_id: UUID
    job: DirtyContact
    terms: Terms

    def find_partners(self, key: Key, value: str) -> list[PartnerRecord]:
        found = self.client.find_partners(key, value)
        free: list[PartnerRecord] = []
        for start in range(0, len(found), _IN_A_CALL):
            part = found[start : start + _IN_A_CALL]
            known = self.store.read_partners(
                self.account_id, [ref_of(one, self.terms, known_hash=False) for one in part]
            )
            free += [
                record
                for record, one in zip(part, known, strict=True)
                if one.contact_id in (None, self.job.contact_id) or one.is_deleted
            ]
        return free


def _ask(there: Several) -> Blocked:
    words = f"{len(there.records)} partners have the same {there.by}: a person decides."
    return Blocked("conflict", MetakockaError(words))
