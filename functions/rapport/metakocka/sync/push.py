"""Contacts to Metakocka, one at a time: claim, match, read, merge, send, settle.

A partner is read before it is changed, so an edit that was made there meanwhile is kept. A worker
that is killed leaves the contact's mark, and the next worker begins again; `lost_calls` makes
sure that no partner is made twice.
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
    MetakockaUnavailable,
    NotFound,
    RapportError,
    StoreError,
    Unprocessable,
)
from rapport.metakocka.agreement.limits import missing_fields
from rapport.metakocka.agreement.party import Party, party_fields
from rapport.metakocka.api.client import MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord
from rapport.metakocka.sync.find_contact import ContactState, claimed_state
from rapport.metakocka.sync.find_partner import (
    TAKEN,
    Found,
    Known,
    Match,
    NoPartner,
    NotYet,
    PartnerFinder,
    Several,
)
from rapport.metakocka.sync.lost_calls import LostCalls
from rapport.metakocka.sync.plan import Agreed, Terms, agree
from rapport.metakocka.sync.progress import TO_METAKOCKA, CallFailures, Outcome, Progress, Status
from rapport.metakocka.sync.send_partner import PartnerSender
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import DirtyContact

BATCH = 10
# a contact that comes back more often in one run is left for a later run
TRIES = 3
# updates of one partner: new entries come back with ids, and are merged once more
ROUNDS = 3
# seconds: how long a worker waits until contacts that are being edited may be sent
PATIENCE = 3.0


@dataclass(frozen=True)
class Ending:
    """How the sending of one contact ends.

    The mark that it is to be sent is settled (`agreed`), waits for a person (`several`), is blocked
    until the contact changes (`missing`), comes back after `retry_in` seconds, or stays as it is.
    """

    status: Status
    error: RapportError | None = None
    metakocka_id: str | None = None
    agreed: Agreed | None = None
    several: Several | None = None
    missing: Sequence[str] | None = None
    retry_in: float | None = None


@dataclass
class Push:
    """The part of a run that sends; `has_time` tells whether there is enough for one contact."""

    store: RunStore
    client: MetakockaClient
    progress: Progress
    terms: Terms
    has_time: Callable[[], bool]
    # seconds: after that a call of unknown outcome takes no effect any more
    late: float
    failures: CallFailures = field(default_factory=CallFailures)
    _seen: Counter[UUID] = field(default_factory=Counter)
    _is_given_up: bool = False

    def __post_init__(self) -> None:
        self._pauses = self.progress.run.retries["contact"]
        self._finder = PartnerFinder(self.store, self.client, self.terms.region)
        self._lost = LostCalls(self.store, self.client, self._finder, self.progress, self.late)
        self._sender = PartnerSender(self.store, self.client, self._finder, self.progress)

    def run(self, contact_ids: Sequence[UUID] | None = None, *, patience: float = PATIENCE) -> bool:
        """Sends all contacts that are due, or these contacts; False if the time was over.

        It waits for the end of quick edits, so that several become one.

        Raises:
            UpstreamError: Metakocka can't be reached or takes no calls, or the key can't be read.
            ConfigError: There is no key.
            StoreError: The database refused, or can't be reached; LeaseLost where another worker
                has the run.
        """
        while self.has_time():
            self.progress.keep()
            claim = self.store.claim_contacts(BATCH, contact_ids)
            for job in claim.claimed:
                if not self.has_time():
                    return False
                self._push(job)
            if claim.claimed:
                continue
            if claim.next_in is None or claim.next_in > patience:
                self.failures.end()
                return True
            time.sleep(max(claim.next_in, 0.02))
        return False

    def run_between(self) -> bool:
        """Sends the contacts that are due, unless a call had no answer before; raises as `run`.

        Answers whether there were any.
        """
        if self._is_given_up:
            return False
        before = self._seen.total()
        try:
            self.run(patience=0)
        except MetakockaUnavailable:
            # the pull goes on; the other contacts are sent after it
            self._is_given_up = True
        return self._seen.total() > before

    def settle_orphans(self) -> None:
        """Finds the outcome of calls for contacts that were deleted; raises as `run`."""
        self._lost.settle_orphans()

    def _push(self, job: DirtyContact) -> None:
        """Sends one contact, and counts its outcome."""
        self._seen[job.contact_id] += 1
        error: RapportError | None = None
        try:
            ending = self._sent(job)
        except StoreError:
            raise
        except RapportError as caught:
            error = caught
            ending = self._ending_of(job, caught)
        try:
            ending = self._settle(job, ending)
        except NotFound as gone:
            ending = Ending("not_found", gone)
        if self._seen[job.contact_id] > TRIES:
            return
        self.progress.add(_outcome(job, ending))
        if isinstance(error, MetakockaUnavailable):
            # the next contact may fare better
            self.failures.add(error)
        elif error is not None and _is_about_all(error):
            raise error
        elif ending.status not in ("blocked", "not_found"):
            self.failures.succeeded()

    def _sent(self, job: DirtyContact) -> Ending:
        """Matches, reads, merges and sends a claimed contact.

        Raises:
            Unprocessable: A field is too long for Metakocka.
            UpstreamError: Metakocka refused, can't be reached, or gave no answer.
            StoreError: As the store.
        """
        if self._seen[job.contact_id] > TRIES:
            return Ending("waiting", retry_in=self._pauses.first_wait)
        contact = claimed_state(job)
        match: Match | None = self._lost.settle_intents(job)
        if match is None and job.metakocka_id is not None:
            match = Known(job.metakocka_id, contact.base)
        if match is None and (missing := missing_fields(contact.party)):
            words = f"Metakocka makes no partner without {', '.join(missing)}."
            return Ending("blocked", Unprocessable(words, field=missing[0]), missing=missing)
        if match is None:
            match = self._finder.for_contact(job, contact.party)
        if isinstance(match, Found):
            mk_id, nothing = match.partner.mk_id, party_fields(Party())
            is_ours = self.store.adopt_partner(job.contact_id, mk_id, nothing)
            match = Known(mk_id, None, "adopted") if is_ours else TAKEN
        elif isinstance(match, NoPartner):
            match = self._sender.make_partner(job, contact.party)
        if isinstance(match, NotYet):
            return Ending("waiting", match.error, retry_in=match.seconds)
        if isinstance(match, Several):
            return Ending("conflict", match.error, several=match)
        self.progress.keep()
        seen_at = self.progress.now()
        record = self.client.get_partner(match.metakocka_id)
        if record is None:
            # a deleted partner erases nothing
            words = "Metakocka has no such partner any more: a person decides."
            found = self._finder.for_contact(job, contact.party)
            several = Several(found.partners, None, words, match.metakocka_id)
            self._log(job, several.error)
            return Ending("conflict", several.error, several=several)
        contact = replace(contact, base=match.base)
        return _ending(match, self._agreed(job, contact, record, seen_at))

    def _agreed(
        self, job: DirtyContact, contact: ContactState, record: PartnerRecord, seen_at: datetime
    ) -> Agreed:
        """Merges and sends the partner's new values, until there are none."""
        agreed: Agreed | None = None
        turn = 0
        while True:
            partner = from_record(record, region=self.terms.region)
            agreed = agree(contact, partner, self.terms, seen_at, agreed)
            contact = agreed.contact
            update = agreed.update if turn < ROUNDS else None
            if update is None:
                return agreed
            if turn == 0 and self.terms.rule == "newest":
                # before the call, since its answer may be lost: a later difference is a later edit
                self.store.note_partners_seen([update.mk_id], seen_at, agreed.theirs)
            if sent := agreed.sent:
                # as well: a partner with these values has no edit of its own
                self.store.note_sent(job.contact_id, sent)
            turn += 1
            seen_at = self.progress.now()
            record = self._sender.change_partner(job, update)

    def _settle(self, job: DirtyContact, ending: Ending) -> Ending:
        """Writes the ending, and keeps or removes the contact's mark.

        Raises:
            NotFound: The contact was deleted or merged meanwhile, and its mark with it.
            StoreError: As the store.
        """
        if ending.agreed is not None:
            for held in ending.agreed.held:
                words = f"{held.field}: {held.reason}"
                self._log(job, Unprocessable(words, field=held.field), {"side": held.side})
            item = ending.agreed.item
            settled = self.store.settle_partner(job.contact_id, job.changed_seq, item)
            if settled.status == "stale":
                return Ending(
                    "waiting", StoreError("The contact has changed meanwhile: it is sent again.")
                )
            if settled.status == "refused":
                refused = StoreError(settled.reason or "The database does not take it.")
                self._log(job, refused)
                # an unblocked contact would be claimed again at once
                ending = Ending("failed", refused, missing=())
        if ending.several is not None:
            several = ending.several
            self.store.ask_partner(
                job.contact_id,
                job.changed_seq,
                several.present,
                several.shown,
                several.intent_id,
            )
        elif ending.missing is not None:
            self.store.block_contact(job.contact_id, job.changed_seq, ending.missing)
        elif ending.retry_in is not None:
            self.store.postpone_contact(job.contact_id, timedelta(seconds=ending.retry_in))
        return ending

    def _ending_of(self, job: DirtyContact, error: RapportError) -> Ending:
        """The ending of a contact after an error."""
        if isinstance(error, NotFound):
            # the contact was deleted or merged meanwhile, and its mark with it
            return Ending("not_found", error)
        if isinstance(error, MetakockaClosed):
            # the error concerns all contacts; next time this contact comes after the others
            return Ending("waiting", error, retry_in=self._pause(job))
        self._log(job, error)
        if isinstance(error, Unprocessable):
            return Ending("blocked", error, missing=(error.field,) if error.field else ())
        if isinstance(error, MetakockaOutcomeUnknown):
            return Ending("waiting", error, retry_in=self.late)
        return Ending("failed", error, retry_in=self._pause(job))

    def _pause(self, job: DirtyContact) -> float:
        """Seconds until the contact's next try: longer each time, and partly random."""
        pauses = self._pauses
        bound = min(pauses.first_wait * 2.0 ** min(job.attempts, 16), pauses.longest_wait)
        # contacts that failed together come back apart
        chance = pauses.jitter * random.random()  # noqa: S311 - nothing secret
        return bound - (bound - pauses.first_wait) * chance

    def _log(
        self, job: DirtyContact, error: RapportError, details: Mapping[str, str] | None = None
    ) -> None:
        self.progress.log(
            TO_METAKOCKA,
            error,
            contact_id=job.contact_id,
            metakocka_id=job.metakocka_id,
            details={**(details or {}), "attempt": job.attempts},
        )


def _ending(match: Known, agreed: Agreed) -> Ending:
    if agreed.is_open:
        question = MetakockaError("Both sides have changed it: a person decides.")
        return Ending("conflict", question, agreed=agreed)
    status: Status = "updated" if agreed.has_changes else "unchanged"
    if match.status != "known":
        status = match.status
    return Ending(status, metakocka_id=match.metakocka_id, agreed=agreed)


def _outcome(job: DirtyContact, ending: Ending) -> Outcome:
    error = ending.error
    return Outcome(
        id=str(job.contact_id),
        status=ending.status,
        contact_id=job.contact_id,
        metakocka_id=ending.metakocka_id or job.metakocka_id,
        code=error.code if error else None,
        message=str(error) if error else None,
        field=error.field if error else None,
    )


def _is_about_all(error: RapportError) -> bool:
    """Whether the error would be the same for the next contact."""
    return isinstance(error, MetakockaClosed) or not isinstance(
        error, MetakockaError | NotFound | Unprocessable
    )
