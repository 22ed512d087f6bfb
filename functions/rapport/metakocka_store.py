"""The database's part in the sync with Metakocka: runs, partners, contacts to send, intents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from rapport.errors import StoreError
from rapport.metakocka_rows import (
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
)
from rapport.store import Store, understood


class MetakockaStore(Store):
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
    ) -> Run | None:
        """Leases an account; None where another works for it, or a wake finds nothing to do.

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
                "run_id": _text(run_id),
                "contact_id": str(contact_id),
                "changed_seq": changed_seq,
                "item": item.model_dump(mode="json"),
            },
        )
        return understood(Settled, answer)

    def block_contact(
        self,
        account_id: UUID,
        contact_id: UUID,
        changed_seq: int,
        missing: Sequence[str],
        state: Literal["blocked", "conflict", "unknown"] = "blocked",
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
            },
        )
        return understood(bool, answer)

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
            },
        )
        return understood(bool, answer)

    def log_sync_error(self, account_id: UUID, error: SyncError) -> UUID:
        """Writes an error for the account's admins; answers its id. Repeated, it is there twice."""
        answer = self._call(
            "log_sync_error", {"account_id": str(account_id), **error.model_dump(mode="json")}
        )
        return understood(UUID, answer)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
