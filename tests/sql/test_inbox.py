"""The inbox, what is unread in it, and the status of its conversations."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.sql.asking import Answer, ask, start_blocked
from tests.world import (
    ALPINE,
    ALPINE_NUMBER,
    BAY_NUMBER,
    CUSTOMERS,
    STAFF,
    World,
    seed_uuid,
    text_message,
)

WA_IDS = {name: phone[1:] for name, (_, phone) in CUSTOMERS.items()} | {"nejc": "38640999888"}


def receive(world: World, name: str, *texts: str, number: str = ALPINE_NUMBER) -> UUID:
    """The conversation in which somebody has written these texts, a minute apart."""
    for text in texts:
        at = world.value("select count(*) from public.messages")
        world.ingest(
            text_message(
                f"wamid.{text}",
                wa_id=WA_IDS[name],
                phone_number_id=number,
                text=text,
                sent_at=f"2026-11-21T10:{at:02}:00Z",
            )
        )
    found: UUID = world.value(
        "select id from public.conversations where thread_key like %s and status <> 'closed'",
        # Brazil's ninth digit is not part of the key
        [f"%{WA_IDS[name][-8:]}"],
    )
    return found


def answer(world: World, conversation: UUID, *texts: str, sender: str = "operator") -> None:
    """Messages of our own side, numbered and stored as all senders do it."""
    for text in texts:
        world.owner.execute(
            """
            with counted as (
                update public.conversation_activity a
                set last_seq = a.last_seq + 1,
                    last_message_at = a.last_message_at + interval '1 second'
                where a.conversation_id = %(conversation)s
                returning a.*
            )
            insert into public.messages (
                account_id, conversation_id, customer_id, seq, sender_type, message, status,
                whatsapp_channel_id, sent_at
            )
            select
                a.account_id, a.conversation_id, a.customer_id, a.last_seq, %(sender)s, %(text)s,
                'sent', k.whatsapp_channel_id, a.last_message_at
            from counted a
            join public.conversations k on k.id = a.conversation_id
            """,
            {"conversation": conversation, "sender": sender, "text": text},
        )


def inbox(world: World, user: str) -> list[dict[str, Any]]:
    with world.acting_as(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select * from public.inbox order by last_message_at desc, id"
        ).fetchall()


def unread(world: World, user: str) -> dict[UUID, int]:
    return {row["id"]: row["unread_count"] for row in inbox(world, user)}


def call(world: World, user: str, function: str, *arguments: Any) -> Any:
    places = ", ".join(["%s"] * len(arguments))
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"select public.{function}({places})".encode(), arguments
        ).fetchone()
    assert row is not None
    return row[0]


def refusal(world: World, user: str, function: str, *arguments: Any) -> tuple[str | None, ...]:
    with pytest.raises(psycopg.Error) as refused:
        call(world, user, function, *arguments)
    return refused.value.sqlstate, refused.value.diag.message_detail


@pytest.fixture
def talking(world: World) -> World:
    """Cilka and Nejc have written to Alpine, Carlos to Bay."""
    receive(world, "cilka", "one", "two", "three")
    receive(world, "nejc", "four")
    receive(world, "carlos", "five", number=BAY_NUMBER)
    return world


@pytest.fixture
def conversation(talking: World) -> UUID:
    """Cilka's."""
    return receive(talking, "cilka")


# The list


def test_agent_sees_the_latest_conversation_first_with_its_last_message(
    talking: World, conversation: UUID
) -> None:
    answer(talking, conversation, "At ten.")
    nejc, cilka = inbox(talking, "andrej")

    assert nejc["customer_name"] == "Nejc"
    assert (nejc["last_message"], nejc["last_seq"], nejc["unread_count"]) == ("four", 1, 1)
    assert cilka["id"] == conversation
    assert cilka["customer_id"] == seed_uuid("contact cilka")
    assert cilka["customer_name"] == "cilka"
    assert (cilka["channel"], cilka["status"]) == ("whatsapp", "open")
    assert (cilka["last_message"], cilka["last_message_type"]) == ("At ten.", "text")
    assert (cilka["last_sender_type"], cilka["last_message_status"]) == ("operator", "sent")
    assert (cilka["last_seq"], cilka["unread_count"]) == (4, 3)
    assert cilka["last_message_at"] > cilka["last_inbound_at"]


