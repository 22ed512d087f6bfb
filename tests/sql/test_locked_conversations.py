"""A conversation that somebody keeps locked holds up its own webhooks, and these not for long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.world import BAY_NUMBER, Item, World, status, text_message

NINA = "38640999888"


def bay_message(provider_id: str) -> Item:
    return text_message(provider_id, wa_id="5511987650000", phone_number_id=BAY_NUMBER)


@contextmanager
def locked(world: World, wa_id: str) -> Iterator[None]:
    """Somebody has the person's conversation, and does not end."""
    with world.connect() as other, other.transaction():
        other.execute(
            "select from public.conversations where customer_wa_id = %s for update", [wa_id]
        )
        yield


def until_waiting(world: World, call: Future[Any]) -> None:
    """Returns once some session of this database waits for a lock."""
    while not world.value(
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    ):
        assert not call.done(), call.result()


def ingest(world: World, *items: Item) -> dict[str, Any]:
    """As World.ingest, under the time-out of hosted projects."""
    with world.acting("service_role") as connection:
        connection.execute("set local statement_timeout = '8s'")
        body = json.dumps(items)
        row = connection.execute("select backend.ingest_whatsapp(%s, %s)", [body, body]).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def test_a_webhook_of_a_locked_conversation_gives_way_and_comes_again(world: World) -> None:
    world.ingest(text_message("wamid.1", NINA))
    with locked(world, NINA), pytest.raises(psycopg.errors.LockNotAvailable):
        ingest(world, text_message("wamid.2", NINA))
    # nothing of it is there, not even its raw event: it is stored whole when it comes again
    assert world.value("select count(*) from private.webhook_events") == 1
    assert ingest(world, text_message("wamid.2", NINA))["applied"] == 1


def test_a_locked_conversation_stalls_no_other_of_its_number(world: World) -> None:
    """Although a status of an unknown message asks for the number as a whole meanwhile."""
    world.ingest(text_message("wamid.1", NINA))
    with ThreadPoolExecutor(2) as pool, locked(world, NINA):
        message = pool.submit(ingest, world, text_message("wamid.2", NINA))
        until_waiting(world, message)
        unknown = pool.submit(ingest, world, status("wamid.9", "sent", "2026-11-21T10:00:00Z"))
        # the other tenant, and others of this number, while the conversation is locked
        assert ingest(world, bay_message("wamid.b"))["applied"] == 1
        assert world.ingest(text_message("wamid.3", "38640777666"))["applied"] == 1
        with pytest.raises(psycopg.errors.LockNotAvailable):
            message.result()
    # it had the number after the message gave way, or gave way itself
    if unknown.exception() is not None:
        assert isinstance(unknown.exception(), psycopg.errors.LockNotAvailable)
    assert world.ingest(status("wamid.9", "sent", "2026-11-21T10:00:00Z"))["rejected"] == []
    assert world.value("select count(*) from public.messages where provider_id = 'wamid.2'") == 0
    assert ingest(world, text_message("wamid.2", NINA))["applied"] == 1


def test_a_replay_gives_way_as_well(world: World) -> None:
    world.ingest(text_message("wamid.1", NINA), body="one")
    event = world.value("select id from private.webhook_events")
    items = json.dumps([text_message("wamid.2", NINA)])
    with locked(world, NINA), world.acting("service_role") as connection:
        connection.execute("set local statement_timeout = '8s'")
        with pytest.raises(psycopg.errors.LockNotAvailable), connection.transaction():
            connection.execute("select backend.replay_webhook(%s, %s)", [event, items])


def test_a_status_of_an_unknown_message_stands_aside_for_those_who_share_the_number(
    world: World,
) -> None:
    """A transaction with a message of the number under way, however long, stops no others."""
    world.ingest(text_message("wamid.1", NINA))
    with ThreadPoolExecutor(1) as pool, world.acting("service_role") as sharing:
        item = json.dumps([text_message("wamid.2", NINA)])
        sharing.execute("select backend.ingest_whatsapp(%s, %s)", [item, item])
        unknown = pool.submit(ingest, world, status("wamid.9", "sent", "2026-11-21T10:00:00Z"))
        assert world.ingest(text_message("wamid.3", "38640777666"))["applied"] == 1
        with pytest.raises(psycopg.errors.LockNotAvailable):
            unknown.result()
    assert world.ingest(status("wamid.9", "sent", "2026-11-21T10:00:00Z"))["applied"] == 1
