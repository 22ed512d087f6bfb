"""Catch-up by cursor: every entry exactly once, in an order that commits respect."""

from __future__ import annotations

import base64
import json
import random
import secrets
import threading
from collections import Counter
from typing import Any

import psycopg
import pytest

from rapport.local.stack.postgres import Cluster, Database
from tests.sql.live import all_since, changes_since, start
from tests.world import ALPINE, Connection, World, seed_uuid, text_message


def insert_contact(connection: Connection, name: str) -> None:
    connection.execute(
        "insert into public.contacts (account_id, name) values (%s, %s)", [ALPINE, name]
    )


def names(changes: list[dict[str, Any]]) -> list[str]:
    return [change["record"]["name"] for change in changes if change["table"] == "contacts"]


def test_first_call_gives_a_cursor_and_no_history(world: World) -> None:
    first = changes_since(world, "andrej")

    assert (first["changes"], first["more"], first["resync"]) == ([], False, False)


def test_each_change_comes_once_with_its_row(world: World) -> None:
    cursor = start(world, "andrej")
    world.ingest(text_message("wamid.1", text="hello"))

    changes, cursor = all_since(world, "andrej", cursor)
    again, _ = all_since(world, "andrej", cursor)

    assert [(change["table"], change["operation"]) for change in changes] == [
        ("customers", "INSERT"),
        ("contacts", "INSERT"),
        ("conversations", "INSERT"),
        ("messages", "INSERT"),
    ]
    [message] = [change for change in changes if change["table"] == "messages"]
    assert message["record"]["message"] == "hello"
    assert again == []


def test_customer_follows_its_own_rows_alone(world: World) -> None:
    cursors = {user: start(world, user) for user in ("cilka", "carlos", "stranger", "ana")}
    world.ingest(text_message("wamid.1", wa_id="38640111222"), text_message("wamid.2"))
    world.owner.execute("update public.contacts set notes = 'private' where name = 'cilka'")

    changes, _ = all_since(world, "cilka", cursors["cilka"])

    assert [change["table"] for change in changes] == ["conversations", "messages"]
    for other in ("carlos", "stranger", "ana"):
        assert all_since(world, other, cursors[other])[0] == []


def test_row_that_is_gone_is_an_id_and_a_delete(world: World) -> None:
    cursor = start(world, "andrej")
    insert_contact(world.owner, "brief")
    world.owner.execute("delete from public.contacts where name = 'brief'")

    changes, _ = all_since(world, "andrej", cursor)

    assert {(change["operation"], change["record"]) for change in changes} == {("DELETE", None)}


