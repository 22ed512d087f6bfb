"""A provider's time that can't be is taken as the time of arrival, for every kind of update."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.world import ALPINE_NUMBER, Item, World, status, text_message

ODD = (
    "2286-11-20T17:46:39Z",
    "9999-12-31T23:59:59Z",
    "2008-12-31T23:59:59Z",
    "1969-12-31T23:59:59Z",
)


def effect(provider_id: str, type_: str, text: str | None, sent_at: str) -> Item:
    return {
        "kind": "effect",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": provider_id,
        "type": type_,
        "reply_to": "wamid.1",
        "sender_type": "client",
        "sender_id": None,
        "sent_at": sent_at,
        "text": text,
        "content": None,
    }


def is_recent(world: World, value: datetime) -> bool:
    now: datetime = world.value("select now()")
    return now - timedelta(minutes=1) < value <= now


@pytest.mark.parametrize("odd", ODD)
def test_a_message_of_another_age_is_of_now(world: World, odd: str) -> None:
    world.ingest(text_message("wamid.1", sent_at=odd))

    assert is_recent(world, world.value("select sent_at from public.messages"))
    (activity,) = world.rows(
        "select last_message_at, last_inbound_at,"
        " private.window_closes_at(conversation_id) - interval '24 hours' as opened_at"
        " from public.conversation_activity"
    )
    assert all(is_recent(world, at) for at in activity.values())
    # what was said is kept
    assert odd in world.value("select body from private.webhook_events")


def test_clocks_that_differ_by_minutes_are_believed(world: World) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=2)).replace(microsecond=0)
    world.ingest(text_message("wamid.1", sent_at=ahead.isoformat()))
    world.ingest(text_message("wamid.2", sent_at="2009-06-01T00:00:00Z"))

    assert world.value("select array_agg(sent_at order by provider_id) from public.messages") == [
        ahead,
        datetime(2009, 6, 1, tzinfo=UTC),
    ]


@pytest.mark.parametrize("odd", ODD[:2])
def test_an_edit_of_another_age_beats_none_that_comes_later(world: World, odd: str) -> None:
    world.ingest(text_message("wamid.1", text="one"))
    world.ingest(effect("wamid.2", "edit", "two", odd))
    world.owner.execute("select pg_sleep(0.01)")
    later = datetime.now(UTC).isoformat()
    world.ingest(effect("wamid.3", "edit", "three", later))
    world.ingest(effect("wamid.4", "reaction", "👍", odd))
    world.ingest(effect("wamid.5", "revoke", None, odd)) if odd == ODD[1] else None

    (row,) = world.rows("select message, edited_at, revoked_at, reactions from public.messages")
    assert is_recent(world, row["edited_at"])
    if odd == ODD[1]:
        assert is_recent(world, row["revoked_at"])
    else:
        assert row["message"] == "three"
        assert is_recent(world, datetime.fromisoformat(row["reactions"][0]["at"]))


@pytest.mark.parametrize("odd", ODD)
def test_a_status_and_an_event_of_another_age_are_of_now(world: World, odd: str) -> None:
    world.ingest(text_message("wamid.1", kind="echo", profile_name=None))
    event: Item = {
        "kind": "account_event",
        "phone_number_id": ALPINE_NUMBER,
        "waba_id": None,
        "type": "errors",
        "at": odd,
        "content": {},
    }
    world.ingest(status("wamid.1", "read", odd), event, body="news")
    # a delivery of the same body is not another event
    world.ingest(status("wamid.1", "read", odd), event, body="news")

    assert is_recent(world, world.value("select read_at from public.messages"))
    (at,) = [
        row["occurred_at"] for row in world.rows("select occurred_at from public.account_events")
    ]
    assert is_recent(world, at)


@pytest.mark.parametrize("odd", ODD)
def test_a_replay_long_after_shifts_nothing(world: World, odd: str) -> None:
    items = [
        text_message("wamid.1", sent_at=odd),
        status("wamid.1", "read", odd),
        effect("wamid.2", "edit", "two", odd),
    ]
    answer = world.ingest(*items)
    world.owner.execute(
        "update private.webhook_events set received_at = received_at - interval '30 days'"
    )
    # not stored then, but understood by now
    items.append(text_message("wamid.3", sent_at=odd))
    with world.acting("service_role") as connection:
        connection.execute(
            "select backend.replay_webhook(%s, %s)", [answer["event_id"], json.dumps(items)]
        )
    received_at = world.value("select received_at from private.webhook_events")
    times: dict[str, Any] = {
        row["provider_id"]: row["sent_at"]
        for row in world.rows("select provider_id, sent_at from public.messages")
    }
    assert times["wamid.3"] == received_at
    assert is_recent(world, times["wamid.1"])