def test_conversation_without_a_message_is_in_the_list(world: World) -> None:
    world.owner.execute(
        "insert into public.conversations (account_id, customer_id, channel, thread_key)"
        " values (%s, %s, 'portal', 'user:cilka')",
        (ALPINE, seed_uuid("contact cilka")),
    )
    (row,) = inbox(world, "andrej")

    assert (row["last_seq"], row["last_message"], row["unread_count"]) == (0, None, 0)


@pytest.mark.parametrize("user", ["olivia", "adam", "andrej", "vera"])
def test_everybody_who_works_there_sees_all_of_it(talking: World, user: str) -> None:
    assert len(inbox(talking, user)) == 2


def test_others_see_their_own_alone(talking: World, conversation: UUID) -> None:
    assert [row["customer_name"] for row in inbox(talking, "ana")] == ["carlos"]
    assert [row["id"] for row in inbox(talking, "cilka")] == [conversation]
    assert inbox(talking, "stranger") == []


@pytest.mark.parametrize("role", ["anon", "service_role"])
def test_the_signed_out_have_no_inbox(talking: World, role: str) -> None:
    with talking.acting(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select from public.inbox")


def test_conversation_of_a_deleted_contact_is_left_out(talking: World) -> None:
    with talking.acting_as("andrej") as connection:
        connection.execute(
            "delete from public.contacts_v2 where id = %s", [seed_uuid("contact cilka")]
        )

    assert [row["customer_name"] for row in inbox(talking, "andrej")] == ["Nejc"]


# What is unread


def test_each_reader_has_an_own_marker(talking: World, conversation: UUID) -> None:
    assert call(talking, "andrej", "mark_read", conversation, 2) == 2

    assert unread(talking, "andrej")[conversation] == 1
    assert unread(talking, "vera")[conversation] == 3


def test_only_the_other_side_is_unread(talking: World, conversation: UUID) -> None:
    answer(talking, conversation, "At ten.", "Or at eleven.")
    answer(talking, conversation, "Booked.", sender="system")

    assert unread(talking, "andrej")[conversation] == 3
    assert unread(talking, "cilka") == {conversation: 3}
    assert call(talking, "cilka", "mark_read", conversation, 4) == 4
    assert unread(talking, "cilka") == {conversation: 2}
    assert unread(talking, "andrej")[conversation] == 3


def test_new_message_is_unread_again(talking: World, conversation: UUID) -> None:
    call(talking, "andrej", "mark_read", conversation, 3)
    assert unread(talking, "andrej")[conversation] == 0
    receive(talking, "cilka", "six")

    assert unread(talking, "andrej")[conversation] == 1


def test_deleted_message_is_neither_unread_nor_an_empty_preview(
    talking: World, conversation: UUID
) -> None:
    mark = "select public.mark_read(%s, 1)"
    ask(talking, "andrej", mark, conversation)
    before = unread(talking, "andrej")[conversation]
    talking.owner.execute(
        "update public.messages set message = '', revoked_at = now()"
        " where conversation_id = %s and seq = ("
        "     select max(seq) from public.messages"
        "     where conversation_id = %s and sender_type = 'client')",
        [conversation, conversation],
    )

    assert unread(talking, "andrej")[conversation] == before - 1


def test_inbox_says_that_the_latest_message_was_deleted(talking: World, conversation: UUID) -> None:
    talking.owner.execute(
        "update public.messages set message = '', revoked_at = now()"
        " where conversation_id = %s and seq = 3",
        [conversation],
    )

    (row,) = [row for row in inbox(talking, "andrej") if row["id"] == conversation]
    assert (row["last_seq"], row["last_message"]) == (3, "[deleted]")


def test_marker_moves_forward_only(talking: World, conversation: UUID) -> None:
    call(talking, "andrej", "mark_read", conversation, 2)
    before = talking.rows("select * from public.read_markers")

    assert call(talking, "andrej", "mark_read", conversation, 1) == 2
    assert call(talking, "andrej", "mark_read", conversation, 2) == 2
    assert talking.rows("select * from public.read_markers") == before


def test_nobody_has_read_what_is_not_written_yet(talking: World, conversation: UUID) -> None:
    assert call(talking, "andrej", "mark_read", conversation, 2**62) == 3
    receive(talking, "cilka", "six")

    assert unread(talking, "andrej")[conversation] == 1


def test_count_ends_at_a_hundred(talking: World, conversation: UUID) -> None:
    answer(talking, conversation, *(["no"] * 120))
    talking.owner.execute(
        "update public.messages set sender_type = 'client' where conversation_id = %s",
        [conversation],
    )

    assert unread(talking, "andrej")[conversation] == 100
    call(talking, "andrej", "mark_read", conversation, 24)
    assert unread(talking, "andrej")[conversation] == 99


def test_marker_goes_with_the_conversation_to_another_contact(
    talking: World, conversation: UUID
) -> None:
    call(talking, "andrej", "mark_read", conversation, 2)
    call(talking, "cilka", "mark_read", conversation, 3)
    nejc = talking.value("select customer_id from public.inbox where customer_name = 'Nejc'")
    talking.owner.execute(
        "update public.conversations set customer_id = %s where id = %s", (nejc, conversation)
    )

    assert unread(talking, "andrej")[conversation] == 1
    assert call(talking, "andrej", "mark_read", conversation, 3) == 3
    # it is no longer hers
    assert markers(talking, "cilka") == []
    assert refusal(talking, "cilka", "mark_read", conversation, 3)[0] == "PT404"


def test_two_devices_at_once_leave_the_later_marker(talking: World, conversation: UUID) -> None:
    """The first write of a marker is an insert in both."""
    answer(talking, conversation, *(["yes"] * 30))
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def read(upto: Sequence[int]) -> None:
        try:
            start.wait()
            for seq in upto:
                call(talking, "andrej", "mark_read", conversation, seq)
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=read, args=[range(n, 34, 8)]) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [row["last_read_seq"] for row in markers(talking, "andrej")] == [33]