def test_row_that_leaves_a_customer_is_gone_for_it_and_moved_for_staff(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640111222"))
    cursors = {user: start(world, user) for user in ("cilka", "andrej")}
    insert_contact(world.owner, "new")
    world.owner.execute(
        "update public.conversations"
        " set customer_id = (select id from public.contacts where name = 'new')"
    )

    lost, _ = all_since(world, "cilka", cursors["cilka"])
    moved, _ = all_since(world, "andrej", cursors["andrej"])

    assert {(change["table"], change["operation"], change["record"]) for change in lost} == {
        ("conversations", "DELETE", None),
        ("messages", "DELETE", None),
    }
    assert "DELETE" not in {change["operation"] for change in moved}
    assert {change["table"] for change in moved} >= {"conversations", "messages"}


def test_transaction_that_was_running_is_not_missed(world: World) -> None:
    """It logged before the cursor was taken and commits after: a position would skip it."""
    with world.connect() as slow, world.connect() as fast:
        with slow.transaction():
            insert_contact(slow, "slow")
            insert_contact(fast, "fast")
            seen, cursor = all_since(world, "andrej", start_before := start(world, "andrej"))
            assert seen == []
            assert start_before
        after, _ = all_since(world, "andrej", cursor)

    assert names(after) == ["slow"]


def test_page_by_page_to_one_target(world: World) -> None:
    """Changes that commit while pages are read belong to the next round, all of them."""
    cursor = start(world, "andrej")
    for number in range(7):
        insert_contact(world.owner, f"first {number}")

    page = changes_since(world, "andrej", cursor, 4)
    found = page["changes"]
    insert_contact(world.owner, "second")
    while page["more"]:
        page = changes_since(world, "andrej", page["cursor"], 4)
        found += page["changes"]
    later, _ = all_since(world, "andrej", page["cursor"], 4)

    assert names(found) == [f"first {number}" for number in range(7)]
    assert names(later) == ["second"]


@pytest.mark.parametrize("seed", [1, 2])
def test_concurrent_writers_are_read_exactly_once(world: World, seed: int) -> None:
    """Savepoints, rollbacks and a long transaction, read in pages of 17 all the while."""
    cursor = start(world, "andrej")
    kept: Counter[str] = Counter()
    guard = threading.Lock()
    writing = threading.Event()

    def write(worker: int) -> None:
        chance = random.Random(f"{seed} {worker}")
        with world.connect() as connection:
            for number in range(40):
                mine = []
                keep_all = chance.random() < 0.8
                with connection.transaction(force_rollback=not keep_all):
                    for row in range(chance.randint(1, 3)):
                        name = f"{worker}.{number}.{row}"
                        keep = chance.random() < 0.8
                        with connection.transaction(force_rollback=not keep):
                            insert_contact(connection, name)
                        if keep and keep_all:
                            mine.append(name)
                with guard:
                    kept.update(mine)

    def write_long() -> None:
        with world.connect() as connection, connection.transaction():
            insert_contact(connection, "long")
            writing.wait()
        with guard:
            kept.update(["long"])

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    long_writer = threading.Thread(target=write_long)
    for thread in (long_writer, *writers):
        thread.start()
    read: Counter[str] = Counter()
    while any(writer.is_alive() for writer in writers):
        changes, cursor = all_since(world, "andrej", cursor, page_size=17)
        read.update(names(changes))
    writing.set()
    for thread in (long_writer, *writers):
        thread.join()
    changes, cursor = all_since(world, "andrej", cursor, page_size=17)
    read.update(names(changes))

    assert len(kept) > 100
    assert read == kept
    assert set(read.values()) == {1}


@pytest.mark.parametrize(
    "damage",
    [
        "update private.change_log set epoch = gen_random_uuid()",
        # roles and accounts are the caller's scope
        "update public.account_members set role = 'viewer' where display_name = 'andrej'",
    ],
)
def test_cursor_of_another_scope_or_epoch_answers_resync(world: World, damage: str) -> None:
    cursor = start(world, "andrej")
    world.owner.execute(damage.encode())
    insert_contact(world.owner, "unseen")

    answer = changes_since(world, "andrej", cursor)

    assert answer["resync"]
    assert answer["changes"] == []
    insert_contact(world.owner, "seen")
    assert names(all_since(world, "andrej", answer["cursor"])[0]) == ["seen"]


def test_log_that_was_put_back_answers_resync(world: World) -> None:
    """As a restore of a dump does it: the same entries, in a new table."""
    cursor = start(world, "andrej")
    insert_contact(world.owner, "lost by the restore")
    world.owner.execute(
        """
        create temporary table dump as select * from private.changes;
        truncate private.changes;
        insert into private.changes overriding system value select * from dump
        """
    )

    assert changes_since(world, "andrej", cursor)["resync"]


def test_copy_of_the_database_answers_resync(cluster: Cluster, world_template: Database) -> None:
    """Restored beside the one in which the cursor was taken, which went on."""
    origin = cluster.clone_database(world_template, f"origin_{secrets.token_hex(4)}")
    with psycopg.connect(origin.url(), autocommit=True) as owner:
        insert_contact(owner, "before")
        cursor = start(World(origin, owner), "andrej")
    copy = cluster.clone_database(origin, f"{origin.name}_copy")
    with psycopg.connect(origin.url(), autocommit=True) as owner:
        assert not changes_since(World(origin, owner), "andrej", cursor)["resync"]
    with psycopg.connect(copy.url(), autocommit=True) as owner:
        assert changes_since(World(copy, owner), "andrej", cursor)["resync"]
    for database in (origin, copy):
        cluster.drop_database(database.name)


def test_cursor_from_the_future_answers_resync(world: World) -> None:
    """The disk was put back to a time before the cursor: its transactions never were."""
    fields = json.loads(base64.b64decode(start(world, "andrej")))
    latest = int(fields["since"].split(":")[1])
    fields["since"] = f"{latest}:{latest + 1000}:"
    future = base64.b64encode(json.dumps(fields).encode()).decode()

    assert changes_since(world, "andrej", future)["resync"]


# what happens to a row of each followed table, and what is told of it
HISTORIES = {
    "contacts": (
        "insert into public.contacts (id, account_id, name) values (%(id)s, %(account)s, 'x')",
        "update public.contacts set name = 'y' where id = %(id)s",
        "delete from public.contacts where id = %(id)s",
    ),
    "customers": (
        "insert into public.contacts (id, account_id, name) values (%(id)s, %(account)s, 'x')",
        "update public.contacts set name = 'y' where id = %(id)s",
        "delete from public.contacts where id = %(id)s",
    ),
    "conversations": (
        (
            "insert into public.conversations (id, account_id, customer_id, channel, thread_key)"
            " values (%(id)s, %(account)s, %(customer)s, 'portal', 'x')"
        ),
        "update public.conversations set status = 'closed' where id = %(id)s",
        "delete from public.conversations where id = %(id)s",
    ),
    "messages": (
        (
            "insert into public.messages"
            " (id, account_id, conversation_id, customer_id, seq, sender_type, message, status)"
            " values"
            " (%(id)s, %(account)s, %(conversation)s, %(customer)s, 1, 'client', 'x', 'sent')"
        ),
        "update public.messages set message = 'y' where id = %(id)s",
        "delete from public.messages where id = %(id)s",
    ),
    "jobs": (
        (
            "insert into public.jobs (id, customer_id, service_type, starts_at)"
            " values (%(id)s, %(customer)s, 'x', now())"
        ),
        "update public.jobs set service_type = 'y' where id = %(id)s",
        "delete from public.jobs where id = %(id)s",
    ),
    "invoices": (
        (
            "insert into public.invoices (id, customer_id, number, currency, amount_minor)"
            " values (%(id)s, %(customer)s, '1', 'EUR', 100)"
        ),
        "update public.invoices set amount_minor = 200 where id = %(id)s",
        "delete from public.invoices where id = %(id)s",
    ),
    "loyalty_transactions": (
        (
            "insert into public.loyalty_transactions (id, customer_id, type, points)"
            " values (%(id)s, %(customer)s, 'earned', 5)"
        ),
        # a line is never changed, nor deleted but with its customer: its stamp alone can be
        "update public.loyalty_transactions set updated_at = '-infinity' where id = %(id)s",
        "delete from public.contacts where id = %(customer)s",
    ),
    "conversation_notes": (
        (
            "insert into public.conversation_notes (id, account_id, conversation_id, seq, note)"
            " values (%(id)s, %(account)s, %(conversation)s, 1, 'x')"
        ),
        "update public.conversation_notes set note = 'y' where id = %(id)s",
        "delete from public.conversation_notes where id = %(id)s",
    ),
    "desk_states": (
        (
            "with k as (insert into public.conversations"
            " (id, account_id, customer_id, channel, thread_key)"
            " values (%(id)s, %(account)s, %(customer)s, 'portal', 'x') returning id, account_id)"
            " insert into public.desk_states (id, account_id) select id, account_id from k"
        ),
        "update public.desk_states set snoozed_until = now() where id = %(id)s",
        "delete from public.desk_states where id = %(id)s",
    ),
    "labels": (
        "insert into public.labels (id, account_id, name) values (%(id)s, %(account)s, 'x')",
        "update public.labels set name = 'y' where id = %(id)s",
        "delete from public.labels where id = %(id)s",
    ),
    "conversation_labels": (
        (
            "with l as (insert into public.labels (account_id, name)"
            " values (%(account)s, 'x') returning id)"
            " insert into public.conversation_labels (id, account_id, conversation_id, label_id)"
            " select %(id)s, %(account)s, %(conversation)s, l.id from l"
        ),
        # a label is put on and taken off, and never changed
        "delete from public.conversation_labels where id = %(id)s",
    ),
    "saved_replies": (
        (
            "insert into public.saved_replies (id, account_id, short_code, text)"
            " values (%(id)s, %(account)s, 'x', 'x')"
        ),
        "update public.saved_replies set text = 'y' where id = %(id)s",
        "delete from public.saved_replies where id = %(id)s",
    ),
    "scheduled_messages": (
        (
            "insert into public.scheduled_messages (id, account_id, conversation_id, customer_id,"
            " author_id, author_name, message, wanted_at, send_at, due_at)"
            " select %(id)s, %(account)s, %(conversation)s, %(customer)s, m.user_id, 'x', 'x',"
            " now() + '1 day', now() + '1 day', now() + '1 day'"
            " from public.account_members m where m.account_id = %(account)s limit 1"
        ),
        "update public.scheduled_messages set message = 'y' where id = %(id)s",
        "delete from public.scheduled_messages where id = %(id)s",
    ),
    "reminder_rules": (
        (
            "insert into public.reminder_rules (id, account_id, name, kind, minutes, text)"
            " values (%(id)s, %(account)s, 'x', 'before_appointment', 60, 'x')"
        ),
        "update public.reminder_rules set name = 'y' where id = %(id)s",
        "delete from public.reminder_rules where id = %(id)s",
    ),
    "account_health": (
        (
            "insert into public.account_health"
            " (id, account_id, kind, subject, since, count, meaning, remedy)"
            " values (%(id)s, %(account)s, 'failed_messages', 'x', now(), 1, 'x', 'x')"
        ),
        "update public.account_health set count = 2 where id = %(id)s",
        "delete from public.account_health where id = %(id)s",
    ),
    "sync_runs": (
        (
            "insert into public.sync_runs (id, account_id, direction, trigger)"
            " values (%(id)s, %(account)s, 'both', 'schedule')"
        ),
        "update public.sync_runs set done = 1 where id = %(id)s",
        "delete from public.sync_runs where id = %(id)s",
    ),
}


def test_every_followed_table_has_its_history(world: World) -> None:
    published = world.rows(
        "select tablename::text as name from pg_publication_tables"
        " where pubname = 'supabase_realtime'"
    )
    assert set(HISTORIES) == {table["name"] for table in published}


@pytest.mark.parametrize("table", HISTORIES)
def test_row_of_every_followed_table_is_told_of(world: World, table: str) -> None:
    names = {
        "id": seed_uuid("row"),
        "account": ALPINE,
        "customer": seed_uuid("contact cilka"),
        "conversation": seed_uuid("conversation"),
    }
    world.owner.execute(
        "insert into public.conversations (id, account_id, customer_id, channel, thread_key)"
        " values (%(conversation)s, %(account)s, %(customer)s, 'portal', 'any')",
        names,
    )
    told = []
    for statement in HISTORIES[table]:
        cursor = start(world, "andrej")
        world.owner.execute(statement.encode(), names)
        changes, _ = all_since(world, "andrej", cursor)
        told += [
            (change["operation"], change["version"], change["record"] is not None)
            for change in changes
            if (change["table"], change["id"]) == (table, str(names["id"]))
        ]

    changed = [("UPDATE", 2, True)] * (len(HISTORIES[table]) == 3)
    assert told == [("INSERT", 1, True), *changed, ("DELETE", 1 + len(changed), False)]


def test_contact_that_is_deleted_softly_is_a_tombstone_and_comes_back_as_new(world: World) -> None:
    contact = seed_uuid("contact cilka")
    cursor = start(world, "andrej")
    with world.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [contact])
    gone, cursor = all_since(world, "andrej", cursor)
    world.owner.execute(
        "update public.contacts set merged_into = null, deleted_at = now() where id = %s", [contact]
    )
    still_gone, cursor = all_since(world, "andrej", cursor)
    world.owner.execute(
        "update public.contacts set deleted_at = null, name = 'back' where id = %s", [contact]
    )
    back, _ = all_since(world, "andrej", cursor)

    assert {(change["table"], change["operation"], change["record"]) for change in gone} == {
        ("customers", "DELETE", None),
        ("contacts", "DELETE", None),
    }
    assert still_gone == []
    assert {(change["table"], change["operation"]) for change in back} == {
        ("customers", "INSERT"),
        ("contacts", "INSERT"),
    }
    # a client that remembers the tombstone's version takes what comes after it
    assert min(change["version"] for change in back) > max(change["version"] for change in gone)


