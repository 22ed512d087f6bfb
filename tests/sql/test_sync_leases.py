"""A run that has lost its lease writes nothing more; one that is at work keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from rapport.errors import LeaseLost
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.sync.lease import Lease
from rapport.metakocka.sync.run import serve
from tests.sql.metakocka import apply, backend, claim, end_quiet, mapping, partner
from tests.sql.metakocka import erp as erp
from tests.sql.syncing import SECRET, Erp, Fuse, Killed, SqlStore
from tests.world import ALPINE, World

WAITING = (
    "select count(*) from pg_stat_activity"
    " where datname = current_database() and wait_event_type = 'Lock'"
)


def begin(world: World, worker: str) -> dict[str, Any]:
    run: dict[str, Any] = backend(
        world,
        "begin_sync",
        account_id=ALPINE,
        direction="both",
        trigger="schedule",
        worker=worker,
    )
    return run


def end_lease(world: World) -> None:
    world.owner.execute("update private.sync_leases set lease_until = clock_timestamp()")


def lease_for(world: World, seconds: float) -> None:
    """A lease that is as short, for a test to see its end."""
    world.owner.execute(
        "create or replace function private.sync_lease() returns interval language sql immutable"
        f" set search_path = '' as 'select interval ''{seconds} seconds'''".encode()
    )


def step_until_it_is_lost(lease: Lease) -> None:
    for _ in range(100):
        time.sleep(0.05)
        lease.step()


def test_a_lease_is_half_a_minute(erp: World) -> None:
    assert begin(erp, "w")["lease"] == 30


@pytest.mark.parametrize("after", ["another at work", "another done"])
def test_every_write_of_a_worker_that_lost_its_lease_is_refused(erp: World, after: str) -> None:
    [made] = apply(erp, partner("1600"))
    contact = made["contact_id"]
    run = begin(erp, "first")
    jobs = claim(erp, "first")
    end_lease(erp)
    taken = begin(erp, "second")
    if after == "another done":
        backend(erp, "finish_sync", run_id=taken["run_id"], worker="second", state="done")
    item = partner("1601", email="b@x.si", phone=None)
    given: dict[str, Any] = {"account_id": ALPINE, "worker": "first"}
    writes: list[tuple[str, dict[str, Any]]] = [
        ("apply_partners", {"run_id": run["run_id"], "items": [item]}),
        (
            "settle_partner",
            {
                "run_id": run["run_id"],
                "contact_id": contact,
                "changed_seq": None,
                "item": {"metakocka_id": "1600", "partner_hash": "x", "base": {}},
            },
        ),
        ("block_contact", {"contact_id": contact, "changed_seq": 1, "missing": ["street"]}),
        (
            "ask_partner",
            {
                "contact_id": contact,
                "changed_seq": None,
                "metakocka_id": None,
                "partners": [{"metakocka_id": "9"}],
            },
        ),
        (
            "begin_intent",
            {"contact_id": contact, "operation": "update_partner", "fingerprint": "f"},
        ),
        ("settle_intent", {"intent_id": UUID(int=1), "state": "sent"}),
        ("forget_partner", {"contact_id": contact, "metakocka_id": "9"}),
        ("note_sent", {"contact_id": contact, "sent": {"street": "Pot 2"}}),
        ("note_partners_seen", {"metakocka_ids": ["1600"], "seen_at": "2026-11-30T10:00:00Z"}),
    ]
    for function, more in writes:
        with pytest.raises(psycopg.Error) as refused:
            backend(erp, function, **given, **more)
        assert refused.value.sqlstate == "RP004", function
    for function, more in (
        ("keep_sync", {}),
        ("advance_sync", {"cursor": {}, **dict.fromkeys(COUNTS, 1)}),
        ("pause_sync", {"state": "stopped", "reason": "x"}),
    ):
        if after == "another done" and function == "pause_sync":
            # a run that has ended is ended
            continue
        with pytest.raises(psycopg.Error) as refused:
            backend(erp, function, run_id=run["run_id"], worker="first", **more)
        assert refused.value.sqlstate == "RP004", function
    assert jobs is not None
    assert mapping(erp, "1601") is None


COUNTS = ("total", "done", "succeeded", "failed", "unchanged")


def test_nobody_s_worker_writes_only_while_nobody_is_at_work(erp: World) -> None:
    begin(erp, "first")
    with pytest.raises(psycopg.Error) as refused:
        backend(erp, "apply_partners", account_id=ALPINE, run_id=None, items=[partner("1600")])
    assert refused.value.sqlstate == "RP004"


def test_who_takes_a_run_over_waits_for_a_write_that_is_under_way(erp: World) -> None:
    """Two sessions: the write is whole before the next worker reads, or is refused."""
    run = begin(erp, "first")
    end_lease(erp)
    with ThreadPoolExecutor(1) as pool:
        with erp.acting("service_role") as writer:
            writer.execute(
                "select backend.apply_partners(account_id => %s, run_id => %s, items => %s,"
                " worker => 'first')",
                [ALPINE, run["run_id"], Jsonb([partner("1600")])],
            )
            taking = pool.submit(begin, erp, "second")
            while not erp.value(WAITING):
                assert not taking.done(), taking.result()
        assert taking.result(timeout=30)["run_id"] == run["run_id"]
    assert mapping(erp, "1600") is not None
    with pytest.raises(psycopg.Error) as refused:
        apply(erp, partner("1601", email="b@x.si", phone=None), worker="first")
    assert refused.value.sqlstate == "RP004"


def test_a_write_that_waits_while_its_run_is_taken_over_is_refused(erp: World) -> None:
    """The other way round: the lease is another's by the time that it may be looked at."""
    begin(erp, "first")
    end_lease(erp)
    with ThreadPoolExecutor(1) as pool:
        with erp.acting("service_role") as taker:
            taker.execute(
                "select backend.begin_sync(account_id => %s, direction => 'both',"
                " trigger => 'schedule', worker => 'second')",
                [ALPINE],
            )
            writing = pool.submit(apply, erp, partner("1600"), worker="first")
            while not erp.value(WAITING):
                assert not writing.done(), writing.result()
        with pytest.raises(psycopg.Error) as refused:
            writing.result(timeout=30)
    assert refused.value.sqlstate == "RP004"
    assert mapping(erp, "1600") is None


