"""After all events in any order, a reminder is sent at most once, and only if it applies.

Jobs and invoices move, are cancelled, are paid; the customer opts out and in; the quiet hours
change; the clocks are put forward and back; workers die. A model in Python, which knows nothing of
the SQL, says after each run of the worker which reminders may have been sent, and which must.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.local.stack.postgres import Cluster, Database
from tests.sql.portal import CILKA
from tests.world import ALPINE, World, seed_uuid

ZONE = ZoneInfo("Europe/Ljubljana")
# five hours before the clocks are put forward, and back: a run or two later they have changed
BEGINNINGS = (datetime(2027, 3, 27, 20, tzinfo=UTC), datetime(2027, 10, 30, 20, tzinfo=UTC))
STEP = timedelta(minutes=15)
QUIET = (None, (time(22), time(8)), (time(22), time(2, 30)), (time(1, 15), time(4)))
JOBS = [seed_uuid(f"job {number}") for number in range(2)]
INVOICE = seed_uuid("invoice")
DAY_RULE, HOUR_RULE, DUE_RULE = (seed_uuid(f"rule {name}") for name in ("day", "hour", "due"))
MINUTES = {DAY_RULE: 1440, HOUR_RULE: 60}
DUE_AT = time(2, 30)

moment = st.integers(0, 5 * 96)
change = st.one_of(
    st.tuples(st.just("move"), st.integers(0, 1), moment),
    st.tuples(st.just("job"), st.integers(0, 1), st.sampled_from(["in_progress", "cancelled"])),
    st.tuples(st.just("wants"), st.booleans()),
    st.tuples(st.just("quiet"), st.sampled_from(QUIET)),
    st.tuples(st.just("due"), st.integers(0, 5)),
    st.tuples(st.just("invoice"), st.sampled_from(["paid", "void"])),
)
# A worker does its work; it dies before it commits; it is cut off after a reminder, with others
# left; or its answer is lost, and another one does the same again.
Ends = Literal["done", "dies", "cut", "again"]
ENDS: tuple[Ends, ...] = ("done", "dies", "cut", "again")
run = st.tuples(st.just("run"), st.integers(0, 60), st.sampled_from(ENDS))
# most of what happens is followed by a run
events = st.lists(st.one_of(run, st.tuples(change, run), change), min_size=1, max_size=14).map(
    lambda found: [one for e in found for one in (e if isinstance(e[0], tuple) else (e,))]
)


@dataclass
class Model:
    """What is known of the world at a time, and which reminders were settled."""

    begin: datetime
    at: datetime
    starts: list[datetime]
    statuses: list[str]
    due_on: date
    invoice: str = "sent"
    wants: bool = True
    quiet: tuple[time, time] | None = None

    def is_quiet(self, at: datetime) -> bool:
        if self.quiet is None:
            return False
        start, end = self.quiet
        local = at.astimezone(ZONE).time()
        return start <= local < end if start < end else local >= start or local < end

    def occasions(self) -> Iterator[tuple[Any, Any, str, datetime, datetime]]:
        """Rule, subject, occasion, and from when until when, of all that applies now."""
        for rule, minutes in MINUTES.items():
            for job, starts, status in zip(JOBS, self.starts, self.statuses, strict=True):
                if status in {"scheduled", "rescheduled"}:
                    named = starts.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                    yield rule, job, named, starts - timedelta(minutes=minutes), starts
        if self.invoice == "sent":
            day = self.due_on - timedelta(days=1)
            # of an hour that comes twice, the second one
            due = datetime.combine(day, DUE_AT, ZONE).replace(fold=1)
            if day != date(2027, 10, 31):
                due = due.replace(fold=0)
            end = datetime.combine(self.due_on + timedelta(days=1), time(), ZONE)
            yield DUE_RULE, INVOICE, str(self.due_on), due.astimezone(UTC), end.astimezone(UTC)

    def may_be_sent(self, rule: Any, subject: Any, occasion: str) -> bool:
        for one in self.occasions():
            if one[:3] == (rule, subject, occasion):
                _, _, _, due, end = one
                # before the quiet hours only where they would be in the way
                return self.at < end and (self.at >= due or self.is_quiet(due))
        return False

    def must_be_settled(self) -> set[tuple[Any, Any, str]]:
        return {
            (rule, subject, occasion)
            for rule, subject, occasion, due, end in self.occasions()
            if due <= self.at < end
            and self.at - due < timedelta(days=3)
            and not self.is_quiet(self.at)
        }


@pytest.fixture(scope="module")
def shared(cluster: Cluster, world_template: Database) -> Iterator[World]:
    database = cluster.clone_database(world_template, "reminders")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute("update public.accounts set time_zone = %s where id = %s", [ZONE.key, ALPINE])
        for rule, minutes in MINUTES.items():
            owner.execute(
                "insert into public.reminder_rules (id, account_id, name, kind, minutes, text)"
                " values (%s, %s, 'any', 'before_appointment', %s, '{{appointment.time}}')",
                [rule, ALPINE, minutes],
            )
        owner.execute(
            "insert into public.reminder_rules"
            " (id, account_id, name, kind, days, time_of_day, text)"
            " values (%s, %s, 'any', 'invoice_due_in', 1, %s, '{{invoice.number}}')",
            [DUE_RULE, ALPINE, DUE_AT],
        )
        yield World(database, owner)
    cluster.drop_database(database.name)


def start(world: World, begin: datetime) -> Model:
    model = Model(
        begin,
        begin,
        [begin + timedelta(days=9)] * 2,
        ["scheduled"] * 2,
        begin.date() + timedelta(9),
    )
    for job, starts in zip(JOBS, model.starts, strict=True):
        world.owner.execute(
            "insert into public.jobs (id, customer_id, service_type, starts_at)"
            " values (%s, %s, 'any', %s)",
            [job, CILKA, starts],
        )
    world.owner.execute(
        "insert into public.invoices (id, customer_id, number, currency, amount_minor, due_on)"
        " values (%s, %s, '1', 'EUR', 1, %s)",
        [INVOICE, CILKA, model.due_on],
    )
    world.owner.execute("update public.invoices set status = 'sent' where id = %s", [INVOICE])
    return model


def happen(world: World, model: Model, event: tuple[Any, ...]) -> None:
    """Somebody changes something, if it can still be changed."""
    match event:
        case ("move", int(job), int(steps)) if model.statuses[job] != "cancelled":
            model.starts[job] = model.begin + steps * STEP
            if model.statuses[job] == "scheduled":
                model.statuses[job] = "rescheduled"
            world.owner.execute(
                "update public.jobs set starts_at = %s where id = %s",
                [model.starts[job], JOBS[job]],
            )
        case ("job", int(job), str(status)) if model.statuses[job] in {"scheduled", "rescheduled"}:
            model.statuses[job] = status
            world.owner.execute(
                "update public.jobs set status = %s where id = %s", [status, JOBS[job]]
            )
        case ("wants", bool(wants)):
            model.wants = wants
            world.owner.execute(
                "update public.contacts set preferences = jsonb_build_object("
                "'wants_reminders', %s::boolean) where id = %s",
                [wants, CILKA],
            )
        case ("quiet", quiet):
            model.quiet = quiet
            world.owner.execute(
                "update public.accounts set quiet_from = %s, quiet_until = %s where id = %s",
                [*(quiet or (None, None)), ALPINE],
            )
        case ("due", int(days)) if model.invoice == "sent":
            model.due_on = (model.begin + timedelta(days=days)).date()
            world.owner.execute(
                "update public.invoices set due_on = %s where id = %s", [model.due_on, INVOICE]
            )
        case ("invoice", str(status)) if model.invoice == "sent":
            model.invoice = status
            world.owner.execute(
                "update public.invoices set status = %s where id = %s", [status, INVOICE]
            )


SETTLED = "select rule_id, subject_id, occasion, reason from private.sent_reminders"
SEND = "select backend.send_reminders(%s, %s)"
POSTED = "select count(*) from public.messages where content ->> 'event' like 'reminder.%%'"


def work(world: World, model: Model, steps: int, ends: Ends) -> None:
    """The time passes, and a worker runs; what it did is what it may and must do."""
    model.at += steps * STEP
    batch = 1 if ends == "cut" else 500
    before = {tuple(row.values())[:3] for row in world.rows(SETTLED)}
    messages = world.value(POSTED, {})
    with world.owner.transaction(force_rollback=ends == "dies"):
        world.value(SEND, [batch, model.at])
    if ends == "dies":
        return
    if ends == "again":
        nothing = {"sent": 0, "dropped": 0, "is_done": True, "after": None}
        assert world.value(SEND, [batch, model.at]) == nothing
    found = world.rows(SETTLED)
    new = [row for row in found if tuple(row.values())[:3] not in before]
    sent = [row for row in new if row["reason"] is None]

    assert world.value(POSTED, {}) - messages == len(sent)
    assert not model.is_quiet(model.at) or not new
    for row in new:
        assert model.may_be_sent(row["rule_id"], row["subject_id"], row["occasion"]), (row, model)
        assert row["reason"] == (None if model.wants else "opted_out")
    assert len(new) <= batch
    if ends == "cut":
        return
    assert model.must_be_settled() <= {tuple(row.values())[:3] for row in found}


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(begin=st.sampled_from(BEGINNINGS), history=events)
def test_reminders_are_sent_once_and_only_if_they_apply(
    shared: World, begin: datetime, history: list[tuple[Any, ...]]
) -> None:
    with shared.owner.transaction(force_rollback=True):
        live(shared, begin, history)


def live(world: World, begin: datetime, history: list[tuple[Any, ...]]) -> Model:
    """What happens, one after the other; and the worker after the last one sees to what is left."""
    model = start(world, begin)
    for what, *details in history:
        if what == "run":
            work(world, model, *details)
        else:
            happen(world, model, (what, *details))
    work(world, model, 1, "done")
    return model


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_clocks_change_between_the_restarts_of_workers(shared: World, begin: datetime) -> None:
    """One history that surely has it all, since the others are chosen by chance."""
    history: list[tuple[Any, ...]] = [
        ("quiet", (time(22), time(2, 30))),
        # in the hour that is left out or comes twice, and the day after
        ("move", 0, 5 * 4 + 4 + 1),
        ("move", 1, 24 * 4 + 5 * 4 + 1),
        ("due", 2),
        ("run", 2, "dies"),
        ("run", 14, "cut"),
        ("run", 4, "again"),
        ("move", 0, 30 * 4),
        ("run", 4, "dies"),
        ("run", 60, "cut"),
        ("wants", False),
        ("move", 1, 40 * 4),
        ("run", 36, "again"),
    ]
    with shared.owner.transaction(force_rollback=True):
        model = live(shared, begin, history)
        assert model.at.astimezone(ZONE).utcoffset() != begin.astimezone(ZONE).utcoffset()
        reasons = {row["reason"] for row in shared.rows(SETTLED)}
        assert reasons == {None, "opted_out"}
