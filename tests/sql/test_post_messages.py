"""Writing in a conversation, by row or by RPC: who may, what may be said, and once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.outbound import CILKA, ago, conversation, post
from tests.world import ALPINE, World, seed_uuid, text_message

PORTAL = seed_uuid("conversation portal")
CLOSED = "25 hours"


@pytest.fixture
def thread(world: World) -> UUID:
    return conversation(world)


@pytest.fixture
def portal(world: World) -> UUID:
    world.owner.execute(
        "insert into public.conversations (id, account_id, customer_id, channel, thread_key)"
        " values (%s, %s, %s, 'portal', 'portal')",
        [PORTAL, ALPINE, seed_uuid("contact cilka")],
    )
    return PORTAL


def insert(world: World, user: str, thread: UUID, **columns: Any) -> dict[str, Any]:
    """What inserting a row answers a person, as PostgREST does it."""
    columns = {"conversation_id": thread, "message": "hi"} | columns
    names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"with m as (insert into public.messages ({names}) values ({places}) returning *)"
            " select to_jsonb(m) from m".encode(),
            columns,
        ).fetchone()
    assert row is not None
    inserted: dict[str, Any] = row[0]
    return inserted


WAYS = pytest.mark.parametrize("write", [insert, lambda w, u, t, **c: post(w, u, t, **c)])


def queued(world: World) -> int:
    return int(world.value("select count(*) from private.outbound_queue"))


def refused(write: Any, *arguments: Any, **columns: Any) -> tuple[str | None, str | None]:
    """Code and detail of a refusal."""
    with pytest.raises(psycopg.Error) as caught:
        write(*arguments, **columns)
    return caught.value.sqlstate, caught.value.diag.message_detail


@WAYS
def test_an_agents_message_is_numbered_named_and_queued(
    world: World, thread: UUID, write: Any
) -> None:
    posted = write(world, "andrej", thread, client_ref="a")
    assert posted["seq"] == 2
    assert posted["status"] == "queued"
    assert posted["account_id"] == str(ALPINE)
    assert (posted["sender_type"], posted["sender_name"]) == ("operator", "andrej")
    assert posted["sender_id"] == str(seed_uuid("andrej"))
    assert queued(world) == 1


@WAYS
def test_in_the_portal_both_sides_write_and_nothing_is_queued(
    world: World, portal: UUID, write: Any
) -> None:
    assert write(world, "cilka", portal)["sender_type"] == "client"
    answer = write(world, "andrej", portal)
    assert (answer["seq"], answer["status"], answer["sender_type"]) == (2, "sent", "operator")
    assert queued(world) == 0


@WAYS
@pytest.mark.parametrize(
    ("user", "code"), [("vera", "42501"), ("ana", "PT404"), ("stranger", "PT404")]
)
def test_who_may_not_write_writes_nothing(
    world: World, thread: UUID, portal: UUID, write: Any, user: str, code: str
) -> None:
    assert refused(write, world, user, thread)[0] == code
    assert refused(write, world, user, portal)[0] == code
    assert world.value("select count(*) from public.messages") == 1


@WAYS
def test_a_customer_writes_on_whatsapp_by_whatsapp(world: World, thread: UUID, write: Any) -> None:
    assert refused(write, world, "cilka", thread) == ("PT422", "field: conversation_id")


@pytest.mark.parametrize(
    "column",
    [
        {"sender_id": "x"},
        {"seq": 7},
        {"status": "read"},
        {"provider_id": "w"},
        {"sent_at": "2026-01-01"},
    ],
)
def test_what_the_database_says_nobody_else_says(
    world: World, thread: UUID, column: dict[str, Any]
) -> None:
    field = next(iter(column))
    assert refused(insert, world, "andrej", thread, **column) == ("PT422", f"field: {field}")


@WAYS
@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"message": " \n"}, "message"),
        ({"message": "x" * 4097}, "message"),
        ({"type": "poll", "content": Jsonb({})}, "type"),
        ({"type": "image"}, "content"),
        ({"content": Jsonb({"id": "1"})}, "content"),
        ({"type": "image", "content": Jsonb({"id": "x" * 70_000})}, "content"),
        ({"reply_to": seed_uuid("nothing")}, "reply_to"),
    ],
)
def test_what_can_not_be_sent_is_refused_with_its_field(
    world: World, thread: UUID, write: Any, columns: dict[str, Any], field: str
) -> None:
    assert refused(write, world, "andrej", thread, **columns) == ("PT422", f"field: {field}")
    assert queued(world) == 0


@WAYS
def test_outside_the_window_only_a_template_goes(world: World, write: Any) -> None:
    """Failure case 19: free text outside 24 hours."""
    thread = conversation(world, written=ago(hours=25))
    assert refused(write, world, "andrej", thread) == ("PT422", "field: type")
    template = {
        "type": "template",
        "content": Jsonb({"name": "hello", "language": "en"}),
        "message": "[template]",
    }
    assert write(world, "andrej", thread, **template)["status"] == "queued"


def test_the_window_is_open_for_24_hours_from_the_providers_time(world: World) -> None:
    thread = conversation(world, written=ago(hours=23.9))
    with world.acting_as("andrej") as connection:
        row = connection.execute("select public.reply_window(%s)", [thread]).fetchone()
    assert row is not None
    assert row[0]["open"]
    world.ingest(text_message("wamid.later", wa_id=CILKA, sent_at=ago(hours=1)))
    with world.acting_as("andrej") as connection:
        later = connection.execute("select public.reply_window(%s)", [thread]).fetchone()
    assert later is not None
    assert later[0]["closes_at"] > row[0]["closes_at"]


@pytest.mark.parametrize(("later", "is_open"), [("0 seconds", False), ("1 microsecond", True)])
def test_at_24_hours_to_the_instant_the_window_is_closed(
    world: World, thread: UUID, later: str, is_open: bool
) -> None:
    with world.connect() as owner, owner.transaction():
        # now() is the transaction's
        owner.execute(
            "update public.conversation_activity"
            " set last_inbound_at = now() - interval '24 hours' + %s::interval",
            [later],
        )
        owner.execute("set local role authenticated")
        owner.execute(
            "select set_config('request.jwt.claims', %s, true)",
            [json.dumps({"sub": str(seed_uuid("andrej"))})],
        )
        row = owner.execute("select public.reply_window(%s) -> 'open'", [thread]).fetchone()
    assert row == (is_open,)


def test_the_window_of_one_number_is_not_that_of_another(world: World, thread: UUID) -> None:
    """Somebody writes to one of our two numbers, and has only been written to from the other."""
    second = "1003427786179740"
    world.owner.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name) values (%s, %s, 'b', 'b')",
        [ALPINE, second],
    )
    world.ingest(
        text_message("wamid.b", CILKA, kind="echo", sent_at=ago(seconds=1), phone_number_id=second)
    )
    other = world.value("select id from public.conversations where id <> %s", [thread])
    assert post(world, "andrej", thread)["status"] == "queued"
    assert refused(post, world, "andrej", other) == ("PT422", "field: type")


def test_closing_a_thread_closes_no_window(world: World, thread: UUID) -> None:
    world.owner.execute("update public.conversations set status = 'closed'")
    assert post(world, "andrej", thread)["status"] == "queued"
    assert world.value("select status from public.conversations") == "open"


@pytest.mark.parametrize("user", ["ana", "stranger"])
def test_nobody_learns_of_another_accounts_window(world: World, thread: UUID, user: str) -> None:
    with pytest.raises(psycopg.Error) as caught, world.acting_as(user) as connection:
        connection.execute("select public.reply_window(%s)", [thread])
    assert caught.value.sqlstate == "PT404"


def test_a_message_sent_again_by_the_client_is_one(world: World, thread: UUID) -> None:
    first = post(world, "andrej", thread, client_ref="a")
    assert post(world, "andrej", thread, client_ref="a") == first
    # somebody else's reference is another one
    assert post(world, "olivia", thread, client_ref="a")["id"] != first["id"]
    assert queued(world) == 2


def test_a_reference_is_not_used_for_two_conversations(world: World, thread: UUID) -> None:
    post(world, "andrej", thread, client_ref="a")
    other = conversation(world, "38640333444")
    assert refused(post, world, "andrej", other, client_ref="a") == ("PT409", "field: client_ref")


@pytest.mark.parametrize(
    "other", [{"message": "ho"}, {"type": "image", "content": Jsonb({"id": "1"})}]
)
def test_a_reference_is_not_used_for_other_words(
    world: World, thread: UUID, other: dict[str, Any]
) -> None:
    """Two devices that count alike: neither message is taken for the other."""
    post(world, "andrej", thread, client_ref="1")
    assert refused(post, world, "andrej", thread, **({"client_ref": "1"} | other)) == (
        "PT409",
        "field: client_ref",
    )
    assert queued(world) == 1


def test_a_repeated_image_is_one_whose_words_the_database_chose(world: World, thread: UUID) -> None:
    image = {"type": "image", "content": Jsonb({"id": "1", "caption": "x"}), "client_ref": "1"}
    first = post(world, "andrej", thread, None, **image)
    assert first["message"] == "[image] x"
    assert post(world, "andrej", thread, None, **image) == first


@WAYS
def test_nobody_writes_to_a_contact_that_was_deleted(world: World, write: Any) -> None:
    thread = conversation(world, "38640777777")
    with world.acting_as("andrej") as connection:
        connection.execute(
            "delete from public.contacts_v2 where id ="
            " (select customer_id from public.conversations where id = %s)",
            [thread],
        )
    assert refused(write, world, "andrej", thread) == ("PT422", "field: conversation_id")
    # and the thread that was closed with it stays so
    assert (
        world.value("select status from public.conversations where id = %s", [thread]) == "closed"
    )


def test_a_message_sent_many_times_at_once_is_one(world: World, thread: UUID) -> None:
    """Failure case 20: a time-out, or a second click, and the message goes four times."""
    barrier = threading.Barrier(8)

    def send(_: int) -> str:
        barrier.wait()
        return str(post(world, "andrej", thread, client_ref="a")["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert queued(world) == 1
    assert world.value("select last_seq from public.conversation_activity") == 2


def test_of_other_words_at_once_under_one_reference_none_are_lost_in_silence(
    world: World, thread: UUID
) -> None:
    barrier = threading.Barrier(6)

    def send(n: int) -> str | None:
        barrier.wait()
        try:
            return str(post(world, "andrej", thread, f"words {n}", client_ref="1")["message"])
        except psycopg.Error as error:
            return error.sqlstate

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    (written,) = world.rows("select message from public.messages where client_ref = '1'")
    assert sorted(answers, key=str) == ["PT409"] * 5 + [written["message"]]


def test_numbers_have_no_gap_while_both_sides_write_at_once(world: World, thread: UUID) -> None:
    barrier = threading.Barrier(6)

    def write(n: int) -> None:
        barrier.wait()
        for k in range(10):
            if n % 2:
                world.ingest(text_message(f"wamid.{n}.{k}", wa_id=CILKA, sent_at=ago(seconds=1)))
            else:
                # every third is a repetition, which takes no number
                post(world, "andrej", thread, client_ref=f"{n}.{k - (k % 3 == 2)}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    numbers = world.rows("select seq from public.messages order by seq")
    assert [row["seq"] for row in numbers] == list(range(1, len(numbers) + 1))
    assert len(numbers) == 1 + 30 + 3 * 7
    assert world.value("select last_seq from public.conversation_activity") == len(numbers)


def test_the_latest_message_of_the_customer_is_what_is_marked_as_read(
    world: World, thread: UUID
) -> None:
    world.ingest(text_message("wamid.last", wa_id=CILKA, sent_at=ago(seconds=1)))
    post(world, "andrej", thread)
    with world.acting_as("andrej") as connection:
        row = connection.execute("select public.latest_inbound(%s)", [thread]).fetchone()
    assert row == ({"phone_number_id": "1003427786179738", "provider_id": "wamid.last"},)


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404"), ("stranger", "PT404")],
)
def test_only_who_may_answer_marks_as_read(
    world: World, thread: UUID, user: str, code: str
) -> None:
    with pytest.raises(psycopg.Error) as caught, world.acting_as(user) as connection:
        connection.execute("select public.latest_inbound(%s)", [thread])
    assert caught.value.sqlstate == code


def test_nothing_is_marked_at_whatsapp_in_another_channel(world: World, portal: UUID) -> None:
    with pytest.raises(psycopg.Error) as caught, world.acting_as("andrej") as connection:
        connection.execute("select public.latest_inbound(%s)", [portal])
    assert caught.value.sqlstate == "PT422"


# Numbers


def seqs(world: World, thread: UUID) -> tuple[list[int], int]:
    """The numbers of a conversation's messages, and the last one given."""
    given = world.rows(
        "select seq from public.messages where conversation_id = %s order by seq", [thread]
    )
    last = world.value(
        "select last_seq from public.conversation_activity where conversation_id = %s", [thread]
    )
    return [row["seq"] for row in given], last