def test_reading_and_moving_a_conversation_at_once_both_succeed(
    talking: World, conversation: UUID
) -> None:
    """A marker is written for the contact whose conversation it is by then."""
    nejc = talking.value("select customer_id from public.inbox where customer_name = 'Nejc'")
    read: list[int] = []
    with talking.connect() as merging, merging.transaction():
        merging.execute(
            "update public.conversations set customer_id = %s where id = %s", (nejc, conversation)
        )
        reader = threading.Thread(
            target=lambda: read.append(call(talking, "andrej", "mark_read", conversation, 2))
        )
        reader.start()
        while reader.is_alive() and not talking.value(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        ):
            pass
    reader.join()

    assert read == [2]
    assert talking.value("select customer_id from public.read_markers") == nejc


MOVE = "update public.conversations set customer_id = %(to)s where id = %(id)s"


def first_and_last(world: World) -> tuple[UUID, UUID]:
    """Alpine's two, in the order in which conversations are locked."""
    rows = world.rows(
        "select id from public.conversations where account_id = %s order by id", [ALPINE]
    )
    first, last = (row["id"] for row in rows)
    return first, last


def two_of(world: World, user: str, order: str) -> Future[Answer]:
    """Marks two conversations as read in one statement, whose first lock somebody holds."""
    return start_blocked(
        world,
        user,
        f"""
        select public.mark_read(k.id, 1)
        from (
            select c.id
            from public.conversations c
            where c.account_id = %s
            order by c.id {order}
            offset 0
        ) k
        """,
        ALPINE,
    )


def test_reading_several_conversations_waits_for_a_merge_that_moves_them(
    talking: World,
) -> None:
    nejc = talking.value("select customer_id from public.inbox where customer_name = 'Nejc'")
    with talking.connect() as merging, merging.transaction():
        moved = merging.execute(MOVE, {"to": nejc, "id": first_and_last(talking)[0]})
        assert moved.rowcount == 1
        reading = two_of(talking, "andrej", "asc")
        merging.execute(MOVE, {"to": nejc, "id": first_and_last(talking)[1]})

    assert reading.result(10) == [{"mark_read": 1}, {"mark_read": 1}]
    assert len(markers(talking, "andrej")) == 2


