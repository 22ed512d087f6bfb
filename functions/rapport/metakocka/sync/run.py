"""A run of the sync for one account: lease the account, read, send, and report how it ended.

Only the worker that has the lease calls Metakocka for the account. A run that ends early, because
its time is over or its worker was killed, is continued by the next worker.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

import httpx

from rapport.errors import ConfigError, Conflict, LeaseLost, MetakockaClosed, NotFound, RapportError
from rapport.log import described, log_crash, logger
from rapport.metakocka.api.client import MetakockaClient, Operation, Policy, company, policies_of
from rapport.metakocka.sync.plan import Terms
from rapport.metakocka.sync.progress import CallFailures, Outcome, Progress
from rapport.metakocka.sync.pull import Pull
from rapport.metakocka.sync.push import Push
from rapport.parameters import SecretSource
from rapport.settings import MetakockaSettings
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import (
    Connection,
    Counts,
    Direction,
    Due,
    Run,
    SyncRequest,
    Trigger,
)

# seconds: the longest time of one step, with its repetitions
RESERVE = 80.0
# seconds: a call that Metakocka has received takes effect by then, or never
LATE = 60.0


@dataclass(frozen=True)
class Report:
    """How a run ended; `outcomes` are those of a request, and `error` is why it failed.

    `troubles` are the first outcomes that did not go well.
    """

    run_id: UUID
    state: Literal["done", "stopped", "failed", "taken over"]
    counts: Counts
    outcomes: tuple[Outcome, ...] = ()
    error: RapportError | None = None
    troubles: tuple[Outcome, ...] = ()
    # Metakocka takes no calls before this time
    paused_until: datetime | None = None


@dataclass(frozen=True)
class Sync:
    """Runs the sync for any account; no two workers have the same `worker`."""

    store: MetakockaStore
    secrets: SecretSource
    settings: MetakockaSettings
    worker: str
    # seconds left
    remaining: Callable[[], float]
    reserve: float = RESERVE
    late: float = LATE
    policies: Mapping[Operation, Policy] = field(default_factory=dict)
    transport: httpx.BaseTransport | None = None
    watch: Callable[[Counts], object] = lambda _counts: None

    def run(
        self,
        account_id: UUID,
        direction: Direction,
        trigger: Trigger,
        user_id: UUID | None = None,
        request: SyncRequest | None = None,
    ) -> Report | None:
        """One run of this request, or of all due work; None if another worker has the account.

        Raises:
            StoreError: The run can't be begun or ended.
            NotFound: The account has no active connection.
        """
        left = self.remaining()
        run = self.store.begin_sync(
            account_id,
            direction,
            trigger,
            self.worker,
            user_id,
            request,
            None if math.isinf(left) else left,
        )
        if run is None:
            return None
        is_waited_for = request not in (None, SyncRequest())
        store = self.store.of_run(account_id, run.run_id, self.worker)
        progress = Progress(store, run, keep_outcomes=is_waited_for, watch=self.watch)
        begun = time.monotonic()
        try:
            with progress.lease:
                report = self._run(run, progress, is_waited_for=is_waited_for)
        except LeaseLost:
            # the work of this worker is written, and another worker continues
            report = Report(run.run_id, "taken over", progress.counts)
        except KeyboardInterrupt:
            store.finish("stopped")
            raise
        except Exception as error:
            log_crash(error, account_id=str(account_id), run_id=str(run.run_id))
            store.finish("failed")
            raise
        logger.info(
            "synchronized",
            account_id=str(account_id),
            run_id=str(run.run_id),
            direction=run.direction,
            state=report.state,
            seconds=round(time.monotonic() - begun, 3),
            **progress.counts.model_dump(),
        )
        return report

    def client(
        self,
        account_id: UUID,
        connection: Run | Connection,
        before: Callable[[], object] = lambda: None,
    ) -> MetakockaClient:
        """The client of an account's company; `before` is called before each try of a call.

        Raises:
            ConfigError: Its server is not one that may be called.
        """
        return MetakockaClient(
            company(self.settings, str(account_id), connection.company_id, connection.base_url),
            self.secrets,
            {**policies_of(connection.retries), **self.policies},
            self.transport,
            before,
        )

    def terms(self, connection: Run | Connection) -> Terms:
        """How an account merges."""
        return Terms(connection.conflict_rule, self.settings.metakocka_region)

    def _run(self, run: Run, progress: Progress, *, is_waited_for: bool) -> Report:
        store = progress.store
        paused_until: datetime | None = None
        state: Literal["done", "stopped", "failed"] = "failed"
        failure: RapportError | None = None
        pull: Pull | None = None
        try:
            with self.client(store.account_id, run, progress.keep) as client:
                terms, failures = self.terms(run), CallFailures()
                push = Push(store, client, progress, terms, self._has_time, self.late, failures)
                pull = Pull(
                    store,
                    client,
                    progress,
                    terms,
                    self._has_time,
                    between=push.run_between if run.request == SyncRequest() else lambda: False,
                    failures=failures,
                )
                state = "done" if self._do(run, push, pull) else "stopped"
        except LeaseLost:
            raise
        except RapportError as error:
            failure = error
            progress.log("syncMetakocka", error, metakocka_id="batch")
        progress.tell()
        if failure is not None and _is_about_all_calls(failure):
            # no contact would fare better: the account is paused, and the run continues after
            # that, unless a user waits for its answer
            state = "failed" if is_waited_for else "stopped"
            paused_until = store.pause(state, str(failure), failure.retry_after)
        else:
            seen_until = pull.seen_until if pull else None
            store.finish(state, seen_until)
        return Report(
            run.run_id,
            state,
            progress.counts,
            tuple(progress.outcomes),
            failure,
            tuple(progress.troubles),
            paused_until,
        )

    def _do(self, run: Run, push: Push, pull: Pull) -> bool:
        """Whether the whole run is done."""
        request = run.request
        if request == SyncRequest():
            push.settle_orphans()
        # to send a contact is to merge it with its partner too
        is_read = run.direction != "to_metakocka" and request.contact_ids is None
        if is_read and not pull.run(request.metakocka_ids):
            return False
        if request.contact_ids is not None:
            push.progress.total = len(request.contact_ids)
            return push.run(request.contact_ids)
        # contacts are sent after all partners are read; a request for partners sends none
        return request.metakocka_ids is not None or push.run()

    def _has_time(self) -> bool:
        return self.remaining() > self.reserve


def _is_about_all_calls(failure: RapportError) -> bool:
    """Whether the account's calls pause.

    After a call without an answer the next run tries again: one contact may have been the cause.
    """
    return isinstance(failure, MetakockaClosed | ConfigError) or failure.retry_after is not None


ACCOUNTS = 50


def serve(sync: Sync, watch: float = 0) -> Counter[str]:
    """Runs until no account has anything to do, or the time is nearly over; counts runs by state.

    It looks again after each run: a wake while the account was leased found nothing due. For
    `watch` seconds it stays while other workers have runs: when one of them was killed, this one
    takes over as soon as the lease ends.

    Raises:
        StoreError: The database can't be reached, or refuses.
    """
    ends: Counter[str] = Counter()
    left_alone: set[UUID] = set()
    watches_until = time.monotonic() + watch
    while sync.remaining() > sync.reserve:
        due = [
            one for one in sync.store.connections_due(ACCOUNTS) if one.account_id not in left_alone
        ]
        if not due:
            lease_end = sync.store.next_lease_end() if time.monotonic() < watches_until else None
            if lease_end is None:
                break
            time.sleep(min(lease_end + 0.05, max(watches_until - time.monotonic(), 0)))
            continue
        for one in due:
            if sync.remaining() <= sync.reserve:
                break
            end = _run(sync, one)
            ends[end] += 1
            if end != "done":
                # for the next worker
                left_alone.add(one.account_id)
    return ends


def _run(sync: Sync, due: Due) -> str:
    direction: Direction = "to_metakocka"
    trigger: Trigger = "wake"
    if "schedule" in due.reasons and "run" not in due.reasons:
        direction, trigger = "both", "schedule"
    try:
        report = sync.run(due.account_id, direction, trigger)
    except (NotFound, Conflict):
        return "passed over"  # disconnected, or another worker has it
    except RapportError as error:
        # the other accounts go on
        logger.error("not run", extra={"account_id": str(due.account_id), **described(error)})
        return "failed"
    except Exception as error:  # noqa: BLE001 - after a crash, too
        log_crash(error, account_id=str(due.account_id))
        return "failed"
    return report.state if report else "passed over"
