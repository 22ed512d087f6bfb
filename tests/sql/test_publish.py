"""The traces of a change: entries in the log, and a hint for the users who may see the row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.world import ALPINE, World, seed_uuid, text_message


@pytest.fixture
def quiet(world: World) -> World:
    """Cilka, who has a login, has written; what that caused is forgotten."""
    world.ingest(text_message("wamid.1", wa_id="38640111222"))
    world.forget_events()
    return world


def logged(world: World) -> list[tuple[Any, ...]]:
    return world.owner.execute(
        "select table_name, operation, version from private.changes order by xid, seq"
    ).fetchall()


def heard(world: World, kind: str) -> list[str]:
    """The events of one kind of topic."""
    return [event["event"] for event in world.events() if event["kind"] == kind]


def test_message_is_logged_and_told_to_each_audience(quiet: World) -> None:
    quiet.ingest(text_message("wamid.2", wa_id="38640111222", text="On Tuesday?"))

    assert logged(quiet) == [("messages", "INSERT", 1)]
    for kind in ("account", "customer", "conversation"):
        assert heard(quiet, kind) == ["messages.inserted"]
    [payload] = [
        event["payload"]
        for event in quiet.events()
        if event["kind"] == "account" and event["event"] == "messages.inserted"
    ]
    told = {"table", "id", "version", "operation", "record", "old_record"}
    assert set(payload) == {*told, "transaction", "count"}
    assert (payload["table"], payload["operation"]) == ("messages", "INSERT")
    assert payload["record"]["message"] == "On Tuesday?"
    assert payload["old_record"] is None


def test_update_tells_the_row_before_and_after(quiet: World) -> None:
    quiet.owner.execute("update public.conversations set status = 'pending'")

    [event] = [event for event in quiet.events() if event["kind"] == "account"]
    assert event["event"] == "conversations.updated"
    assert event["payload"]["old_record"]["status"] == "open"
    assert event["payload"]["record"]["status"] == "pending"
    assert event["payload"]["version"] == 2


def test_delete_tells_the_row_before(quiet: World) -> None:
    quiet.owner.execute("delete from public.messages")

    assert logged(quiet) == [("messages", "DELETE", 1)]
    [event] = [event for event in quiet.events() if event["kind"] == "customer"]
    assert event["event"] == "messages.deleted"
    assert event["payload"]["record"] is None
    assert event["payload"]["old_record"]["message"] == "text of wamid.1"


def test_contact_is_told_to_staff_and_its_customer_row_to_the_customer(quiet: World) -> None:
    quiet.owner.execute(
        "update public.contacts set name = 'Cilka C.', notes = 'pays late' where name = 'cilka'"
    )

    assert sorted(heard(quiet, "account")) == ["contacts.updated", "customers.updated"]
    assert heard(quiet, "customer") == ["customers.updated"]
    for event in quiet.events():
        if event["kind"] != "account":
            assert "pays late" not in str(event["payload"])


def test_note_is_nothing_that_a_customer_hears_of(quiet: World) -> None:
    quiet.owner.execute("update public.contacts set notes = 'pays late' where name = 'cilka'")

    assert heard(quiet, "account") == ["contacts.updated"]
    assert heard(quiet, "customer") == []


def test_update_that_changes_nothing_leaves_no_trace(quiet: World) -> None:
    quiet.owner.execute("update public.contacts set name = name")
    quiet.owner.execute("update public.messages set message = message")

    assert logged(quiet) == []
    assert quiet.events() == []
    assert quiet.value("select max(version) from public.messages") == 1


def test_customer_without_login_has_no_topic(quiet: World) -> None:
    quiet.ingest(text_message("wamid.2"))

    assert heard(quiet, "customer") == []
    assert "messages.inserted" in heard(quiet, "account")


def test_row_that_leaves_an_owner_is_gone_for_it(quiet: World) -> None:
    """Cilka's conversation turns out to be another contact's, who has a login as well."""
    quiet.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'new', %s)",
        [seed_uuid("contact new"), ALPINE, seed_uuid("stranger")],
    )
    quiet.forget_events()
    quiet.owner.execute(
        "update public.conversations set customer_id = %s", [seed_uuid("contact new")]
    )

    # the messages went along
    assert quiet.value("select customer_id from public.messages") == seed_uuid("contact new")
    by_customer: dict[str, list[dict[str, Any]]] = {}
    for event in quiet.events():
        if event["kind"] == "customer":
            by_customer.setdefault(event["topic"].split(":")[1], []).append(event)
    lost = by_customer[str(seed_uuid("contact cilka"))]
    gained = by_customer[str(seed_uuid("contact new"))]
    assert sorted(event["event"] for event in lost) == ["conversations.deleted", "messages.deleted"]
    assert all(
        event["payload"]["record"] is None and event["payload"]["old_record"] is None
        for event in lost
    )
    assert sorted(event["event"] for event in gained) == [
        "conversations.inserted",
        "messages.inserted",
        # the conversation has a topic that its new customer may ask for
        "topics.changed",
    ]
    assert not any(event["payload"].get("old_record") for event in gained)


def test_many_rows_for_one_topic_are_one_resync(quiet: World) -> None:
    quiet.owner.execute(
        "insert into public.contacts (account_id, name)"
        " select %s, 'bulk ' || n from generate_series(1, 101) n",
        [ALPINE],
    )

    [event] = quiet.events()
    assert (event["event"], event["payload"]["tables"]) == ("resync", ["contacts", "customers"])
    assert len(logged(quiet)) == 202


def test_hundred_rows_are_still_told_one_by_one(quiet: World) -> None:
    quiet.owner.execute(
        "insert into public.contacts (account_id, name)"
        " select %s, 'bulk ' || n from generate_series(1, 100) n",
        [ALPINE],
    )

    assert heard(quiet, "account").count("contacts.inserted") == 100


@pytest.mark.parametrize("rows", [999, 1000, 1001, 2500])
def test_every_row_of_a_large_statement_is_logged(quiet: World, rows: int) -> None:
    quiet.owner.execute(
        "insert into public.contacts (account_id, name)"
        " select %s, 'bulk ' || n from generate_series(1, %s) n",
        [ALPINE, rows],
    )
    assert quiet.value("select count(*) from private.changes where table_name = 'contacts'") == rows
    assert heard(quiet, "account") == ["resync"]

    quiet.forget_events()
    quiet.owner.execute("update public.contacts set notes = 'all' where name like 'bulk%'")
    assert quiet.value("select count(*) from private.changes where table_name = 'contacts'") == rows
    assert heard(quiet, "account") == ["resync"]


@pytest.mark.parametrize("rows", [1, 100, 101, 1001])
def test_new_messages_are_logged_and_told_as_other_rows_are(quiet: World, rows: int) -> None:
    quiet.ingest(
        *(text_message(f"wamid.many.{n}", wa_id="38640111222") for n in range(rows)),
    )

    told = ["messages.inserted"] * rows if rows <= 100 else ["resync"]
    for kind in ("account", "customer", "conversation"):
        assert heard(quiet, kind) == told
    assert logged(quiet) == [("messages", "INSERT", 1)] * rows
    assert quiet.rows(
        "select row_id, account_id, customer_id, conversation_id from private.changes order by seq"
    ) == quiet.rows(
        "select id as row_id, account_id, customer_id, conversation_id from public.messages"
        " where provider_id <> 'wamid.1' order by seq"
    )


def test_message_is_told_alike_alone_and_among_many(quiet: World) -> None:
    quiet.ingest(text_message("wamid.alone", wa_id="38640111222"))
    quiet.ingest(
        text_message("wamid.among", wa_id="38640111222"),
        *(text_message(f"wamid.many.{n}") for n in range(100)),
    )

    alone, among = (
        [
            (event["kind"], event["topic"], event["payload"])
            for event in quiet.events()
            if event["event"] == "messages.inserted"
            and event["payload"]["record"]["provider_id"] == provider_id
        ]
        for provider_id in ("wamid.alone", "wamid.among")
    )
    # staff are told of the hundred and one to read again
    assert [kind for kind, *_ in alone] == ["account", "conversation", "customer"]
    assert [kind for kind, *_ in among] == ["conversation", "customer"]
    for kind, topic, payload in among:
        [other] = [told for told in alone if told[0] == kind]
        assert other[1] == topic
        assert set(other[2]) == set(payload)
        assert set(other[2]["record"]) == set(payload["record"])


@pytest.mark.parametrize("somebody_left", [False, True])
def test_one_row_is_published_as_the_rows_of_a_large_statement_are(
    quiet: World, somebody_left: bool
) -> None:
    """The short way for one row logs and tells what the one for many does."""
    quiet.ingest(text_message("wamid.2", wa_id="38640555444"))
    if somebody_left:
        quiet.owner.execute("delete from public.account_members where display_name = 'adam'")
    changes = """
        with rows as (
            select 'messages' as name, to_jsonb(m) as row from public.messages m
            union all
            select 'contacts', to_jsonb(c) from public.contacts c
            union all
            select 'customers', to_jsonb(c) from public.customers c
            union all
            select 'conversations', to_jsonb(k) from public.conversations k
        )
        select f, c.happened, (c.old, c.new)::private.row_change as change
        from rows r
        join private.followed_tables f on f.table_name = r.name
        cross join lateral (
            values
                ('INSERT', null, r.row),
                ('DELETE', r.row, null),
                ('UPDATE', r.row, r.row || '{"version": 7, "created_at": "2026-01-01"}'),
                ('UPDATE', r.row, r.row || '{"version": 7}')
        ) as c (happened, old, new)
        where f.seen_since is null
    """
    in_the_log = """
        select (to_jsonb(l) - array['xid', 'seq', 'logged_at'])::text as entry
        from private.changes l
        where l.xid = pg_current_xact_id()
        order by entry
    """
    waiting = """
        select (to_jsonb(w) - array['part', 'place'])::text as event
        from unnest(private.waiting_broadcasts()) w
        order by event
    """
    said = []
    general_way = (
        "private.log_changes(c.f, c.happened, array[c.change]),"
        " private.broadcast_changes(c.f, array[c.change])"
    )
    for way in ("private.publish_change(c.f, c.happened, c.change)", general_way):
        with quiet.owner.transaction(force_rollback=True):
            quiet.owner.execute(f"select {way} from ({changes}) c".encode())
            said.append([quiet.rows(in_the_log), quiet.rows(waiting)])
    short, general = said
    assert len(general[0]) > len(general[1]) > 10
    assert short == general


def test_column_that_nobody_has_named_is_not_sent(quiet: World) -> None:
    """Also where a session has sent rows of the table before."""
    quiet.owner.execute(
        "select backend.ingest_whatsapp('[]', %s)",
        [json.dumps([text_message("wamid.2", wa_id="38640111222")])],
    )
    for table in ("messages", "conversations"):
        quiet.owner.execute(f"alter table public.{table} add secret text default 's'".encode())
    quiet.forget_events()
    quiet.owner.execute(
        "select backend.ingest_whatsapp('[1]', %s)",
        [json.dumps([text_message("wamid.3", wa_id="38640111222")])],
    )
    quiet.owner.execute("update public.conversations set status = 'pending'")

    told = quiet.events()
    assert {event["payload"]["table"] for event in told} == {"messages", "conversations"}
    for event in told:
        assert "secret" not in event["payload"]["record"]


def test_large_row_is_told_by_id_alone(quiet: World) -> None:
    quiet.ingest(text_message("wamid.2", wa_id="38640111222", text="x" * 70_000))

    payloads = [
        event["payload"] for event in quiet.events() if event["event"] == "messages.inserted"
    ]
    assert payloads
    for payload in payloads:
        told = {"table", "id", "version", "operation"}
        assert set(payload) == {*told, "transaction", "count"}


def test_what_a_transaction_tells_leaves_together_and_says_how_much_it_is(quiet: World) -> None:
    with quiet.owner.transaction():
        xid = quiet.value("select pg_current_xact_id()::text")
        quiet.owner.execute("update public.contacts set name = 'Cilka C.' where name = 'cilka'")
        with quiet.owner.transaction(force_rollback=True):
            quiet.owner.execute("update public.messages set message = 'undone'")
        quiet.owner.execute("update public.messages set message = 'meant'")
        assert quiet.events() == []
        quiet.owner.execute("set constraints all immediate")
        assert len(quiet.events()) == 6
        # what comes later is told by itself
        quiet.owner.execute("set constraints all deferred")
        quiet.owner.execute("update public.conversations set status = 'pending'")

    told = {(e["kind"], e["event"], e["payload"]["count"]) for e in quiet.events()}
    assert told == {
        ("account", "contacts.updated", 3),
        ("account", "customers.updated", 3),
        ("account", "messages.updated", 3),
        ("account", "conversations.updated", 1),
        ("customer", "customers.updated", 2),
        ("customer", "messages.updated", 2),
        ("customer", "conversations.updated", 1),
        ("conversation", "messages.updated", 1),
        ("conversation", "conversations.updated", 1),
    }
    assert {event["payload"]["transaction"] for event in quiet.events()} == {xid}


def test_a_loop_of_many_statements_is_one_resync(quiet: World) -> None:
    with quiet.owner.transaction():
        quiet.owner.execute(
            "do $$ begin for n in 1..501 loop"
            " update public.messages set message = repeat('x', 500) || n; end loop; end $$"
        )
        # what waits does not take any amount of memory
        waiting = quiet.value(
            "select count(*) from pg_cursors where starts_with(name, 'rapport_broadcast_')"
        )
        assert 0 < waiting <= 250

    assert sorted((e["kind"], e["event"], e["payload"]["tables"]) for e in quiet.events()) == [
        (kind, "resync", ["messages"]) for kind in ("account", "conversation", "customer")
    ]


def test_failed_broadcast_does_not_abort_the_write(quiet: World) -> None:
    with quiet.connect("supabase_admin") as connection:
        connection.execute(
            "alter table realtime.messages add constraint broken check (topic = 'never') not valid"
        )
    quiet.ingest(text_message("wamid.2", wa_id="38640111222"))

    assert quiet.value("select count(*) from public.messages") == 2
    assert quiet.events() == []
    assert ("messages", "INSERT", 1) in logged(quiet)


def test_what_waits_and_can_not_be_read_does_not_abort_the_write(quiet: World) -> None:
    update = "update public.messages set message = %s"
    with quiet.owner.transaction():
        quiet.owner.execute(update, ["kept"])
        quiet.owner.execute("close rapport_broadcast_1")
        quiet.owner.execute(update, ["kept as well"])
        quiet.owner.execute("set constraints all immediate")
        assert quiet.events() == []
        # what comes later is told
        quiet.owner.execute("set constraints all deferred")
        quiet.owner.execute(update, ["told"])

    assert quiet.value("select message from public.messages") == "told"
    assert logged(quiet) == [("messages", "UPDATE", version) for version in (2, 3, 4)]
    told = [event["payload"] for event in quiet.events() if event["kind"] == "account"]
    assert [(one["record"]["message"], one["count"]) for one in told] == [("told", 1)]


def test_broadcast_shows_no_more_than_its_audience_can_select(quiet: World) -> None:
    """Every column that is sent is one that the audience could read, with that value."""
    quiet.ingest(text_message("wamid.2", wa_id="38640111222"))
    quiet.owner.execute("update public.contacts set name = 'Cilka C.' where name = 'cilka'")
    readers = {"account": "andrej", "customer": "cilka", "conversation": "cilka"}

    events = quiet.events()
    assert {event["kind"] for event in events} == set(readers)
    latest = {
        (event["kind"], event["payload"]["table"], event["payload"]["id"]): event["payload"]
        for event in events
    }
    for (kind, table, row_id), payload in latest.items():
        with quiet.acting_as(readers[kind]) as connection:
            row = connection.execute(
                f"select to_jsonb(r) from public.{table} r where id = %s".encode(), [row_id]
            ).fetchone()
        assert row is not None, (kind, table)
        assert payload["record"].items() <= row[0].items(), (kind, table)
