"""When the schedules of a server are due, and who makes their runs."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege
from psycopg.types.json import Jsonb

from tests.sql.outbound import backend
from tests.world import World

HOUR = 3600
DAILY = [{"function": "daily", "every": HOUR}]


def look(world: World, running: tuple[str, ...] = (), schedules: Any = None) -> dict[str, Any]:
    """What a server is told that looks for due runs."""
    schedules = DAILY if schedules is None else schedules
    told: dict[str, Any] = backend(
        world, "claim_scheduled_runs(%s, %s::uuid[])", Jsonb(schedules), list(running)
    )
    return told


def claimed(world: World) -> list[str]:
    return [one["run"] for one in look(world)["claimed"]]


def end(world: World, run: str, *, succeeded: bool = True) -> None:
    backend(world, "end_scheduled_run(%s, %s)", run, succeeded)


def later(world: World, time: str) -> None:
    """Lets so much time pass."""
    for column in ("due_at", "began_at", "succeeded_at", "run_until"):
        world.owner.execute(
            f"update private.schedule_runs set {column} = {column} - %s::interval".encode(), [time]
        )


def test_a_server_that_starts_each_hour_runs_what_is_due_and_nothing_twice(world: World) -> None:
    (first,) = look(world)["claimed"]
    assert (first["function"], first["every"]) == ("daily", HOUR)
    # another server, while it runs and after it
    told = look(world)
    assert told["claimed"] == []
    assert 0 < told["next_in"] <= 30
    end(world, first["run"])
    told = look(world)
    assert told["claimed"] == []
    assert HOUR - 60 < told["next_in"] <= HOUR

    later(world, "59 minutes")
    assert claimed(world) == []
    later(world, "1 minute")
    (second,) = claimed(world)
    # the next one is due by the beginning, however long it took
    later(world, "20 minutes")
    end(world, second)
    assert HOUR - 21 * 60 < look(world)["next_in"] <= 40 * 60


def test_a_run_that_failed_is_due_in_a_minute(world: World) -> None:
    (run,) = claimed(world)
    end(world, run, succeeded=False)
    told = look(world)
    assert told["claimed"] == []
    assert 0 < told["next_in"] <= 60
    later(world, "1 minute")
    assert len(claimed(world)) == 1


def test_a_server_that_dies_leaves_its_run_to_another_and_one_that_lives_keeps_it(
    world: World,
) -> None:
    (run,) = claimed(world)
    for _ in range(3):
        later(world, "20 seconds")
        assert look(world, running=(run,))["claimed"] == []
    later(world, "31 seconds")
    (other,) = claimed(world)
    # the first one was only slow: its end is not the other's
    end(world, run)
    assert claimed(world) == []
    end(world, other)
    assert look(world)["next_in"] > 60


def test_two_servers_that_look_at_once_make_one_run(world: World) -> None:
    look(world)
    later(world, "2 hours")
    with world.acting("service_role") as one, world.acting("service_role") as other:
        told = [
            connection.execute("select backend.claim_scheduled_runs(%s)", [Jsonb(DAILY)]).fetchone()
            for connection in (one, other)
        ]
    assert sorted(len(answer[0]["claimed"]) for answer in told if answer) == [0, 1]


def test_a_clock_that_was_ahead_stops_no_schedule(world: World) -> None:
    (run,) = claimed(world)
    end(world, run)
    later(world, "-30 days")
    assert len(claimed(world)) == 1


def test_each_rate_of_a_function_is_a_schedule_and_none_is_asked_for_by_none(world: World) -> None:
    schedules = [*DAILY, {"function": "daily", "every": 60}, {"function": "sweep", "every": 60}]
    told = look(world, schedules=schedules)["claimed"]
    assert [(one["function"], one["every"]) for one in told] == [
        ("daily", 60),
        ("daily", HOUR),
        ("sweep", 60),
    ]
    assert look(world, schedules=[]) == {"claimed": [], "next_in": None}


def test_nobody_else_sees_or_claims_a_run(world: World) -> None:
    for statement in (
        "select * from private.schedule_runs",
        "select backend.claim_scheduled_runs('[]')",
        "select backend.end_scheduled_run(gen_random_uuid(), true)",
    ):
        with pytest.raises(InsufficientPrivilege), world.acting_as("andrej") as connection:
            connection.execute(statement.encode())


def test_pg_cron_rings_each_minute_where_it_is_and_is_wanted(world: World) -> None:
    """Its two functions and its table, as pg_cron documents them: this Postgres has none."""
    bell = ("https://rapport.example/internal/wake", "s" * 32)
    # without it nothing happens
    backend(world, "set_doorbell(%s, %s, true)", *bell)
    world.owner.execute("""
        create schema cron;
        create table cron.job (jobname text primary key, schedule text, command text);
        create function cron.schedule(text, text, text) returns bigint language sql as $$
            insert into cron.job values ($1, $2, $3)
            on conflict (jobname) do update set schedule = $2, command = $3 returning 1::bigint
        $$;
        create function cron.unschedule(text) returns boolean language sql as $$
            delete from cron.job where jobname = $1 returning true
        $$;
    """)
    for _ in range(2):
        backend(world, "set_doorbell(%s, %s, true)", *bell)
    job = world.owner.execute("select schedule, command from cron.job").fetchall()
    assert job == [("* * * * *", "select private.ring('schedules')")]
    world.owner.execute(job[0][1])
    [(body,)] = world.owner.execute("select body from net.http_request_queue").fetchall()
    assert bytes(body) == b'{"worker": "schedules"}'
    # another deployment, on AWS
    backend(world, "set_doorbell(%s, %s)", *bell)
    assert world.value("select count(*) from cron.job") == 0
