"""The database's part in the sync with Metakocka: runs, partners, errors, and all of sending."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Literal, Self
from uuid import UUID

from pydantic import JsonValue

from rapport.errors import StoreError
from rapport.store.metakocka_rows import (
    AtWork,
    BegunIntent,
    Connection,
    Counts,
    Direction,
    DirtyClaim,
    Due,
    Fields,
    KnownPartner,
    PartnerItem,
    PartnerRef,
    PartnerResult,
    Request,
    Run,
    Settled,
    SyncError,
    Trigger,
    UnsettledIntent,
)
from rapport.store.postgrest import Store, understood


class SendingStore(Store):
    """What is asked of the database when contacts are sent; every call may be repeated.

    Every call raises as those of MetakockaStore.
    """

    # whose lease of an account its writes need
    worker: str | None = None

    def bound_to(self, worker: str) -> Self:
        """The same store for one worker: what it writes is refused once its lease is lost."""
        bound = copy(self)
        bound.worker = worker
        return bound

    def claim_dirty_contacts(
        self,
        account_id: UUID,
        worker: str,
        batch: int,
        contact_ids: Sequence[UUID] | None = None,
        *,
        dry_run: bool = False,
    ) -> DirtyClaim:
        """Leases up to `batch` contacts to be sent, in the order of their change.

        All that are due, or those of `contact_ids`; a dry run shows them and leases none.
        """
        answer = self._call(
            "claim_dirty_contacts",
            {
                "account_id": str(account_id),
                "worker": worker,
                "batch": batch,
                "contact_ids": None if contact_ids is None else [str(one) for one in contact_ids],
                "dry_run": dry_run,
            },
        )
        return understood(DirtyClaim, answer)

    def settle_partner(
        self,
        account_id: UUID,
        run_id: UUID | None,
        contact_id: UUID,
        changed_seq: int | None,
        item: PartnerItem,
    ) -> Settled:
        """Notes what was agreed when a contact was sent; `changed_seq` is as it was claimed.

        Also where the result is stale it stands that the contact is this partner.
        """
        answer = self._call(
            "settle_partner",
            {
                "account_id": str(account_id),
                "run_id": None if run_id is None else str(run_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "item": item.model_dump(mode="json"),
                "worker": self.worker,
            },
        )
        return understood(Settled, answer)

    def block_contact(
        self,
        account_id: UUID,
        contact_id: UUID,
        changed_seq: int,
        missing: Sequence[str],
        state: Literal["blocked", "unknown"] = "blocked",
    ) -> bool:
        """Notes why a contact is not sent; False where it has changed and will be claimed again."""
        answer = self._call(
            "block_contact",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "missing": list(missing),
                "state": state,
                "worker": self.worker,
            },
        )
        return understood(bool, answer)

    def ask_partner(
        self,
        account_id: UUID,
        contact_id: UUID,
        changed_seq: int | None,
        metakocka_id: str | None,
        partners: Sequence[Fields],
    ) -> bool:
        """Asks people which of up to 100 partners a contact is, each with its `metakocka_id`.

        `metakocka_id` is the one that it is so far, or that is gone. Without `changed_seq` the
        contact goes on with it. False where it has changed and will be claimed again.
        """
        answer = self._call(
            "ask_partner",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "metakocka_id": metakocka_id,
                "partners": list(partners),
                "worker": self.worker,
            },
        )
        return understood(bool, answer)

    def unsettled_intents(self, account_id: UUID) -> list[UnsettledIntent]:
        """The open intents of an account, the oldest first, up to 500."""
        answer = self._call("unsettled_intents", {"account_id": str(account_id)})
        return understood(list[UnsettledIntent], answer)

    def forget_partner(self, account_id: UUID, contact_id: UUID, metakocka_id: str) -> bool:
        """Notes which partner a deleted contact is; False where one of the two is another's."""
        answer = self._call(
            "forget_partner",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "metakocka_id": metakocka_id,
                "worker": self.worker,
            },
        )
        return understood(bool, answer)

    def note_partners_seen(
        self,
        account_id: UUID,
        metakocka_ids: Sequence[str],
        seen_at: datetime,
        base: Fields | None = None,
    ) -> None:
        """Notes when partners were seen with what was agreed; for contacts that are to be sent.

        `base` is what is agreed from now on, of a single one.
        """
        self._call(
            "note_partners_seen",
            {
                "account_id": str(account_id),
                "metakocka_ids": list(metakocka_ids),
                "seen_at": seen_at.isoformat(),
                "worker": self.worker,
                "base": base,
            },
        )

    def postpone_contact(
        self, account_id: UUID, contact_id: UUID, worker: str, retry_in: timedelta
    ) -> None:
        """Gives a claimed contact back, to be claimed again after a while, a day at most."""
        self._call(
            "postpone_contact",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "worker": worker,
                "retry_in": f"{retry_in.total_seconds()} seconds",
            },
        )

    def begin_intent(
        self,
        account_id: UUID,
        contact_id: UUID,
        operation: Literal["add_partner", "update_partner"],
        fingerprint: str,
        sent: Fields,
    ) -> BegunIntent:
        """Notes that a call is about to be made, or answers the one that is open already.

        What was `sent` is what its outcome will be looked for by.
        """
        answer = self._call(
            "begin_intent",
            {
                "account_id": str(account_id),
                "contact_id": str(contact_id),
                "operation": operation,
                "fingerprint": fingerprint,
                "sent": sent,
                "worker": self.worker,
            },
        )
        return understood(BegunIntent, answer)

    def settle_intent(
        self,
        account_id: UUID,
        intent_id: UUID,
        state: Literal["sent", "unknown", "settled", "abandoned"],
        metakocka_id: str | None = None,
    ) -> bool:
        """Notes how a call stands; False where the caller must not go on.

        `sent` is noted just before the call, and True once: where its own answer was lost the
        call may have been made by another worker.
        """
        answer = self._call(
            "settle_intent",
            {
                "account_id": str(account_id),
                "intent_id": str(intent_id),
                "state": state,
                "metakocka_id": metakocka_id,
                "worker": self.worker,
            },
        )
        return understood(bool, answer)


