"""Appointments: who makes, changes and sees them, and what may become of them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.asking import ask, at_once, refusal, start_blocked
from tests.sql.portal import CARLOS, CILKA, MERGED, add_contact, change, chat, make_job
from tests.world import ALPINE, BAY, World, seed_uuid

INSERT = "insert into public.jobs (customer_id, service_type, starts_at) values (%s, 'x', now())"


@pytest.mark.parametrize("user", ["olivia", "adam", "andrej"])
def test_staff_make_a_job_and_its_customer_sees_it(world: World, user: str) -> None:
    job = make_job(world, user, address="Main Street 1")

    assert (job["account_id"], job["status"], job["version"]) == (ALPINE, "scheduled", 1)
    assert ask(world, "cilka", "select * from public.jobs") == [job]
    assert ask(world, "vera", "select * from public.jobs") == [job]


def test_customer_finds_its_jobs_by_its_login(world: World) -> None:
    """As portals ask."""
    job = make_job(world)
    query = (
        "select * from jobs where customer_id in"
        " (select id from customers where portal_user_id = auth.uid())"
    )
    assert ask(world, "cilka", query) == [job]
    assert ask(world, "carlos", query) == []


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404"), ("stranger", "PT404")],
)
def test_who_may_not_make_jobs_makes_none(world: World, user: str, code: str) -> None:
    assert refusal(world, user, INSERT, CILKA).code == code
    assert world.value("select count(*) from public.jobs") == 0


@pytest.mark.parametrize("user", ["vera", "cilka"])
def test_who_only_sees_a_job_is_refused_to_change_it(world: World, user: str) -> None:
    job = make_job(world)
    query = "update public.jobs set service_type = 'y'"

    assert refusal(world, user, query).code == "42501"
    assert ask(world, "andrej", "select * from public.jobs") == [job]


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_others_see_no_job_and_touch_none(world: World, user: str) -> None:
    job = make_job(world)

    assert ask(world, user, "select * from public.jobs") == []
    query = "update public.jobs set service_type = 'y' where id = %s"
    assert refusal(world, user, query, job["id"]).code == "PT404"


@pytest.mark.parametrize("user", ["olivia", "cilka"])
def test_nobody_deletes_a_job(world: World, user: str) -> None:
    make_job(world)

    assert refusal(world, user, "delete from public.jobs").code == "42501"


def test_the_account_is_the_customers_own(world: World) -> None:
    query = (
        "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
        " values (%s, %s, 'x', now())"
    )
    assert refusal(world, "ana", query, BAY, CILKA).code == "PT404"
    assert refusal(world, "andrej", query, BAY, CILKA).code == "PT404"
    assert refusal(world, "andrej", query, ALPINE, CARLOS).code == "PT404"


def test_a_job_stays_its_customers(world: World) -> None:
    job = make_job(world)
    other = add_contact(world, "nina")

    for column, value in {"customer_id": other, "account_id": BAY}.items():
        query = f"update public.jobs set {column} = %s where id = %s"
        # not a client's to write
        refused = refusal(world, "olivia", query, value, job["id"])
        assert (refused.code, refused.detail) == ("PT422", f"field: {column}")
        with pytest.raises(psycopg.errors.CheckViolation, match="stays with its"):
            world.owner.execute(query.encode(), [value, job["id"]])


STATUSES = ("scheduled", "rescheduled", "in_progress", "completed", "cancelled")
ALLOWED = {
    "scheduled": {"rescheduled", "in_progress", "completed", "cancelled"},
    "rescheduled": {"in_progress", "completed", "cancelled"},
    "in_progress": {"completed", "cancelled"},
    "completed": set(),
    "cancelled": set(),
}


@pytest.mark.parametrize("before", STATUSES)
def test_only_these_statuses_follow(world: World, before: str) -> None:
    for after in STATUSES:
        job = make_job(world)["id"]
        if before != "scheduled":
            change(world, "andrej", "jobs", job, status=before)
        query = "update public.jobs set status = %s where id = %s returning status"
        if after == before or after in ALLOWED[before]:
            assert ask(world, "andrej", query, after, job) == [{"status": after}]
            continue
        refused = refusal(world, "andrej", query, after, job)
        assert (refused.code, refused.detail) == ("PT409", "field: status")
        assert refused.hint is not None
        assert all(status in refused.hint for status in ALLOWED[before])


def test_status_that_nobody_knows_is_refused(world: World) -> None:
    make_job(world)

    assert refusal(world, "andrej", "update public.jobs set status = 'lost'").code == "PT409"


def test_another_time_makes_it_rescheduled(world: World) -> None:
    job = make_job(world)

    moved = change(world, "andrej", "jobs", job["id"], starts_at="2026-12-02T09:00:00Z")
    assert (moved["status"], moved["version"]) == ("rescheduled", 2)
    # what does not move it does not
    again = change(world, "andrej", "jobs", job["id"], address="x")
    assert again["status"] == "rescheduled"


def test_what_is_over_keeps_its_time(world: World) -> None:
    job = make_job(world)["id"]
    change(world, "andrej", "jobs", job, status="cancelled")

    query = "update public.jobs set starts_at = now()"
    refused = refusal(world, "andrej", query)
    assert (refused.code, refused.detail) == ("PT409", "field: starts_at")


MISTAKES: list[dict[str, Any]] = [
    {"service_type": "  "},
    {"service_type": "x" * 201},
    {"starts_at": "infinity"},
    {"starts_at": "20261-02-01"},
    {"starts_at": "0044-03-15 BC"},
    {"starts_at": None},
    {"ends_at": "20261-02-01"},
    {"ends_at": "2026-12-01T08:00:00Z"},
    {"description": "x" * 4001},
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_makes_no_sense_is_refused(world: World, mistake: dict[str, Any]) -> None:
    with pytest.raises(psycopg.Error) as refused:
        make_job(world, **mistake)
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == f"field: {next(iter(mistake))}"


# Contacts that go


def test_jobs_of_a_deleted_contact_stay_and_get_no_others(world: World) -> None:
    """What was done for somebody stays in the books; who it was does not."""
    job = make_job(world)
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)

    assert [row["id"] for row in ask(world, "andrej", "select * from public.jobs")] == [job["id"]]
    assert world.value("select status from public.conversations") == "closed"
    # the login is gone, and with it the sight
    assert ask(world, "cilka", "select * from public.jobs") == []
    assert refusal(world, "andrej", INSERT, CILKA).code == "PT404"


def test_job_for_a_merged_contact_is_the_kept_ones(world: World) -> None:
    dropped = add_contact(world, "nina")
    world.owner.execute(MERGED.encode(), [CILKA, dropped])

    assert make_job(world, customer=dropped)["customer_id"] == CILKA


def test_job_waits_for_a_merge_and_follows_it(world: World) -> None:
    dropped = add_contact(world, "nina")
    with world.connect() as merging:
        with merging.transaction():
            merging.execute(MERGED.encode(), [CILKA, dropped])
            answer = start_blocked(world, "andrej", INSERT + " returning customer_id", dropped)
        assert answer.result(10) == [{"customer_id": CILKA}]
    assert world.value("select customer_id from public.conversations") == CILKA


def test_jobs_and_their_chats_go_where_their_customer_goes(world: World) -> None:
    """What merging calls, and undoing."""
    nina = add_contact(world, "nina")
    job = make_job(world, customer=nina)
    with world.owner.transaction():
        world.owner.execute(MERGED.encode(), [CILKA, nina])
        moved = world.value("select private.move_customer_rows(%s, %s, %s)", [ALPINE, nina, CILKA])
    assert moved == {
        "jobs": [str(job["id"])],
        "invoices": [],
        "loyalty_transactions": [],
        "loyalty_lots": {},
    }
    for table in ("jobs", "conversations", "messages", "conversation_activity"):
        assert world.value(f"select distinct customer_id from public.{table}") == CILKA
    assert [row["id"] for row in ask(world, "cilka", "select id from public.jobs")] == [job["id"]]


# While others write


def test_of_two_who_end_a_job_at_once_one_does(world: World) -> None:
    job = make_job(world)["id"]

    def end(status: str) -> Any:
        return lambda: change(world, "andrej", "jobs", job, status=status)

    done = at_once(end("completed"), end("cancelled"))

    assert sorted(type(one).__name__ for one in done) == ["Refusal", "dict"]
    final = world.value("select status from public.jobs")
    assert final in {"completed", "cancelled"}
    assert len(chat(world, job)) == 2


def test_an_upsert_of_a_job_that_is_new_is_no_update_of_nothing(world: World) -> None:
    with world.acting_as("andrej") as connection:
        connection.execute(
            "insert into public.jobs (id, customer_id, service_type, starts_at)"
            " values (%s, %s, 'cleaning', now())"
            " on conflict (id) do update set service_type = excluded.service_type",
            [seed_uuid("upserted"), seed_uuid("contact cilka")],
        )
        # what comes after an insert is held to its rows as before
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(
                "update public.jobs set address = 'any' where id = %s", [seed_uuid("nowhere")]
            )
    assert refused.value.sqlstate == "PT404"
