"""Errors are kept with their context, for the people who can do something about them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.sql.faces import ask, refusal
from tests.sql.metakocka import backend
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid

CILKA, CARLOS = seed_uuid("contact cilka"), seed_uuid("contact carlos")


def log(world: World, **more: Any) -> UUID:
    logged: UUID = backend(
        world,
        "log_sync_error",
        **(
            {
                "account_id": ALPINE,
                "operation": "syncContactToMetakocka",
                "code": "upstream_unavailable",
                "message": "Metakocka does not answer.",
                "user_id": seed_uuid("adam"),
                "contact_id": CILKA,
                "metakocka_id": "batch",
                "details": {"contactCount": 2},
                "attempts": 3,
            }
            | more
        ),
    )
    return logged


def test_admins_read_an_error_with_its_context(erp: World) -> None:
    log(erp)
    for user in ("olivia", "adam"):
        [row] = ask(erp, user, "select * from public.sync_errors")
        assert (row["category"], row["operation"], row["code"], row["attempts"]) == (
            "SYNC",
            "syncContactToMetakocka",
            "upstream_unavailable",
            3,
        )
        assert (row["user_id"], row["contact_id"]) == (seed_uuid("adam"), CILKA)
        assert (row["metakocka_id"], row["details"]) == ("batch", {"contactCount": 2})


@pytest.mark.parametrize("user", ["andrej", "vera", "ana", "cilka", "stranger"])
def test_nobody_else_reads_it(erp: World, user: str) -> None:
    log(erp)
    assert ask(erp, user, "select * from public.sync_errors") == []
    insert = "insert into public.sync_errors default values"
    assert refusal(erp, user, insert).sqlstate == "42501"


def test_error_is_logged_whatever_it_says(erp: World) -> None:
    log(
        erp,
        contact_id=CARLOS,
        user_id=UUID(int=1),
        run_id=UUID(int=1),
        message="x" * 5000,
        code="y" * 100,
        details={"text": "z" * 20000},
        attempts=0,
    )
    [row] = ask(erp, "olivia", "select * from public.sync_errors")
    assert (row["contact_id"], row["user_id"], row["run_id"]) == (None, None, None)
    assert (len(row["message"]), len(row["code"]), row["attempts"]) == (1000, 64, 1)
    assert row["details"] == {"left_out": "They were too long."}


def test_errors_outlive_neither_their_time_nor_lose_what_is_newer(erp: World) -> None:
    for account in (ALPINE, BAY):
        log(erp, account_id=account, contact_id=None)
    for state in ("done", "running"):
        run = backend(
            erp, "begin_sync", account_id=ALPINE, direction="both", trigger="cli", worker=state
        )
        if state == "done":
            backend(erp, "finish_sync", run_id=run["run_id"], worker=state, state="done")
    log(erp, run_id=erp.value("select id from public.sync_runs where state = 'done'"))
    assert erp.value("select private.prune_sync(100, interval '1 day')") == 0

    erp.owner.execute(
        "update public.sync_errors set created_at = now() - interval '2 days' where run_id is null"
    )
    erp.owner.execute(
        "update public.sync_runs set finished_at = finished_at - interval '2 days'"
        " where state = 'done'"
    )
    # one of each in a batch of one
    assert erp.value("select private.prune_sync(1, interval '1 day')") == 2
    assert erp.value("select private.prune_sync(1, interval '1 day')") == 1
    assert erp.value("select private.prune_sync(1, interval '1 day')") == 0
    assert erp.rows("select state from public.sync_runs") == [{"state": "running"}]
    [left] = erp.rows("select run_id, contact_id from public.sync_errors")
    assert left == {"run_id": None, "contact_id": CILKA}
