"""How fast messages go: one person's pace and one number's, shared by all workers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.sql.outbound import backend, claim, conversation, make_due, post
from tests.world import ALPINE_NUMBER, BAY_NUMBER, World


def take(world: World, burst: int) -> datetime | None:
    """Asks for a place in a pace that does not refill while a test runs."""
    with world.connect() as connection:
        row = connection.execute(
            "select private.take_pace(id, 'x', '1 hour', %s) from public.whatsapp_channels"
            " where phone_number_id = %s",
            [burst, ALPINE_NUMBER],
        ).fetchone()
    assert row is not None
    at: datetime | None = row[0]
    return at


def test_a_burst_goes_at_once_and_the_next_when_the_first_is_made_up_for(world: World) -> None:
    started = datetime.now(UTC)
    assert [take(world, 45) for _ in range(45)] == [None] * 45
    free_at = take(world, 45)
    assert free_at is not None
    assert started + timedelta(hours=1) <= free_at <= datetime.now(UTC) + timedelta(hours=1)
    # who asks in vain waits no longer for it
    assert take(world, 45) == free_at
    world.owner.execute("update private.send_paces set due_at = due_at - interval '1 hour'")
    assert take(world, 45) is None


def test_workers_at_the_same_moment_share_one_pace(world: World) -> None:
    barrier = threading.Barrier(8)

    def work(_: int) -> datetime | None:
        barrier.wait()
        return take(world, 3)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))).count(None) == 3


def test_one_person_gets_45_at_once_and_then_one_in_six_seconds(world: World) -> None:
    post(world, "andrej", conversation(world))
    due_at = world.value(
        "insert into private.send_paces select whatsapp_channel_id, thread_key,"
        " now() + interval '1 hour' from public.conversations returning due_at"
    )
    assert claim(world) == []
    assert world.value("select not_before from private.outbound_queue") == due_at - timedelta(
        seconds=44 * 6
    )


def test_one_number_is_held_to_its_messages_per_second(world: World) -> None:
    for n in range(9):
        post(world, "andrej", conversation(world, f"386402000{n:02}"))
    # a pace that can't refill while this runs
    world.owner.execute(
        "insert into private.send_paces"
        " select id, '', now() + interval '1 hour' from public.whatsapp_channels"
    )
    answer = backend(world, "claim_outbound('w')")
    assert answer["claimed"] == []
    assert datetime.fromisoformat(answer["next_at"]) > datetime.now(UTC) + timedelta(minutes=59)
    # the person's pace is not used up by what did not go
    assert world.value("select count(*) from private.send_paces where recipient <> ''") == 0


@pytest.mark.parametrize("rate", [2, 20, 80, 1000])
def test_a_number_sends_no_more_in_any_second_than_it_may(world: World, rate: int) -> None:
    every, burst = world.rows("select * from private.number_pace(%s)", [rate])[0].values()
    # all at once after a rest, and then as fast as places come free
    assert 1 <= burst <= rate
    assert burst + timedelta(seconds=1) / every <= rate


def test_a_business_that_has_much_to_send_delays_no_other(world: World) -> None:
    for n in range(60):
        post(world, "andrej", conversation(world, f"386402000{n:02}"))
    post(world, "ana", conversation(world, number=BAY_NUMBER), "one")
    # one of them has the first turn, the other has the next
    turns = [job["text"] for worker in "ab" for job in claim(world, worker, 5)]
    assert "one" in turns
    assert "hi" in turns


def test_what_no_number_may_send_yet_hides_nothing_that_may_go(world: World) -> None:
    for n in range(30):
        post(world, "andrej", conversation(world, f"386402000{n:02}"))
    world.owner.execute(
        "select private.hold_number(id, now() + interval '1 hour') from public.whatsapp_channels"
        " where phone_number_id = %s",
        [ALPINE_NUMBER],
    )
    post(world, "ana", conversation(world, number=BAY_NUMBER), "one")
    assert [job["text"] for job in claim(world)] == ["one"]


def test_what_one_person_may_not_get_yet_uses_up_nothing_of_the_number(world: World) -> None:
    thread = conversation(world)
    post(world, "andrej", thread)
    world.owner.execute(
        "insert into private.send_paces select whatsapp_channel_id, thread_key,"
        " now() + interval '1 hour' from public.conversations"
    )
    assert claim(world) == []
    # as if nothing had been sent: due by now
    assert world.value(
        "select due_at <= clock_timestamp() from private.send_paces where recipient = ''"
    )


def test_workers_of_two_numbers_never_deadlock(world: World) -> None:
    numbers = {"1003427786179738": "andrej", "1003427786179739": "ana"}
    for n in range(10):
        for number, user in numbers.items():
            post(world, user, conversation(world, f"386402000{n:02}", number=number))
    barrier = threading.Barrier(4)

    def work(worker: str) -> None:
        barrier.wait()
        for _ in range(5):
            claim(world, worker, 5)

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            # a deadlock's victim raises here
            list(pool.map(work, "abcd"))
        world.owner.execute(
            "update private.outbound_queue set state = 'queued', leased_until = null, worker = null"
        )
        make_due(world)
    assert world.value("select count(*) from private.outbound_queue") == 20
