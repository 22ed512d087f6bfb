"""The database's part in the sync with Metakocka.

MetakockaStore serves any account: it tells which accounts have something to do, and begins a run.
A run's calls go through a RunStore, which is bound to the account, the run and the worker: a
worker that has lost the run's lease can write nothing through it.

Every call may be repeated. Every call raises StoreUnavailable or StoreError as `Store`'s do, and
NotFound for a row that is not the account's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from rapport.errors import StoreError
from rapport.store.metakocka_rows import (
    AtWork,
    BegunIntent,
    ComparedPartners,
    Connection,
    Counts,
    Direction,
    DirtyClaim,
    DirtyContact,
    Due,
    Fields,
    KnownPartner,
    PartnerItem,
    PartnerRef,
    PartnerResult,
    Run,
    Settled,
    SyncError,
    SyncRequest,
    Trigger,
    UnsettledIntent,
)
from rapport.store.postgrest import Store, understood

# a function of schema `backend` and its arguments
Calling = Callable[[str, dict[str, object]], object]


class MetakockaStore(Store):
    """The sync's calls for any account."""

    def connections_due(self, batch: int) -> list[Due]:
        """Up to `batch` accounts with something to do, the longest waiting first."""
        return understood(list[Due], self._call("metakocka_connections_due", {"batch": batch}))

    def connection(self, account: str) -> Connection:
        """The connection of an account, by its id or external id."""
        return understood(Connection, self._call("metakocka_connection", {"account": account}))

    def begin_sync(
        self,
        account_id: UUID,
        direction: Direction,
        trigger: Trigger,
        worker: str,
        user_id: UUID | None = None,
        request: SyncRequest | None = None,
        time_left: float | None = None,
    ) -> Run | None:
        """Leases an account and begins or continues a run.

        Answers None while another worker has the account, while the account is paused
        (`sync_at_work` tells which), and where a wake finds nothing to do. A run that was left or
        waits is continued: its direction and trigger may be others. A `request` is a run of its
        own, and marks its contacts to be sent. `time_left` are the worker's seconds, None where
        nothing ends it.
        """
        answer = self._call(
            "begin_sync",
            {
                "account_id": str(account_id),
                "direction": direction,
                "trigger": trigger,
                "worker": worker,
                "user_id": None if user_id is None else str(user_id),
                "request": request and request.model_dump(mode="json", exclude_none=True),
                "time_left": time_left,
            },
        )
        return None if answer is None else understood(Run, answer)

    def sync_at_work(self, account_id: UUID) -> AtWork | None:
        """Why the account's next run waits; None where the account is not connected."""
        answer = self._call("sync_at_work", {"account_id": str(account_id)})
        return None if answer is None else understood(AtWork, answer)

    def next_lease_end(self) -> float | None:
        """In how many seconds the first lease of a run ends, unless its worker extends it."""
        answer = self._call("next_lease_end", {})
        return None if answer is None else understood(float, answer)

    def read_partners(self, account_id: UUID, refs: Sequence[PartnerRef]) -> list[KnownPartner]:
        """The known facts about up to 500 partners, in their order."""
        return _read_partners(self._call, account_id, refs)

    def blocked_contacts(self, account_id: UUID) -> int:
        """How many contacts are not sent because fields are missing."""
        answer = self._call("count_blocked_contacts", {"account_id": str(account_id)})
        return understood(int, answer)

    def contacts_to_send(self, account_id: UUID, after: int, limit: int) -> list[DirtyContact]:
        """Contacts that a run would send, with a `changed_seq` beyond `after`; nobody claims
        them.
        """
        arguments = {
            "account_id": str(account_id),
            "worker": "preview",
            "batch": limit,
            "contact_ids": None,
            "dry_run": True,
            "after": after,
        }
        return understood(DirtyClaim, self._call("claim_dirty_contacts", arguments)).claimed

    def of_run(self, account_id: UUID, run_id: UUID, worker: str) -> RunStore:
        """The calls of one run, for the worker that has its lease."""
        return RunStore(self._call, account_id, run_id, worker)


