"""The database's part in the sync with Metakocka: runs, partners, errors, and all of sending."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from rapport.errors import StoreError
from rapport.metakocka_rows import (
    AtWork,
    Connection,
    Counts,
    Direction,
    Due,
    KnownPartner,
    PartnerItem,
    PartnerRef,
    PartnerResult,
    Request,
    Run,
    SyncError,
    Trigger,
)
from rapport.metakocka_sending import SendingStore
from rapport.store import understood


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
