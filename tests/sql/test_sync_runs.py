"""Runs: one at a time for an account, gone on with where another left, seen while they move."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.asking import Refusal, at_once
from tests.sql.faces import ask, refusal
from tests.sql.metakocka import apply, backend, end_quiet, partner
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid

CILKA = seed_uuid("contact cilka")


def begin(
    world: World,
    worker: str = "w",
    trigger: str = "schedule",
    account: UUID = ALPINE,
    direction: str = "both",
) -> dict[str, Any] | None:
    answer: dict[str, Any] | None = backend(
        world,
        "begin_sync",
        account_id=account,
        direction=direction,
        trigger=trigger,
        worker=worker,
    )
    return answer


def begun(world: World, worker: str = "w", **more: Any) -> dict[str, Any]:
    run = begin(world, worker, **more)
    assert run is not None
    return run


def advance(world: World, run: dict[str, Any], worker: str = "w", **counts: Any) -> Any:
    given = {"total": 10, "done": 4, "succeeded": 2, "failed": 1, "unchanged": 1} | counts
    return backend(
        world,
        "advance_sync",
        run_id=run["run_id"],
        worker=worker,
        **({"cursor": {"page": 4}} | given),
    )


def finish(
    world: World, run: dict[str, Any], state: str = "done", worker: str = "w", **more: Any
) -> Any:
    return backend(world, "finish_sync", run_id=run["run_id"], worker=worker, state=state, **more)


def end_lease(world: World) -> None:
    world.owner.execute("update private.sync_leases set lease_until = now()")


def due(world: World) -> dict[UUID, list[str]]:
    return {
        UUID(one["account_id"]): one["reasons"]
        for one in backend(world, "metakocka_connections_due", batch=10)
    }


def test_run_begins_with_all_that_its_worker_needs(erp: World) -> None:
    run = begun(erp)
    assert (run["company_id"], run["conflict_rule"], run["listing"]) == ("16", "ask", "all")
    assert (run["cursor"], run["done"], run["request"]) == (None, 0, {})
    assert erp.rows("select state, trigger, direction from public.sync_runs") == [
        {"state": "running", "trigger": "schedule", "direction": "both"}
    ]


def test_account_has_one_run_at_a_time(erp: World) -> None:
    begun(erp, "first")
    assert begin(erp, "second") is None
    # another account is another matter
    assert begin(erp, "second", account=BAY) is not None


def test_of_workers_that_begin_at_once_one_gets_the_account(erp: World) -> None:
    answers = at_once(*[lambda n=n: begin(erp, f"worker {n}") for n in range(4)])
    assert not [one for one in answers if isinstance(one, Refusal)]
    assert len([one for one in answers if one is not None]) == 1
    assert erp.value("select count(*) from public.sync_runs") == 1


def test_worker_whose_answer_was_lost_asks_again_and_has_the_same_run(erp: World) -> None:
    assert begun(erp)["run_id"] == begun(erp)["run_id"]


def test_run_of_a_worker_that_died_is_gone_on_with(erp: World) -> None:
    run = begun(erp, "first")
    advance(erp, run, "first", errors={"timeout": 1})
    end_lease(erp)

    taken = begun(erp, "second")

    assert taken["run_id"] == run["run_id"]
    assert (taken["cursor"], taken["done"], taken["errors"]) == ({"page": 4}, 4, {"timeout": 1})
    # the first one is told to stop, and can neither move nor end it
    with pytest.raises(psycopg.Error) as refused:
        advance(erp, run, "first")
    assert refused.value.sqlstate == "RP004"
    with pytest.raises(psycopg.Error) as refused:
        finish(erp, run, "done", "first")
    assert refused.value.sqlstate == "RP004"


def test_run_that_stops_before_its_time_is_over_is_the_next_ones(erp: World) -> None:
    run = begun(erp)
    advance(erp, run)
    assert finish(erp, run, "stopped") == "stopped"
    assert due(erp)[ALPINE][0] == "run"
    again = begun(erp, "second")
    assert (again["run_id"], again["cursor"]) == (run["run_id"], {"page": 4})
    finish(erp, again, "done", "second")
    assert begun(erp, "third")["run_id"] != run["run_id"]


def test_ended_run_says_how_long_it_took_and_may_be_ended_twice(erp: World) -> None:
    run = begun(erp)
    assert finish(erp, run) == finish(erp, run) == finish(erp, run, "failed") == "done"
    [row] = erp.rows("select state, finished_at, duration_ms from public.sync_runs")
    assert (row["state"], row["finished_at"] is not None) == ("done", True)
    assert row["duration_ms"] >= 0


def test_documents_are_seen_only_when_all_of_them_were(erp: World) -> None:
    seen = "2026-11-21T10:00:00+00:00"
    query = "select documents_seen_until from public.metakocka_connections where account_id = %s"
    run = begun(erp)
    finish(erp, run, "stopped", documents_seen_until=seen)
    assert erp.value(query, [ALPINE]) is None
    finish(erp, begun(erp), "done", documents_seen_until=seen)
    assert erp.value(query, [ALPINE]).isoformat() == seen


def test_dashboard_sees_a_run_move_and_is_not_told_of_leases(erp: World) -> None:
    erp.forget_events()
    run = begun(erp)
    advance(erp, run)
    advance(erp, run, cursor={"page": 5})
    finish(erp, run)
    events = [(one["kind"], one["event"]) for one in erp.events()]
    # the second advance moved the cursor alone
    assert sorted(events) == [
        ("account", "sync_runs.inserted"),
        ("account", "sync_runs.updated"),
        ("account", "sync_runs.updated"),
    ]
    [moved] = [
        one["payload"]["record"]
        for one in erp.events()
        if one["payload"]["record"]["done"] == 4 and one["payload"]["record"]["state"] == "running"
    ]
    assert (moved["total"], moved["failed"]) == (10, 1)
    assert "cursor" not in moved
    assert (
        erp.value("select count(*) from pg_publication_tables where tablename = 'sync_runs'") == 1
    )


def test_runs_are_seen_by_their_members(erp: World) -> None:
    begun(erp)
    query = "select state from public.sync_runs"
    assert ask(erp, "vera", query) == [{"state": "running"}]
    for user in ("ana", "cilka", "stranger"):
        assert ask(erp, user, query) == []
    assert refusal(erp, "olivia", "delete from public.sync_runs").sqlstate == "42501"


def test_wake_that_finds_nothing_makes_no_run(erp: World) -> None:
    assert begin(erp, trigger="wake", direction="to_metakocka") is None
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    assert begin(erp, trigger="wake", direction="to_metakocka") is not None


def test_due_is_who_has_something_to_do_and_nobody_at_work(erp: World) -> None:
    assert due(erp) == {ALPINE: ["schedule"], BAY: ["schedule"]}
    for account in (ALPINE, BAY):
        run = begun(erp, account=account)
        assert account not in due(erp)
        finish(erp, run)
    assert due(erp) == {}

    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    # at once, since nobody rings when the quiet moment is over
    assert due(erp) == {ALPINE: ["contacts"]}
    end_quiet(erp)
    assert due(erp) == {ALPINE: ["contacts"]}

    erp.owner.execute("update public.sync_runs set created_at = created_at - interval '1 hour'")
    assert due(erp)[ALPINE] == ["contacts", "schedule"]
    erp.owner.execute("update public.metakocka_connections set active = false")
    assert due(erp) == {}


def test_account_without_a_connection_has_no_runs(world: World) -> None:
    with pytest.raises(psycopg.Error) as refused:
        begin(world)
    assert refused.value.sqlstate == "PT404"


def test_run_of_another_account_is_none(erp: World) -> None:
    run = begun(erp, account=BAY)
    with pytest.raises(psycopg.Error) as refused:
        apply(erp, partner("1600"), run=UUID(run["run_id"]))
    assert refused.value.sqlstate == "PT404"


def test_long_import_is_told_once_also_if_two_workers_share_it(erp: World) -> None:
    run = begun(erp, "first", trigger="user")
    run_id = UUID(run["run_id"])
    erp.forget_events()
    apply(erp, partner("1600"), run=run_id, quiet=True)
    finish(erp, run, "stopped", "first")
    again = begun(erp, "second")
    apply(erp, partner("1601", email=None, phone=None), run=run_id, quiet=True)
    finish(erp, again, "done", "second")
    told = [one["event"] for one in erp.events() if one["event"] == "resync"]
    # once for what each of them wrote
    assert told == ["resync", "resync"]
    assert not [one for one in erp.events() if one["event"].startswith("contacts.")]
