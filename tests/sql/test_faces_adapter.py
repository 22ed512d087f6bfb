"""The faces that a Python client makes of events are the rows of the views."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import count
from typing import Any, get_args
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rapport.client.events import Event
from rapport.client.face_feed import FaceFeed
from rapport.client.faces import (
    STATUS_WORDS,
    Channel,
    ContactV2,
    LiveChatContact,
    contact_live_chat,
    contact_v2,
)
from rapport.local.stack.postgres import Cluster, Database
from tests.world import ALPINE, World, text_message

FACES: dict[str, type[ContactV2] | type[LiveChatContact]] = {
    "contacts_v2": ContactV2,
    "contacts_live_chat": LiveChatContact,
}
STATUSES = ("open", "pending", "closed")
PHONES = ("+38631000001", "+38631000002", "+38631000003")
# with a record before and after it an event of these is too large to be sent whole
LONG_NOTES = "ž" * 20_000

# no message or thread is like one of an earlier history
numbers = count()

small = st.integers(0, 3)
edits = st.one_of(
    st.tuples(st.just("make"), st.sampled_from(list(FACES)), st.sampled_from([None, *PHONES])),
    st.tuples(
        st.just("message"),
        st.sampled_from(PHONES),
        # the provider's minute: messages come late, too
        st.integers(0, 5),
        st.sampled_from([None, "Nika", "Oto"]),
    ),
    st.tuples(st.just("rename"), small, st.sampled_from([None, "Ana", "Bor"])),
    st.tuples(st.just("notes"), small, st.sampled_from([LONG_NOTES, "short"])),
    st.tuples(st.just("status"), st.sampled_from(list(FACES)), small, st.sampled_from(STATUSES)),
    st.tuples(st.just("thread"), small, st.just("portal")),
    st.tuples(st.just("move"), small, small),
    st.tuples(st.just("delete"), small),
    st.tuples(st.just("undelete"), small),
    st.tuples(st.just("drop thread"), small),
)


@pytest.fixture(scope="module")
def shared(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """One database for all histories: each begins where the one before ended."""
    database = cluster.clone_database(world_template, "faces_adapter")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)
    cluster.drop_database(database.name)


def play(world: World, number: int, edit: tuple[Any, ...]) -> None:
    """Does one edit in a transaction; what SQL refuses is a history without it."""

    def nth(table: str, n: int) -> UUID | None:
        rows = world.rows(
            f"select id from public.{table} where account_id = %s order by created_at desc, id"
            " limit 4",
            [ALPINE],
        )
        return rows[n % len(rows)]["id"] if rows else None

    def as_staff(statement: str, *parameters: object) -> None:
        try:
            with world.acting_as("andrej") as connection:
                connection.execute(statement.encode(), parameters)
        except psycopg.Error as refusal:
            if refusal.sqlstate not in {"PT404", "PT409"}:
                raise

    match edit:
        case ("make", face, phone):
            as_staff(f"insert into public.{face} (phone, tags) values (%s, '{{new}}')", phone)
        case ("message", phone, minute, name):
            sent_at = f"2026-11-21T10:{minute:02}:00Z"
            world.ingest(
                text_message(f"wamid.{number}", phone[1:], sent_at=sent_at, profile_name=name)
            )
        case ("rename", n, name):
            as_staff(
                "update public.contacts_v2 set name = %s where id = %s", name, nth("contacts", n)
            )
        case ("notes", n, notes):
            as_staff(
                "update public.contacts_v2 set notes = %s where id = %s", notes, nth("contacts", n)
            )
        case ("status", face, n, status):
            word = STATUS_WORDS["contacts_page" if face == "contacts_v2" else "live_chat"][status]
            as_staff(
                f"update public.{face} set conversation_status = %s where id = %s",
                word,
                nth("contacts", n),
            )
        case ("thread", n, channel):
            world.owner.execute(
                "insert into public.conversations (account_id, customer_id, channel, thread_key)"
                " values (%s, %s, %s, %s)",
                [ALPINE, nth("contacts", n), channel, f"thread {number}"],
            )
        case ("move", n, m):
            world.owner.execute(
                "update public.conversations set customer_id = %s where id = %s",
                [nth("contacts", m), nth("conversations", n)],
            )
        case ("delete", n):
            as_staff("delete from public.contacts_live_chat where id = %s", nth("contacts", n))
        case ("undelete", n):
            world.owner.execute(
                "update public.contacts set deleted_at = null where id = %s", [nth("contacts", n)]
            )
        case ("drop thread", n):
            world.owner.execute(
                "delete from public.conversations where id = %s", [nth("conversations", n)]
            )


def seen(world: World, query: str, *parameters: object) -> list[dict[str, Any]]:
    """Rows as JSON, as an agent of Alpine reads them."""
    with world.acting_as("andrej") as connection:
        rows = connection.execute(
            f"select to_jsonb(r) from ({query}) r".encode(), parameters
        ).fetchall()
    return [row[0] for row in rows]


def loaded(world: World) -> list[FaceFeed[ContactV2] | FaceFeed[LiveChatContact]]:
    """A feed for each face, with all rows as they stand."""
    feeds: list[FaceFeed[ContactV2] | FaceFeed[LiveChatContact]] = [
        FaceFeed(contact_v2),
        FaceFeed(contact_live_chat),
    ]
    for table, condition in (
        ("conversation_activity", "true"),
        ("conversations", "true"),
        ("contacts", "deleted_at is null"),
    ):
        rows = seen(world, f"select * from public.{table} where {condition}")
        for feed in feeds:
            feed.load(table, rows)
    return feeds


def heard(world: World) -> list[Event]:
    """What the account's topic was sent since it was last asked."""
    events = [
        Event.model_validate(event["payload"])
        for event in world.events()
        if event["kind"] == "account" and event["event"] != "topics.changed"
    ]
    with world.connect("supabase_admin") as connection:
        connection.execute("delete from realtime.messages")
    return events


