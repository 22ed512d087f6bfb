"""How far a run has come: what became of each, told to the database as it goes on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from rapport.errors import MetakockaError, MetakockaUnavailable, RapportError
from rapport.log import described, logger
from rapport.metakocka.sync.lease import Lease
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import Counts, Fields, Run, SyncError

# so many in a row: whoever comes next would fare no better
LONGEST = 3


@dataclass
class Silence:
    """The calls of one run that nobody has answered."""

    # the last of those in a row
    error: MetakockaUnavailable | None = None
    _in_a_row: int = 0
    _is_heard: bool = False

    def add(self, error: MetakockaUnavailable) -> None:
        """Notes a call without an answer; raises it after too many, or where we are to wait."""
        self.error = error
        self._in_a_row += 1
        if self._in_a_row >= LONGEST or error.retry_after is not None:
            raise error

    def broken(self) -> None:
        """Notes that there was an answer."""
        self.error, self._in_a_row, self._is_heard = None, 0, True

    def end(self) -> None:
        """Raises the last of the calls where none at all was answered."""
        if self.error is not None and not self._is_heard:
            raise self.error


# seconds between two words to those who watch, and to the database that says whether to go on
KEEP = 15.0
TELL = 2.0
# outcomes that are told to whoever has begun the run
TROUBLES = 20

Status = Literal[
    "created",  # a partner or a contact was made
    "adopted",  # it was there, and is known as this one now
    "updated",
    "unchanged",
    "blocked",  # something is missing
    "conflict",  # a person decides
    "waiting",  # it will be tried again
    "failed",
    "not_found",
]
_GOOD = frozenset({"created", "adopted", "updated"})
_WAITING = frozenset({"conflict", "waiting"})


@dataclass(frozen=True)
class Outcome:
    """What became of one contact or partner; `id` is what it was asked for by."""

    id: str
    status: Status
    contact_id: UUID | None = None
    metakocka_id: str | None = None
    code: str | None = None
    message: str | None = None
    field: str | None = None

    @property
    def is_good(self) -> bool:
        return self.status in _GOOD or self.status == "unchanged"


@dataclass
class Progress:
    """The counts of a run that is leased to `worker`; whatever is told extends the lease.

    Telling raises LeaseLost once another worker has taken the run over.
    """

    store: MetakockaStore
    run: Run
    account_id: UUID
    worker: str
    # outcomes are kept for whoever waits for them
    keep_outcomes: bool = False
    watch: Callable[[Counts], object] = lambda _counts: None
    cursor: JsonValue = None
    total: int | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    # the first that did not go well
    troubles: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cursor, self.total = self.run.cursor, self.run.total
        self._done = Counter(
            succeeded=self.run.succeeded,
            failed=self.run.failed,
            unchanged=self.run.unchanged,
            waiting=self.run.waiting,
        )
        self._errors = Counter(self.run.errors)
        self._told_at = self._begun_at = time.monotonic()
        self.lease = Lease(self.store, self.run.run_id, self.worker, self.run.lease)

    def now(self) -> datetime:
        """The time by the database's clock, never later than it is there."""
        return self.run.now + timedelta(seconds=time.monotonic() - self._begun_at)

    @property
    def counts(self) -> Counts:
        done = self._done.total()
        return Counts(
            total=None if self.total is None else max(self.total, done),
            done=done,
            succeeded=self._done["succeeded"],
            failed=self._done["failed"],
            unchanged=self._done["unchanged"],
            waiting=self._done["waiting"],
            errors=dict(self._errors),
        )

    def add(self, outcome: Outcome) -> None:
        """Counts what became of one."""
        self._done[_kind(outcome.status)] += 1
        # a question to a person is no error
        if not outcome.is_good and outcome.status != "conflict":
            self._errors[outcome.code or outcome.status] += 1
        if not outcome.is_good and len(self.troubles) < TROUBLES:
            self.troubles.append(outcome)
        if self.keep_outcomes:
            self.outcomes.append(outcome)
        self.watch(self.counts)
        self._keep(TELL)

    def add_unchanged(self, count: int) -> None:
        """Counts partners that are as they were."""
        self._done["unchanged"] += count
        self.watch(self.counts)

    def keep(self) -> None:
        """Makes sure of the lease; called before each slow step."""
        self.lease.step()
        self._keep(KEEP)

    def tell(self) -> None:
        """Notes how far the run has come."""
        asked_at = time.monotonic()
        self.store.advance_sync(self.run.run_id, self.worker, self.cursor, self.counts)
        self.lease.extended(asked_at)
        self._told_at = time.monotonic()

    def _keep(self, patience: float) -> None:
        if time.monotonic() - self._told_at >= patience:
            self.tell()

    def log(
        self,
        operation: str,
        error: RapportError,
        *,
        contact_id: UUID | None = None,
        metakocka_id: str | None = None,
        details: Fields | None = None,
    ) -> None:
        """Writes an error for the account's admins, and for the log; a request's body never."""
        attempts, known = 1, dict(details or {})
        if isinstance(error, MetakockaError):
            attempts = error.attempts
            known |= {
                name: value
                for name in ("operation", "opr_code")
                if (value := getattr(error, name)) is not None
            }
        if error.field:
            known["field"] = error.field
        logger.warning(
            "not synchronized",
            extra={
                "account_id": str(self.account_id),
                "run_id": str(self.run.run_id),
                "contact_id": str(contact_id),
                "metakocka_id": metakocka_id,
                **described(error),
                "operation": operation,
            },
        )
        self.store.log_sync_error(
            self.account_id,
            SyncError(
                operation=operation,
                code=error.code,
                message=str(error),
                run_id=self.run.run_id,
                user_id=self.run.user_id,
                contact_id=contact_id,
                metakocka_id=metakocka_id,
                details=known,
                attempts=attempts,
            ),
        )


def _kind(status: Status) -> Literal["succeeded", "failed", "unchanged", "waiting"]:
    if status == "unchanged":
        return "unchanged"
    if status in _WAITING:
        return "waiting"
    return "succeeded" if status in _GOOD else "failed"
