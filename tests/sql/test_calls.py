"""A call is one line in the conversation, and a person's call opens the window."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import Any

import pytest

from tests.sql.asking import ask, at_once, refusal
from tests.sql.outbound import accept, ago, begin, claim, post
from tests.world import ALPINE_NUMBER, Item, World, text_message

ANA = "385911234567"


def call(event: str, sent_at: str, *, ours: bool = False, **changes: Any) -> Item:
    news = {"event": event, "started_at": None, "ended_at": None, "duration_s": None}
    content = news | {"has_failed": False} | changes.pop("news", {})
    return {
        "kind": "call",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": "wacid.1",
        "sender_type": "operator" if ours else "client",
        "sender_id": None if ours else ANA,
        "wa_id": ANA,
        "user_id": None,
        "profile_name": None if ours else "Ana",
        "sent_at": sent_at,
        "content": content,
    } | changes


def at(second: int) -> str:
    return f"2026-11-21T10:00:{second:02}Z"


ENDED = {"started_at": at(6), "ended_at": at(51), "duration_s": 45}
# how it came about, what is shown
COURSES = {
    "answered": (
        [call("connect", at(1)), call("terminate", at(52), news=ENDED)],
        ("[call] 45 s", "answered", at(6), at(51), 45),
    ),
    "missed": (
        [call("connect", at(1)), call("terminate", at(30), news={"has_failed": True})],
        ("[missed call]", "missed", None, at(30), None),
    ),
    "ours, declined": (
        [
            call("connect", at(1), ours=True),
            call("ringing", at(2), ours=True),
            call("rejected", at(9), ours=True),
            call("terminate", at(10), ours=True, news={"has_failed": True}),
        ],
        ("[outgoing call] rejected", "rejected", None, at(10), None),
    ),
    "ours, answered": (
        [
            call("ringing", at(2), ours=True),
            call("accepted", at(6), ours=True),
            call("terminate", at(52), ours=True, news=ENDED | {"duration_s": None}),
        ],
        ("[outgoing call] 45 s", "answered", at(6), at(51), 45),
    ),
}


def shown(world: World) -> tuple[Any, ...]:
    (row,) = world.rows("select * from public.messages where type = 'call'")
    content = row["content"]
    assert content["direction"] == ("inbound" if row["sender_type"] == "client" else "outbound")
    return (
        row["message"],
        content["status"],
        content["started_at"],
        content["ended_at"],
        content["duration_s"],
    )


@pytest.mark.parametrize("name", COURSES)
def test_a_call_shows_what_became_of_it_in_any_order(world: World, name: str) -> None:
    events, expected = COURSES[name]
    activities = set()
    for order in permutations(range(len(events))):
        world.owner.execute("delete from public.conversations")
        world.owner.execute("delete from private.call_events")
        for number in order:
            answer = world.ingest(events[number], body=f"{order} {number}")
            assert (answer["applied"], answer["duplicates"]) == (1, 0)
        # a repeated delivery changes nothing
        version = world.value("select version from public.messages")
        assert world.ingest(events[0], body=f"{order} again")["duplicates"] == 1
        assert world.value("select version from public.messages") == version

        assert shown(world) == expected
        (activity,) = world.rows(
            "select last_seq, last_inbound_at, last_message_at from public.conversation_activity"
        )
        (message,) = world.rows("select sent_at, sender_id from public.messages")
        activities.add((*activity.values(), *message.values()))
    assert len({activity[:2] + activity[3:] for activity in activities}) == 1


def test_events_of_one_batch_are_one_line(world: World) -> None:
    events, expected = COURSES["answered"]
    world.forget_events()
    assert world.ingest(*reversed(events))["applied"] == 2
    assert shown(world) == expected
    told = [event["event"] for event in world.events() if event["kind"] == "account"]
    assert told.count("messages.inserted") == 1
    assert "messages.updated" not in told


def test_a_call_that_goes_on_is_told_and_changes_its_line(world: World) -> None:
    world.ingest(call("connect", ago(seconds=20)))
    assert shown(world)[:2] == ("[incoming call]", "ringing")
    world.forget_events()
    world.ingest(call("terminate", ago(seconds=1)))
    (event,) = [one for one in world.events() if one["kind"] == "account"]
    assert event["event"] == "messages.updated"
    assert event["payload"]["record"]["content"]["status"] == "missed"


def test_a_person_s_call_opens_the_window_and_ours_does_not(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=ANA, sent_at=ago(hours=30)))
    thread = world.value("select id from public.conversations")
    write = "select public.post_message(%s, 'hi')"
    assert refusal(world, "andrej", write, thread).code == "PT422"
    world.ingest(call("connect", ago(minutes=2), ours=True, provider_id="wacid.2"))
    assert refusal(world, "andrej", write, thread).code == "PT422"

    world.ingest(call("connect", ago(minutes=1)))
    assert post(world, "andrej", thread)["status"] == "queued"
    # the customer's line, unread; nobody is made twice
    (row,) = ask(world, "andrej", "select unread_count, last_seq from public.inbox")
    assert row == {"unread_count": 2, "last_seq": 4}
    assert world.value("select count(*) from public.conversations") == 1


def test_a_caller_who_is_new_becomes_a_contact(world: World) -> None:
    world.ingest(call("terminate", ago(minutes=1)))
    assert world.rows(
        "select c.profile_name, c.phone, k.thread_key from public.contacts c"
        " join public.conversations k on k.customer_id = c.id"
    ) == [{"profile_name": "Ana", "phone": f"+{ANA}", "thread_key": f"phone:{ANA}"}]


def test_whatsapp_is_told_of_no_call_as_of_a_message(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=ANA, sent_at=ago(minutes=3)))
    world.ingest(call("terminate", ago(minutes=1)))
    thread = world.value("select id from public.conversations")
    (latest,) = ask(world, "andrej", "select public.latest_inbound(%s) as latest", thread)
    assert latest["latest"]["provider_id"] == "wamid.1"

    line = world.value("select id from public.messages where type = 'call'")
    answer = post(world, "andrej", thread, "We call you back.", reply_to=line)
    (job,) = claim(world)
    assert (answer["reply_to"], job["reply_to"]) == (str(line), None)
    assert begin(world, answer["id"])
    accept(world, answer["id"], "wamid.2")


def test_a_time_of_another_age_moves_no_window(world: World) -> None:
    odd = "2286-11-20T17:46:39Z"
    world.ingest(call("terminate", odd, news={"started_at": odd, "ended_at": odd}))
    assert world.value("select max(last_inbound_at) <= now() from public.conversation_activity")
    assert world.value("select content ->> 'ended_at' < '2200' from public.messages")


def test_events_that_come_at_the_same_time_are_one_line(world: World) -> None:
    events, expected = COURSES["ours, declined"]
    for round_ in range(5):
        world.owner.execute("delete from public.conversations")
        world.owner.execute("delete from private.call_events")
        answers = at_once(
            *(partial(world.ingest, event, body=f"{round_} {n}") for n, event in enumerate(events))
        )
        assert [answer["applied"] for answer in answers if isinstance(answer, dict)] == [1] * 4
        assert shown(world) == expected