def test_reading_several_conversations_out_of_order_gives_way_to_a_merge(
    talking: World,
) -> None:
    """It holds the last one, for which the merge will wait, and does not wait for the first."""
    nejc = talking.value("select customer_id from public.inbox where customer_name = 'Nejc'")
    first, last = first_and_last(talking)
    with (
        talking.connect() as merging,
        merging.transaction(),
        talking.acting_as("andrej") as reading,
    ):
        merging.execute(MOVE, {"to": nejc, "id": first})
        reading.execute("select public.mark_read(%s, 1)", [last])
        with pytest.raises(psycopg.Error) as refused, reading.transaction():
            reading.execute("select public.mark_read(%s, 1)", [first])
        # nor for other people's rows, which stay unmentioned
        with pytest.raises(psycopg.Error) as unknown, reading.transaction():
            reading.execute("select public.mark_read(%s, 1)", [UUID(int=0)])

    assert refused.value.sqlstate == "PT503"
    assert refused.value.diag.message_detail == f"conversation: {first}"
    assert unknown.value.sqlstate == "PT404"
    assert [row["conversation_id"] for row in markers(talking, "andrej")] == [last]
    # alone it is nothing but read, also in a session that has read others before
    assert call(talking, "andrej", "mark_read", first, 1) == 1


def test_others_are_told_nothing_of_a_conversation_that_is_being_changed(talking: World) -> None:
    first, last = first_and_last(talking)
    with (
        talking.connect() as merging,
        merging.transaction(),
        talking.acting_as("ana") as reading,
    ):
        merging.execute("update public.conversations set customer_id = customer_id")
        merging.execute("select from public.conversations where id = %s for update", [first])
        for conversation in (last, first):
            with pytest.raises(psycopg.Error) as refused, reading.transaction():
                reading.execute("select public.mark_read(%s, 1)", [conversation])
            assert refused.value.sqlstate == "PT404"


def test_readers_and_merges_of_the_same_conversations_never_deadlock(talking: World) -> None:
    people = talking.rows("select customer_id from public.inbox where account_id = %s", [ALPINE])
    one, other = (row["customer_id"] for row in people)
    stop: list[bool] = []

    def read(order: str) -> list[str]:
        codes = []
        while not stop:
            try:
                with talking.acting_as("andrej") as connection:
                    connection.execute(
                        "select public.mark_read(k.id, 1) from (select id from public.inbox"
                        f" where account_id = %s order by id {order} offset 0) k".encode(),
                        [ALPINE],
                    )
            except psycopg.Error as refused:
                codes.append(refused.sqlstate or "")
        return codes

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, order) for order in ("asc", "desc")]
        for _ in range(8):
            merged = call(talking, "olivia", "merge_contacts", one, other)
            call(talking, "olivia", "undo_merge", merged["merge_id"])
        stop.append(True)
        in_order, out_of_order = (reader.result(20) for reader in readers)

    assert in_order == []
    assert set(out_of_order) <= {"PT503"}


def markers(world: World, user: str) -> list[dict[str, Any]]:
    with world.acting_as(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from public.read_markers").fetchall()


def test_everybody_reads_their_own_markers_alone(talking: World, conversation: UUID) -> None:
    for user in ("andrej", "vera", "cilka"):
        call(talking, user, "mark_read", conversation, 1)

    for user in ("andrej", "vera", "cilka"):
        assert [row["user_id"] for row in markers(talking, user)] == [seed_uuid(user)]
    assert markers(talking, "olivia") == markers(talking, "ana") == []
    talking.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("vera")]
    )
    assert markers(talking, "vera") == []


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_others_mark_a_conversation_that_does_not_exist(
    talking: World, conversation: UUID, user: str
) -> None:
    assert refusal(talking, user, "mark_read", conversation, 1) == (
        "PT404",
        f"conversation: {conversation}",
    )
    assert not talking.rows("select from public.read_markers")


