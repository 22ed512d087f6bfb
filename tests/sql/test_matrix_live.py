"""What is told live, to everybody: nothing that they could not select, and nothing once gone."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from tests.sql.actors import SIGNED_IN, populate, topics, undone
from tests.sql.matrix import TABLES
from tests.world import ALPINE, World, seed_uuid, text_message

CILKA = seed_uuid("contact cilka")
# table: rows by id
Sight = dict[str, dict[str, dict[str, Any]]]

STAMPS = ("version", "updated_at")

# all that tells somebody something, a transaction each
WRITES = {
    "a message comes": lambda world: world.ingest(text_message("wamid.new", "38640111222")),
    "a stranger writes": lambda world: world.ingest(text_message("wamid.x", "38640777777")),
    "staff edit": "update public.contacts_v2 set notes = 'x', email = 'c@x.si' where id = %s",
    "staff tag": "update public.contacts_live_chat set tags = '{vip}' where id = %s",
    "staff close": "update public.contacts_v2 set conversation_status = 'closed' where id = %s",
    "staff note": "insert into public.conversation_notes (conversation_id, note)"
    " select id, 'any' from public.conversations where customer_id = %s",
    "staff take": "select public.take_conversation(id)"
    " from public.conversations where customer_id = %s",
    "staff delete": "delete from public.contacts_v2 where id = %s",
}


def act(world: World, write: Any) -> None:
    if isinstance(write, str):
        with world.acting_as("andrej") as connection:
            connection.execute(write.encode(), [CILKA])
    else:
        write(world)


@pytest.fixture
def peopled(world: World) -> World:
    populate(world)
    return world


def sight(world: World, name: str) -> Sight:
    """All rows that somebody can select now, by table and id."""
    readable = world.value(
        "select array_agg(c.relname::text) from pg_class c"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')"
        " and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0"
        " and not a.attisdropped"
        " and not has_column_privilege('authenticated', c.oid, a.attnum, 'select'))"
    )
    with undone(world, name) as connection:
        # one way to the database and back, not one for each table
        with connection.pipeline():
            asked = {
                table: connection.execute(
                    sql.SQL("select to_jsonb(t) - %s::text[] from public.{} t").format(
                        sql.Identifier(table)
                    ),
                    [list(TABLES[table].personal)],
                )
                for table in readable
            }
        return {
            table: {row["id"]: row for (row,) in cursor if "id" in row}
            for table, cursor in asked.items()
        }


@pytest.mark.parametrize("write", WRITES)
def test_what_is_told_is_what_its_hearers_can_select(peopled: World, write: str) -> None:
    before = {name: sight(peopled, name) for name in SIGNED_IN}
    hearers = {name: topics(peopled, name) for name in SIGNED_IN}
    peopled.forget_events()

    act(peopled, WRITES[write])

    events = [event for event in peopled.events() if event["event"] != "topics.changed"]
    after = {name: sight(peopled, name) for name in SIGNED_IN}
    joined = {name: topics(peopled, name) for name in SIGNED_IN}
    assert any(event["topic"].startswith("account:") for event in events)
    for name in SIGNED_IN:
        for event in events:
            if event["topic"] not in hearers[name] | joined[name]:
                continue
            payload = event["payload"]
            table, id_ = payload["table"], payload["id"]
            rows = [seen[name].get(table, {}).get(id_, {}) for seen in (before, after)]
            for told in (payload.get("record") or {}, payload.get("old_record") or {}):
                # a transaction may change a row more than once, and tells each
                assert all(
                    column in STAMPS
                    or value is None
                    or value in [row[column] for row in rows if column in row]
                    for column, value in told.items()
                ), (name, event)
                assert not told or told.keys() <= rows[0].keys() | rows[1].keys(), (name, event)


def log_of(world: World, name: str, cursor: str | None) -> dict[str, Any]:
    with world.acting_as(name) as connection:
        row = connection.execute("select public.changes_since(%s)", [cursor]).fetchone()
    assert row is not None
    page: dict[str, Any] = row[0]
    return page


@pytest.mark.parametrize(
    ("name", "removal"),
    [
        ("vera", "delete from public.account_members where user_id = %s"),
        ("andrej", "delete from public.account_members where user_id = %s"),
        (
            "cilka",
            "update public.contacts set portal_user_id = null where portal_user_id = %s",
        ),
        ("cilka", "delete from auth.users where id = %s"),
    ],
)
def test_whoever_has_left_hears_and_reads_nothing_more(
    peopled: World, name: str, removal: str
) -> None:
    """Neither on a topic that was joined before, nor by catching up."""
    joined = topics(peopled, name)
    cursor = log_of(peopled, name, None)["cursor"]
    assert joined

    peopled.owner.execute(removal.encode(), [seed_uuid(name)])
    peopled.forget_events()
    for write in ("a message comes", "a stranger writes"):
        act(peopled, WRITES[write])
    peopled.owner.execute(
        "update public.contacts set notes = 'left' where account_id = %s and deleted_at is null",
        [ALPINE],
    )

    told = {event["topic"] for event in peopled.events()}
    assert told
    assert not told & joined
    assert topics(peopled, name) == set()
    for page in (log_of(peopled, name, cursor), log_of(peopled, name, None)):
        assert page["changes"] == []
        assert log_of(peopled, name, page["cursor"])["changes"] == []


def test_customers_hear_of_no_other_customer(peopled: World) -> None:
    hers = topics(peopled, "cilka")
    peopled.forget_events()

    act(peopled, WRITES["a stranger writes"])
    act(peopled, WRITES["staff tag"])

    assert {event["topic"] for event in peopled.events()} & hers == set()