def insert_ignoring(world: World, user: str, *rows: tuple[UUID, UUID]) -> int:
    """Inserts messages by thread and id, as PostgREST does to ignore those that are there."""
    with world.acting_as(user) as connection:
        places = ", ".join(["(%s, %s, 'hi')"] * len(rows))
        cursor = connection.execute(
            f"insert into public.messages (conversation_id, id, message) values {places}"
            " on conflict (id) do nothing".encode(),
            [value for row in rows for value in row],
        )
        return cursor.rowcount


def test_what_is_there_already_takes_no_number(world: World, portal: UUID) -> None:
    mine = seed_uuid("mine")

    written = [insert_ignoring(world, "cilka", (portal, mine)) for _ in range(5)]

    assert written == [1, 0, 0, 0, 0]
    assert seqs(world, portal) == ([1], 1)
    insert(world, "cilka", portal)
    assert seqs(world, portal) == ([1, 2], 2)


def test_of_twins_in_a_statement_one_is_numbered(world: World, portal: UUID) -> None:
    twin, other = seed_uuid("twin"), seed_uuid("other")

    assert insert_ignoring(world, "cilka", (portal, twin), (portal, twin), (portal, other)) == 2

    assert seqs(world, portal) == ([1, 2], 2)


def test_what_is_ignored_opens_no_closed_conversation(world: World, portal: UUID) -> None:
    mine = seed_uuid("mine")
    insert_ignoring(world, "cilka", (portal, mine))
    world.owner.execute("update public.conversations set status = 'closed' where id = %s", [portal])

    assert insert_ignoring(world, "cilka", (portal, mine)) == 0

    assert world.value("select status from public.conversations where id = %s", [portal]) == (
        "closed"
    )


def test_an_id_that_is_taken_is_refused_without_a_number(world: World, portal: UUID) -> None:
    insert(world, "cilka", portal, id=seed_uuid("mine"))

    assert refused(insert, world, "cilka", portal, id=seed_uuid("mine"))[0] == "PT409"

    assert seqs(world, portal) == ([1], 1)


def test_one_id_in_two_conversations_at_once_is_numbered_in_one(
    world: World, thread: UUID, portal: UUID
) -> None:
    before = seqs(world, thread)
    contended = seed_uuid("contended")

    with ThreadPoolExecutor(1) as background, world.acting_as("andrej") as first:
        first.execute(
            "insert into public.messages (conversation_id, id, message) values (%s, %s, 'hi')",
            [portal, contended],
        )
        second = background.submit(insert_ignoring, world, "andrej", (thread, contended))
        wait_for_a_lock(world)
        first.execute("commit")
        assert second.result() == 0

    assert seqs(world, thread) == before
    assert seqs(world, portal) == ([1], 1)


def wait_for_a_lock(world: World) -> None:
    """Until some session waits for another one."""
    for _ in range(500):
        if world.value(
            "select exists (select from pg_stat_activity"
            " where wait_event_type = 'Lock' and datname = current_database())"
        ):
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")