class MetakockaStore(SendingStore):
    """What the sync asks of the database; every call may be repeated.

    Every call raises StoreUnavailable or StoreError as `Store`'s do, NotFound for what is not
    the account's, and Conflict once a run has been taken over by another worker.
    """

    def connections_due(self, batch: int) -> list[Due]:
        """Up to `batch` accounts with something to do, the longest waiting first."""
        return understood(list[Due], self._call("metakocka_connections_due", {"batch": batch}))

    def begin_sync(
        self,
        account_id: UUID,
        direction: Direction,
        trigger: Trigger,
        worker: str,
        user_id: UUID | None = None,
        request: Request | None = None,
        time_left: float | None = None,
    ) -> Run | None:
        """Leases an account; None where another works for it, or a wake finds nothing to do.

        None as well while it is paused: `sync_at_work` tells. `time_left` are the worker's
        seconds, None where nobody ends it.

        What was left or waits is gone on with: the run may be of another direction and trigger.
        A `request` is a run of its own, and its contacts are marked to be sent.
        """
        answer = self._call(
            "begin_sync",
            {
                "account_id": str(account_id),
                "direction": direction,
                "trigger": trigger,
                "worker": worker,
                "user_id": _text(user_id),
                "request": request and request.model_dump(mode="json", exclude_none=True),
                "time_left": time_left,
            },
        )
        return None if answer is None else understood(Run, answer)

    def advance_sync(
        self, run_id: UUID, worker: str, cursor: JsonValue, counts: Counts
    ) -> datetime:
        """Notes how far a run has come, and extends its lease; answers until when."""
        answer = self._call(
            "advance_sync",
            {
                "run_id": str(run_id),
                "worker": worker,
                "cursor": cursor,
                **counts.model_dump(mode="json", include=set(Counts.model_fields)),
            },
        )
        return understood(datetime, answer)

    def keep_sync(self, run_id: UUID, worker: str) -> None:
        """Extends a run's lease.

        Raises:
            LeaseLost: Another worker has taken it over.
        """
        self._call("keep_sync", {"run_id": str(run_id), "worker": worker})

    def pause_sync(
        self,
        run_id: UUID,
        worker: str,
        state: Literal["stopped", "failed"],
        reason: str,
        retry_after: float | None = None,
    ) -> datetime:
        """Ends a run because Metakocka takes no calls, and lets its account rest.

        Answers until when; `retry_after` is Metakocka's own word, in seconds.
        """
        answer = self._call(
            "pause_sync",
            {
                "run_id": str(run_id),
                "worker": worker,
                "state": state,
                "reason": reason,
                "retry_after": retry_after,
            },
        )
        return understood(datetime, answer)

    def sync_at_work(self, account_id: UUID) -> AtWork | None:
        """What keeps the account's next run waiting; None where it is not connected."""
        answer = self._call("sync_at_work", {"account_id": str(account_id)})
        return None if answer is None else understood(AtWork, answer)

    def next_lease_end(self) -> float | None:
        """In how many seconds the first lease of a run ends, unless it is extended."""
        answer = self._call("next_lease_end", {})
        return None if answer is None else understood(float, answer)

    def finish_sync(
        self,
        run_id: UUID,
        worker: str,
        state: Literal["stopped", "done", "failed"],
        documents_seen_until: datetime | None = None,
    ) -> None:
        """Ends a run, or leaves it to the next worker (`stopped`)."""
        self._call(
            "finish_sync",
            {
                "run_id": str(run_id),
                "worker": worker,
                "state": state,
                "documents_seen_until": documents_seen_until and documents_seen_until.isoformat(),
            },
        )

    def read_partners(self, account_id: UUID, refs: Sequence[PartnerRef]) -> list[KnownPartner]:
        """What is known of up to 500 partners, in their order."""
        answer = self._call(
            "read_partners",
            {"account_id": str(account_id), "refs": [ref.model_dump(mode="json") for ref in refs]},
        )
        known = understood(list[KnownPartner], answer)
        if [one.metakocka_id for one in known] != [ref.metakocka_id for ref in refs]:
            raise StoreError("The database's answer is about other partners.")
        return known

    def apply_partners(
        self,
        account_id: UUID,
        run_id: UUID | None,
        items: Sequence[PartnerItem],
        *,
        quiet: bool = False,
    ) -> list[PartnerResult]:
        """Writes up to 500 merged partners; answers what became of each, in their order.

        `quiet` leaves it to the end of the run to tell those who follow the contacts.
        """
        answer = self._call(
            "apply_partners",
            {
                "account_id": str(account_id),
                "run_id": _text(run_id),
                "items": [item.model_dump(mode="json") for item in items],
                "quiet": quiet,
                "worker": self.worker,
            },
        )
        results = understood(list[PartnerResult], answer)
        if [one.metakocka_id for one in results] != [item.metakocka_id for item in items]:
            raise StoreError("The database's answer is about other partners.")
        return results

    def connection(self, account: str) -> Connection:
        """The connection of an account, by its id or external id."""
        answer = self._call("metakocka_connection", {"account": account})
        return understood(Connection, answer)

    def log_sync_error(self, account_id: UUID, error: SyncError) -> UUID:
        """Writes an error for the account's admins; answers its id. Repeated, it is there twice."""
        answer = self._call(
            "log_sync_error", {"account_id": str(account_id), **error.model_dump(mode="json")}
        )
        return understood(UUID, answer)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