def tell(world: World, feed: FaceFeed[Any], events: list[Event]) -> None:
    """Applies events one by one, and reads what was only hinted at."""
    for event in events:
        before = feed.rows
        changes = feed.apply(event)
        replayed = dict(before)
        for change in changes:
            assert change.old != change.new
            assert (change.operation == "INSERT") == (change.old is None)
            assert (change.operation == "DELETE") == (change.new is None)
            row = change.new or change.old
            assert row is not None
            assert replayed.get(row.id) == change.old
            if change.new is None:
                del replayed[row.id]
            else:
                replayed[row.id] = change.new
        assert replayed == feed.rows
    for table, row_id in feed.to_read:
        feed.load(table, seen(world, f"select * from public.{table} where id = %s", row_id))


def assert_shows_the_views(world: World, feeds: list[Any]) -> None:
    for feed, (view, model) in zip(feeds, FACES.items(), strict=True):
        rows = [model.model_validate(row) for row in seen(world, f"select * from public.{view}")]
        assert feed.rows == {row.id: row for row in rows}


def changes_since(world: World, cursor: str | None) -> dict[str, Any]:
    with world.acting_as("andrej") as connection:
        row = connection.execute("select public.changes_since(%s, 1000)", [cursor]).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


@settings(max_examples=25, deadline=None)
@given(history=st.lists(edits, min_size=1, max_size=8), seed=st.integers(0, 2**32))
def test_every_history_of_writes_ends_in_the_rows_of_the_views(
    shared: World, history: list[tuple[Any, ...]], seed: int
) -> None:
    order = random.Random(seed)
    heard(shared)
    cursor = changes_since(shared, None)["cursor"]
    live, shuffled, caught_up, mixed = (loaded(shared) for _ in range(4))
    assert_shows_the_views(shared, live)

    broadcasts: list[Event] = []
    for edit in history:
        play(shared, next(numbers), edit)
        events = heard(shared)
        for feed in live:
            tell(shared, feed, events)
        assert_shows_the_views(shared, live)
        broadcasts += events

    page = changes_since(shared, cursor)
    assert (page["more"], page["resync"]) == (False, False)
    log = [Event.model_validate(change) for change in page["changes"]]
    repeated = broadcasts + order.sample(broadcasts, len(broadcasts) // 2)
    order.shuffle(repeated)
    everything = repeated + log
    order.shuffle(everything)
    for feeds, told in ((shuffled, repeated), (caught_up, log), (mixed, everything)):
        for feed in feeds:
            tell(shared, feed, told)
        assert_shows_the_views(shared, feeds)


def test_notes_that_are_too_long_to_send_are_hinted_at_and_read(world: World) -> None:
    feeds = loaded(world)
    heard(world)
    play(world, 1, ("notes", 0, LONG_NOTES))
    play(world, 2, ("rename", 0, "Ana"))
    events = heard(world)

    assert None in [event.record for event in events if event.table == "contacts"]
    for feed in feeds:
        tell(world, feed, events)
        assert feed.to_read == frozenset()
    assert_shows_the_views(world, feeds)


def test_words_in_python_are_those_of_the_table(world: World) -> None:
    rows = world.rows("select face, status, word from public.status_words")

    assert {(row["face"], row["status"], row["word"]) for row in rows} == {
        (face, status, word)
        for face, words in STATUS_WORDS.items()
        for status, word in words.items()
    }


@pytest.mark.parametrize("view", FACES)
def test_models_have_the_columns_of_the_views(world: World, view: str) -> None:
    columns = world.rows(
        "select attname::text as name from pg_attribute where attrelid = %s::regclass"
        " and attnum > 0",
        [f"public.{view}"],
    )
    model: type[BaseModel] = FACES[view]
    assert set(model.model_fields) == {column["name"] for column in columns}


def test_channels_in_python_are_those_of_the_table(world: World) -> None:
    check = world.value(
        "select pg_get_constraintdef(oid) from pg_constraint"
        " where conname = 'conversations_channel_check'"
    )
    assert set(re.findall(r"'(\w+)'", check)) == set(get_args(Channel))


def test_events_of_a_broadcast_are_read_as_they_are_sent(world: World) -> None:
    world.forget_events()
    world.ingest(text_message("wamid.1", "38640111222"))

    payloads = [event["payload"] for event in world.events() if event["kind"] == "account"]
    assert [Event.model_validate_json(json.dumps(payload)).table for payload in payloads]