def test_an_ending_run_and_one_that_begins_don_t_lock_each_other_out(erp: World) -> None:
    for turn in range(5):
        run = begin(erp, f"first {turn}")
        end_lease(erp)
        calls: list[Callable[[], object]] = [
            lambda run=run, turn=turn: backend(  # type: ignore[misc]
                erp,
                "finish_sync",
                run_id=run["run_id"],
                worker=f"first {turn}",
                state="done",
                documents_seen_until="2026-11-30T10:00:00Z",
            ),
            lambda turn=turn: begin(erp, f"second {turn}"),  # type: ignore[misc]
        ]
        with ThreadPoolExecutor(2) as pool:
            ends = [one.exception() for one in [pool.submit(call) for call in calls]]
        states = {one.sqlstate for one in ends if isinstance(one, psycopg.Error)}
        assert states <= {"RP004"}, states
        end_lease(erp)


def test_a_worker_keeps_its_lease_through_a_long_call_and_loses_it_when_it_hangs(
    erp: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_for(erp, 0.6)
    run = begin(erp, "w")
    with erp.session() as session:
        session.execute("set role service_role")
        store = SqlStore(session, Fuse())
        with Lease(store.of_run(ALPINE, UUID(run["run_id"]), "w"), 0.6) as lease:
            # longer than the lease, and nothing is said meanwhile
            time.sleep(1.5)
            assert begin(erp, "second") is None
            lease.step()
            monkeypatch.setattr("rapport.metakocka.sync.lease.LONGEST_STEP", 0.0)
            while not begin(erp, "second"):
                time.sleep(0.05)
            with pytest.raises(LeaseLost):
                step_until_it_is_lost(lease)
        store.close()
        session.execute("reset role")


def test_a_worker_that_watches_follows_one_that_was_killed_when_its_lease_is_over(
    world: World,
) -> None:
    erp = Erp(world, Fake(SECRET))
    contact = erp.add_contact(
        name="Kos", street="Pot 1", post_number="1000", place="Ljubljana", country="Slovenija"
    )
    lease_for(world, 0.8)
    end_quiet(world)
    with pytest.raises(Killed), erp.worker(Fuse(14)) as sync:
        sync.run(erp.account, "to_metakocka", "wake")
    leases = "select count(*) from private.sync_leases where lease_until > clock_timestamp()"
    assert world.value(leases) == 1
    with erp.worker() as sync:
        # one that was woken finds nothing, and does not stay
        assert serve(sync) == {}
    with erp.worker() as sync:
        assert serve(sync, watch=20)["done"] >= 1
    assert erp.contact(contact)["sync_state"] == "synced"
    assert len(erp.company.partners) == 1