@dataclass(frozen=True)
class RunStore:
    """The calls of one run, for its account and its worker.

    A write raises LeaseLost once another worker has the run.
    """

    call: Calling
    account_id: UUID
    run_id: UUID
    worker: str

    # the run itself

    def advance(self, cursor: JsonValue, counts: Counts) -> datetime:
        """Notes how far the run has come and extends its lease; answers until when."""
        told = counts.model_dump(mode="json", include=set(Counts.model_fields))
        return understood(datetime, self._of_run("advance_sync", cursor=cursor, **told))

    def keep(self) -> None:
        """Extends the run's lease."""
        self._of_run("keep_sync")

    def pause(
        self, state: Literal["stopped", "failed"], reason: str, retry_after: float | None = None
    ) -> datetime:
        """Ends the run because Metakocka takes no calls, and pauses its account.

        Answers until when; `retry_after` is the wait that Metakocka asked for, in seconds.
        """
        answer = self._of_run("pause_sync", state=state, reason=reason, retry_after=retry_after)
        return understood(datetime, answer)

    def finish(
        self,
        state: Literal["stopped", "done", "failed"],
        documents_seen_until: datetime | None = None,
    ) -> None:
        """Ends the run, or leaves it to the next worker (`stopped`)."""
        seen_until = documents_seen_until and documents_seen_until.isoformat()
        self._of_run("finish_sync", state=state, documents_seen_until=seen_until)

    def log_error(self, error: SyncError) -> None:
        """Writes an error for the account's admins. A repeated call writes it twice."""
        self.call(
            "log_sync_error",
            {
                "account_id": str(self.account_id),
                "run_id": str(self.run_id),
                **error.model_dump(mode="json"),
            },
        )

    # partners that were read

    def read_partners(self, refs: Sequence[PartnerRef]) -> list[KnownPartner]:
        """The known facts about up to 500 partners, in their order."""
        return _read_partners(self.call, self.account_id, refs)

    def compare_partners(self, hashes: Mapping[str, str]) -> ComparedPartners:
        """Which of up to 5,000 partners have another hash than the one that is known, by id."""
        answer = self.call(
            "compare_partners", {"account_id": str(self.account_id), "hashes": hashes}
        )
        return understood(ComparedPartners, answer)

    def is_anothers(self, metakocka_id: str, contact_id: UUID) -> bool:
        """Whether a partner is another contact, which is not deleted."""
        [known] = self.read_partners([PartnerRef(metakocka_id=metakocka_id)])
        return known.contact_id not in (None, contact_id) and not known.is_deleted

    def apply_partners(
        self, items: Sequence[PartnerItem], *, quiet: bool = False
    ) -> list[PartnerResult]:
        """Writes up to 500 merged partners; answers the outcome of each, in their order.

        With `quiet` the followers of the contacts are told at the end of the run.
        """
        answer = self._write(
            "apply_partners",
            run_id=str(self.run_id),
            items=[item.model_dump(mode="json") for item in items],
            quiet=quiet,
        )
        results = understood(list[PartnerResult], answer)
        if [one.metakocka_id for one in results] != [item.metakocka_id for item in items]:
            raise StoreError("The database's answer is about other partners.")
        return results

    def note_partners_seen(
        self, metakocka_ids: Sequence[str], seen_at: datetime, base: Fields | None = None
    ) -> None:
        """Notes when partners of contacts that are to be sent still had the agreed values.

        `base` is the new agreed state, for a single partner.
        """
        self._write(
            "note_partners_seen",
            metakocka_ids=list(metakocka_ids),
            seen_at=seen_at.isoformat(),
            base=base,
        )

    # contacts that are sent

    def note_sent(self, contact_id: UUID, sent: Fields) -> None:
        """Notes values that are about to be sent for a claimed contact, by field."""
        self._write("note_sent", contact_id=str(contact_id), sent=sent)

    def claim_contacts(self, batch: int, contact_ids: Sequence[UUID] | None = None) -> DirtyClaim:
        """Claims up to `batch` contacts to send, in the order of their change.

        All that are due, or those of `contact_ids`.
        """
        wanted = None if contact_ids is None else [str(one) for one in contact_ids]
        answer = self._write("claim_dirty_contacts", batch=batch, contact_ids=wanted, dry_run=False)
        return understood(DirtyClaim, answer)

    def settle_partner(
        self, contact_id: UUID, changed_seq: int | None, item: PartnerItem
    ) -> Settled:
        """Notes the agreed state of a sent contact; `changed_seq` is the one that was claimed.

        Its partner is noted even if the result is stale.
        """
        answer = self._write(
            "settle_partner",
            run_id=str(self.run_id),
            contact_id=str(contact_id),
            changed_seq=changed_seq,
            item=item.model_dump(mode="json"),
        )
        return understood(Settled, answer)

    def adopt_partner(
        self,
        contact_id: UUID,
        metakocka_id: str,
        base: Fields,
        intent_id: UUID | None = None,
    ) -> bool:
        """Notes at once that a contact is this partner; the contact is still to be sent.

        `intent_id` is the call that has made the partner. False where another contact has taken
        the partner, or the contact is gone.
        """
        item = PartnerItem(metakocka_id=metakocka_id, partner_hash=None, base=base)
        settled = self.settle_partner(contact_id, None, item)
        if settled.status not in ("adopted", "updated", "unchanged"):
            return False
        if intent_id is not None:
            # in this order: the partner of a settled intent is searched no more
            self.settle_intent(intent_id, "settled", metakocka_id)
        return True

    def block_contact(self, contact_id: UUID, changed_seq: int, missing: Sequence[str]) -> bool:
        """Notes why a contact is not sent; False where it has changed and will be claimed again."""
        answer = self._write(
            "block_contact",
            contact_id=str(contact_id),
            changed_seq=changed_seq,
            missing=list(missing),
            state="blocked",
        )
        return understood(bool, answer)

    def ask_partner(
        self,
        contact_id: UUID,
        changed_seq: int | None,
        metakocka_id: str | None,
        partners: Sequence[Fields],
        intent_id: UUID | None = None,
    ) -> bool:
        """Asks a person which of up to 100 partners a contact is, each with its `metakocka_id`.

        `metakocka_id` is the contact's present partner, or the one that is gone. Without
        `changed_seq` the contact keeps it. `intent_id` is the call that may have made one of them.
        False where the contact has changed and will be claimed again.
        """
        answer = self._write(
            "ask_partner",
            contact_id=str(contact_id),
            changed_seq=changed_seq,
            metakocka_id=metakocka_id,
            partners=list(partners),
        )
        has_asked = understood(bool, answer)
        if has_asked and intent_id is not None:
            # in this order: the person's answer settles the outcome of the call
            self.settle_intent(intent_id, "abandoned")
        return has_asked

    def postpone_contact(self, contact_id: UUID, retry_in: timedelta) -> None:
        """Gives a claimed contact back, to be claimed again after `retry_in`, a day at most."""
        self._write(
            "postpone_contact",
            contact_id=str(contact_id),
            retry_in=f"{retry_in.total_seconds()} seconds",
        )

    # calls that must not happen twice

    def begin_intent(
        self,
        contact_id: UUID,
        operation: Literal["add_partner", "update_partner"],
        fingerprint: str,
        sent: Fields,
    ) -> BegunIntent:
        """Notes that a call will be made, or answers the intent that is open already.

        The search for the outcome uses the fields of `sent`.

        Raises:
            Conflict: The contact is a partner by now.
        """
        answer = self._write(
            "begin_intent",
            contact_id=str(contact_id),
            operation=operation,
            fingerprint=fingerprint,
            sent=sent,
        )
        return understood(BegunIntent, answer)

    def settle_intent(
        self,
        intent_id: UUID,
        state: Literal["sent", "unknown", "settled", "abandoned"],
        metakocka_id: str | None = None,
    ) -> bool:
        """Notes how a call stands; False where the worker must not go on.

        `sent` is noted just before the call and granted once. Where the database's answer is lost,
        the next worker sees an intent that was never called.
        """
        answer = self._write(
            "settle_intent", intent_id=str(intent_id), state=state, metakocka_id=metakocka_id
        )
        return understood(bool, answer)

    def unsettled_intents(self) -> list[UnsettledIntent]:
        """The open intents of the account, the oldest first, up to 500."""
        answer = self.call("unsettled_intents", {"account_id": str(self.account_id)})
        return understood(list[UnsettledIntent], answer)

    def forget_partner(self, contact_id: UUID, metakocka_id: str) -> bool:
        """Notes which partner a deleted contact is; False where one of the two is another's."""
        answer = self._write(
            "forget_partner", contact_id=str(contact_id), metakocka_id=metakocka_id
        )
        return understood(bool, answer)

    def _of_run(self, function: str, **arguments: object) -> object:
        return self.call(function, {"run_id": str(self.run_id), "worker": self.worker, **arguments})

    def _write(self, function: str, **arguments: object) -> object:
        return self.call(
            function, {"account_id": str(self.account_id), "worker": self.worker, **arguments}
        )


def _read_partners(
    call: Calling, account_id: UUID, refs: Sequence[PartnerRef]
) -> list[KnownPartner]:
    given = [ref.model_dump(mode="json") for ref in refs]
    answer = call("read_partners", {"account_id": str(account_id), "refs": given})
    known = understood(list[KnownPartner], answer)
    if [one.metakocka_id for one in known] != [ref.metakocka_id for ref in refs]:
        raise StoreError("The database's answer is about other partners.")
    return known