def test_cursor_older_than_the_log_answers_resync(world: World) -> None:
    fields = json.loads(base64.b64decode(start(world, "andrej")))
    fields["at"] = "2020-01-01T00:00:00Z"
    old = base64.b64encode(json.dumps(fields).encode()).decode()

    assert changes_since(world, "andrej", old)["resync"]


def test_anothers_cursor_opens_nothing(world: World) -> None:
    cursor = start(world, "andrej")
    insert_contact(world.owner, "alpine's")

    answer = changes_since(world, "ana", cursor)

    assert answer["resync"]
    assert answer["changes"] == []


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%%%%",
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"null").decode(),
        base64.b64encode(b'{"since": "9:1:"}').decode(),
        base64.b64encode(b'{"since": "1:9:", "at": "soon"}').decode(),
        base64.b64encode(b'{"since": "1:9:", "at": "2026-01-01", "xid": "-"}').decode(),
        base64.b64encode(b'{"since": "1:9:", "at": "2026-01-01", "until_at": []}').decode(),
    ],
)
def test_what_is_no_cursor_is_refused_with_a_code(world: World, cursor: str) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        changes_since(world, "andrej", cursor)
    assert refusal.value.sqlstate == "PT422"


def test_page_size_is_kept_within_bounds(world: World) -> None:
    cursor = start(world, "andrej")
    for number in range(3):
        insert_contact(world.owner, f"{number}")

    assert len(changes_since(world, "andrej", cursor, 0)["changes"]) == 1
    assert len(changes_since(world, "andrej", cursor, 10**9)["changes"]) == 6


def test_whoever_is_staff_and_customer_gets_each_entry_once(world: World) -> None:
    world.owner.execute(
        "update public.contacts set portal_user_id = %s where name = 'cilka'",
        [seed_uuid("andrej")],
    )
    cursor = start(world, "andrej")
    world.ingest(text_message("wamid.1", wa_id="38640111222"))

    changes, _ = all_since(world, "andrej", cursor)

    assert [change["table"] for change in changes].count("messages") == 1


def test_messages_of_a_conversation_come_in_the_order_of_their_seq(world: World) -> None:
    """Who waited for the conversation has the older transaction, and the later message."""
    world.ingest(text_message("wamid.1"))
    cursor = start(world, "andrej")

    with world.connect() as waiting, waiting.transaction():
        waiting.execute("select pg_current_xact_id()")
        world.ingest(text_message("wamid.2"))
        item = json.dumps([text_message("wamid.3")])
        waiting.execute("select backend.ingest_whatsapp(%s, %s)", [item, item])

    page = changes_since(world, "andrej", cursor)
    seqs = [each["record"]["seq"] for each in page["changes"] if each["table"] == "messages"]
    assert seqs == [2, 3]