def test_unknown_conversation_is_refused_alike(talking: World) -> None:
    unknown = uuid4()
    assert refusal(talking, "andrej", "mark_read", unknown, 1) == (
        "PT404",
        f"conversation: {unknown}",
    )


@pytest.mark.parametrize("seq", [None, -1])
def test_marker_of_nowhere_is_refused(talking: World, conversation: UUID, seq: int | None) -> None:
    assert refusal(talking, "andrej", "mark_read", conversation, seq) == (
        "PT422",
        "field: up_to_seq",
    )


# Status


@pytest.mark.parametrize(
    ("face", "word", "status"),
    [
        ("contacts_page", "closed", "closed"),
        ("live_chat", "Pending", "pending"),
        ("wati", "SOLVED", "closed"),
        ("portal", "waiting", "pending"),
        ("erp", "C", "closed"),
    ],
)
def test_agent_sets_a_status_in_the_words_of_a_face(
    talking: World, conversation: UUID, face: str, word: str, status: str
) -> None:
    assert call(talking, "andrej", "set_conversation_status", conversation, word, face) == word

    assert {row["id"]: row["status"] for row in inbox(talking, "andrej")}[conversation] == status
    assert [row["status"] for row in inbox(talking, "andrej") if row["id"] != conversation] == [
        "open"
    ]


def test_status_is_in_the_contacts_pages_words_unless_said_otherwise(
    talking: World, conversation: UUID
) -> None:
    assert call(talking, "andrej", "set_conversation_status", conversation, "pending") == "pending"


def test_same_status_again_changes_nothing(talking: World, conversation: UUID) -> None:
    call(talking, "andrej", "set_conversation_status", conversation, "pending")
    talking.forget_events()
    call(talking, "andrej", "set_conversation_status", conversation, "pending")

    assert not talking.rows("select from private.changes")
    assert talking.events() == []


@pytest.mark.parametrize("user", STAFF)
def test_viewers_and_others_set_no_status(talking: World, conversation: UUID, user: str) -> None:
    account, role = STAFF[user]
    if account == ALPINE and role != "viewer":
        call(talking, user, "set_conversation_status", conversation, "closed")
        return
    expected = "42501" if account == ALPINE else "PT404"

    assert refusal(talking, user, "set_conversation_status", conversation, "closed")[0] == expected
    assert talking.value(
        "select status from public.conversations where id = %s", [conversation]
    ) == ("open")


@pytest.mark.parametrize("user", ["cilka", "stranger"])
def test_customers_set_no_status(talking: World, conversation: UUID, user: str) -> None:
    assert refusal(talking, user, "set_conversation_status", conversation, "closed") == (
        "PT404",
        f"conversation: {conversation}",
    )


@pytest.mark.parametrize(
    ("word", "face"), [("Closed", "contacts_page"), (None, "live_chat"), ("open", "fax")]
)
def test_words_that_a_face_has_not_are_refused(
    talking: World, conversation: UUID, word: str | None, face: str
) -> None:
    sqlstate, _ = refusal(talking, "andrej", "set_conversation_status", conversation, word, face)
    assert sqlstate == "PT422"


def test_closed_thread_stays_closed_while_a_newer_one_is_open(
    talking: World, conversation: UUID
) -> None:
    call(talking, "andrej", "set_conversation_status", conversation, "closed")
    newer = receive(talking, "cilka", "again")
    assert newer != conversation

    sqlstate, detail = refusal(talking, "andrej", "set_conversation_status", conversation, "open")
    assert sqlstate == "PT409"
    assert detail == f"field: conversation_status; conversation: {newer}"
    call(talking, "andrej", "set_conversation_status", newer, "closed")
    call(talking, "andrej", "set_conversation_status", conversation, "open")


def test_conversation_of_a_deleted_contact_is_not_opened_again(
    talking: World, conversation: UUID
) -> None:
    with talking.acting_as("andrej") as connection:
        connection.execute(
            "delete from public.contacts_v2 where id = %s", [seed_uuid("contact cilka")]
        )

    assert refusal(talking, "andrej", "set_conversation_status", conversation, "open")[0] == "PT404"
