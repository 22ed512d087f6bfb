"""Contacts to Metakocka: claim what has changed, merge, send, settle.

A partner is read before it is changed, so what was edited there meanwhile is not run over.
Killed anywhere, the mark of the contact is still there and the next worker begins anew; that
nothing is made twice is up to `creation`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from rapport.errors import (
    MetakockaClosed,
    MetakockaError,
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    MetakockaUnavailable,
    NotFound,
    RapportError,
    StoreError,
    Unprocessable,
)
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.bodies import AddingUpdate, PartnerUpdate, partner_update
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.create_partner import Creation, Outcomes
from rapport.metakocka.sync.find_partner import Asked, Blocked, Known, Later, Partners
from rapport.metakocka.sync.plan import Agreed, Contact, Terms, party_fields, plan_of
from rapport.metakocka.sync.progress import Outcome, Progress, Silence, Status
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import DirtyContact, Fields

OPERATION = "syncContactToMetakocka"
BATCH = 10
# what comes back so often in one run is left for a later one
TRIES = 3
# new entries come back with ids, and are merged once more
ROUNDS = 3
# seconds: how long a worker waits for the end of a quiet moment
PATIENCE = 3.0


@dataclass
class Push:
    """The part of a run that sends; `has_time` tells whether there is enough for one contact."""

    store: MetakockaStore
    client: MetakockaClient
    progress: Progress
    terms: Terms
    has_time: Callable[[], bool]
    # how old a call of unknown outcome has to be until what is not found did not happen
    late: float
    # of the whole run's calls
    silence: Silence = field(default_factory=Silence)
    _seen: Counter[UUID] = field(default_factory=Counter)
    _is_given_up: bool = False

    def __post_init__(self) -> None:
        self._pauses = self.progress.run.retries["contact"]
        self._partners = Partners(self.store, self.client, self.progress, self.terms)
        self._outcomes = Outcomes(self._partners, self.late)
        self._creation = Creation(self._partners, self._outcomes)

    def run(self, contact_ids: Sequence[UUID] | None = None, *, patience: float = PATIENCE) -> bool:
        """Sends what there is to send, all or these; False where the time was over.

        Edits that go on are waited for, so that several become one.

        Raises:
            UpstreamError: Metakocka can't be reached or takes no calls, or the key can't be read.
            ConfigError: There is no key.
            StoreError: The database refused, or can't be reached; LeaseLost where another worker
                has taken the run over.
        """
        while self.has_time():
            self.progress.keep()
            claim = self.store.claim_dirty_contacts(
                self.progress.account_id, self.progress.worker, BATCH, contact_ids
            )
            for job in claim.claimed:
                if not self.has_time():
                    return False
                self._push(job)
            if claim.claimed:
                continue
            if claim.next_in is None or claim.next_in > patience:
                self.silence.end()
                return True
            time.sleep(max(claim.next_in, 0.02))
        return False

    def run_between(self) -> None:
        """Sends what there is at the moment, unless nobody has answered; raises as `run`."""
        if self._is_given_up:
            return
        try:
            self.run(patience=0)
        except MetakockaUnavailable:
            # whoever reads goes on; what is left is sent after that
            self._is_given_up = True

    def settle_orphans(self) -> None:
        """Finds out what became of calls for contacts that were deleted; raises as `run`."""
        self._outcomes.settle_orphans()

    def _push(self, job: DirtyContact) -> None:
        self._seen[job.contact_id] += 1
        if self._seen[job.contact_id] > TRIES:
            self._postpone(job, self._pauses.first_wait)
            return
        try:
            outcome = self._sent(job)
        except NotFound as error:
            # deleted or merged meanwhile
            outcome = _outcome(job, "not_found", error)
        except StoreError:
            raise
        except Unprocessable as error:
            self._log(job, error)
            outcome = self._blocked(job, Blocked(error, (error.field,) if error.field else ()))
        except MetakockaOutcomeUnknown as error:
            self._log(job, error)
            self._postpone(job, self.late)
            outcome = _outcome(job, "waiting", error)
        except MetakockaClosed as error:
            # not about this contact, which waits behind the others next time all the same
            self._postpone(job)
            self.progress.add(_outcome(job, "waiting", error))
            raise
        except MetakockaError as error:
            self._log(job, error)
            self._postpone(job)
            outcome = _outcome(job, "failed", error)
            if isinstance(error, MetakockaUnavailable):
                self.progress.add(outcome)
                # it may be about this contact alone
                self.silence.add(error)
                return
        except RapportError as error:
            self._log(job, error)
            self._postpone(job)
            self.progress.add(_outcome(job, "failed", error))
            # not about this contact: whoever comes next would fare no better
            raise
        self.progress.add(outcome)
        if outcome.status not in ("blocked", "not_found"):
            self.silence.broken()

    def _sent(self, job: DirtyContact) -> Outcome:
        contact = Contact(
            job.contact_id,
            job.version,
            job.updated_at,
            Party.model_validate(job.party),
            seen_at=job.seen_at,
            edits=job.edits,
        )
        known = self._creation.partner_of(job, contact.party)
        if isinstance(known, Later):
            self._postpone(job, known.seconds)
            return _outcome(job, "waiting", known.error)
        if isinstance(known, Blocked):
            return self._blocked(job, known)
        if isinstance(known, Asked):
            return self._asked(job, known)
        self.progress.keep()
        seen_at = self.progress.now()
        record = self.client.get_partner(known.metakocka_id)
        if record is None:
            # one that is gone erases nothing
            gone = MetakockaError("Metakocka has no such partner any more: a person decides.")
            self._log(job, gone)
            there = self._partners.look_up(job, contact.party)
            return self._asked(job, Asked(gone, there.records, known.metakocka_id))
        agreed = self._agreed(job, replace(contact, base=known.base), record, seen_at)
        return self._settled(job, known, agreed)

    def _agreed(
        self, job: DirtyContact, contact: Contact, record: PartnerRecord, seen_at: datetime
    ) -> Agreed:
        """Sends what the partner lacks, until there is nothing more."""
        agreed = Agreed(contact, plan_of(contact, record, self.terms), seen_at=seen_at)
        for turn in range(ROUNDS):
            update = partner_update(agreed.plan.partner, agreed.plan.merged.erp_changes)
            if update is None:
                break
            if turn == 0 and self.terms.rule == "newest":
                self._note_seen(agreed, seen_at)
            seen_at = self.progress.now()
            shown = self._update(job, update) or self.client.get_partner(update.mk_id)
            if shown is None:
                raise MetakockaRefused("Metakocka does not show it.", operation="update_partner")
            agreed = agreed.after(shown, self.terms, seen_at)
        return agreed

    def _note_seen(self, agreed: Agreed, seen_at: datetime) -> None:
        """Whatever becomes of the call: what differs at Metakocka later was edited after this."""
        plan, base = agreed.plan, agreed.contact.base
        theirs: Fields | None = None
        if not plan.is_as_agreed:
            # of what is decided for us that is what Metakocka has so far
            pending = {name: getattr(plan.base, name) for name in plan.merged.erp_changes}
            theirs = party_fields((base or Party()).model_copy(update=pending))
        self.store.note_partners_seen(
            self.progress.account_id, [plan.record.mk_id], seen_at, theirs
        )

    def _update(self, job: DirtyContact, update: PartnerUpdate) -> PartnerRecord | None:
        self.progress.keep()
        if not isinstance(update, AddingUpdate):
            return self.client.update_partner(update)
        creation = self._creation
        with creation.intended(job.contact_id, "update_partner", update.body, {}) as intent:
            shown = self.client.update_partner(update)
        self.store.settle_intent(
            self.progress.account_id, intent.intent_id, "settled", update.mk_id
        )
        return shown

    def _settled(self, job: DirtyContact, known: Known, agreed: Agreed) -> Outcome:
        for held in agreed.held:
            words = f"{held.field}: {held.reason}"
            self._log(job, Unprocessable(words, field=held.field), {"side": held.side})
        settled = self.store.settle_partner(
            self.progress.account_id,
            self.progress.run.run_id,
            job.contact_id,
            job.changed_seq,
            agreed.item(),
        )
        if settled.status == "stale":
            return _outcome(job, "waiting", StoreError("It has changed meanwhile."))
        if settled.status == "refused":
            refused = StoreError(settled.reason or "The database does not take it.")
            self._log(job, refused)
            # or it would be claimed again at once
            self._blocked(job, Blocked(refused))
            return _outcome(job, "failed", refused)
        if agreed.is_open:
            asked = MetakockaError("Both sides have changed it: a person decides.")
            return _outcome(job, "conflict", asked)
        status: Status = "updated" if agreed.has_changes else "unchanged"
        if known.status != "known":
            status = known.status
        return replace(_outcome(job, status), metakocka_id=known.metakocka_id)

    def _blocked(self, job: DirtyContact, blocked: Blocked) -> Outcome:
        self.store.block_contact(
            self.progress.account_id,
            job.contact_id,
            job.changed_seq,
            blocked.missing,
        )
        return _outcome(job, "blocked", blocked.error)

    def _asked(self, job: DirtyContact, asked: Asked) -> Outcome:
        self._partners.ask(job, asked, job.changed_seq)
        return _outcome(job, "conflict", asked.error)

    def _postpone(self, job: DirtyContact, seconds: float | None = None) -> None:
        if seconds is None:
            pauses = self._pauses
            bound = min(pauses.first_wait * 2 ** min(job.attempts, 16), pauses.longest_wait)
            # so that contacts which failed together do not come back together
            chance = pauses.jitter * random.random()  # noqa: S311 - nothing secret
            seconds = bound - (bound - pauses.first_wait) * chance
        self.store.postpone_contact(
            self.progress.account_id,
            job.contact_id,
            self.progress.worker,
            timedelta(seconds=seconds),
        )

    def _log(
        self, job: DirtyContact, error: RapportError, details: Mapping[str, str] | None = None
    ) -> None:
        self.progress.log(
            OPERATION,
            error,
            contact_id=job.contact_id,
            metakocka_id=job.metakocka_id,
            details={**(details or {}), "attempt": job.attempts},
        )


def _outcome(
    job: DirtyContact,
    status: Status,
    error: RapportError | None = None,
) -> Outcome:
    return Outcome(
        id=str(job.contact_id),
        status=status,
        contact_id=job.contact_id,
        metakocka_id=job.metakocka_id,
        code=error.code if error else None,
        message=str(error) if error else None,
        field=error.field if error else None,
    )
