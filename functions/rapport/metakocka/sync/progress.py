"""How far a run has come: its counts, its outcomes, and the errors that it writes for admins."""

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
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import Counts, Fields, Run, SyncError

# what the log of errors calls the two directions
TO_METAKOCKA = "syncContactToMetakocka"
FROM_METAKOCKA = "syncContactFromMetakocka"
# after so many failures in a row the next call would fail too
LONGEST = 3


@dataclass
class CallFailures:
    """The failed calls of one run, shared by push and pull: both count toward the same limit."""

    # the last one, while no call has succeeded after it
    error: MetakockaUnavailable | None = None
    _in_a_row: int = 0
    _has_succeeded: bool = False

    def add(self, error: MetakockaUnavailable) -> None:
        """Notes a call without an answer; raises it at the limit, or where we have to wait."""
        self.error = error
        self._in_a_row += 1
        if self._in_a_row >= LONGEST or error.retry_after is not None:
            raise error

    def succeeded(self) -> None:
        """Notes that Metakocka answered a call."""
        self.error, self._in_a_row, self._has_succeeded = None, 0, True

    def end(self) -> None:
        """Raises the last failure where no call of the run succeeded."""
        if self.error is not None and not self._has_succeeded:
            raise self.error


# seconds: how often a step, and an outcome, tells the database how far the run has come
KEEP = 15.0
TELL = 2.0
# a report shows this many outcomes that did not go well
TROUBLES = 20

Status = Literal[
    "created",  # a partner or a contact was made
    "adopted",  # it existed on both sides, and the two are linked now
    "updated",
    "unchanged",
    "blocked",  # a field is missing
    "conflict",  # a person decides
    "waiting",  # the next try is later
    "failed",
    "not_found",
]
_GOOD = frozenset({"created", "adopted", "updated"})
_WAITING = frozenset({"conflict", "waiting"})


@dataclass(frozen=True)
class Outcome:
    """The outcome for one contact or partner; `id` is the one that the request named."""

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
    """The counts of a run. Each report of them to the database extends the run's lease.

    A report raises LeaseLost once another worker has the run.
    """

    store: RunStore
    run: Run
    # for a caller who waits for the outcome of each contact
    keep_outcomes: bool = False
    watch: Callable[[Counts], object] = lambda _counts: None
    cursor: JsonValue = None
    total: int | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    # the first outcomes that did not go well
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
        self.lease = Lease(self.store, self.run.lease)

    def now(self) -> datetime:
        """The time by the database's clock, or a little earlier."""
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
        """Counts one outcome."""
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
        """Counts partners that have not changed."""
        self._done["unchanged"] += count
        self.watch(self.counts)

    def keep(self) -> None:
        """Checks the lease and extends it in time; called before each slow step."""
        self.lease.step()
        self._keep(KEEP)

    def tell(self) -> None:
        """Notes how far the run has come."""
        requested_at = time.monotonic()
        self.store.advance(self.cursor, self.counts)
        self.lease.extended(requested_at)
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
        """Writes an error for the account's admins and into the log, without a request's body."""
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
                "account_id": str(self.store.account_id),
                "run_id": str(self.run.run_id),
                "contact_id": str(contact_id),
                "metakocka_id": metakocka_id,
                **described(error),
                "operation": operation,
            },
        )
        self.store.log_error(
            SyncError(
                operation=operation,
                code=error.code,
                message=str(error),
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
