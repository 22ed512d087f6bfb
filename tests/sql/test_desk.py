"""What a team does with a conversation among itself: who has it, notes, labels, snoozes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.asking import Refusal, Row, ask, at_once, refusal, start_blocked
from tests.sql.outbound import ago, backend, conversation
from tests.sql.portal import change, insert, make_job
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

ANDREJ, ADAM, VERA, OLIVIA = (seed_uuid(name) for name in ("andrej", "adam", "vera", "olivia"))
NOTES = """
    select seq, kind, author_name, note, event ->> 'event' as event
    from public.conversation_notes
    where conversation_id = %s
    order by seq
"""


@pytest.fixture
def thread(world: World) -> UUID:
    return conversation(world)


def call(world: World, user: str, function: str, *arguments: Any) -> Row:
    places = ", ".join(["%s"] * len(arguments))
    (row,) = ask(world, user, f"select * from public.{function}({places})", *arguments)
    return row


def refused(world: World, user: str, function: str, *arguments: Any) -> Refusal:
    places = ", ".join(["%s"] * len(arguments))
    return refusal(world, user, f"select * from public.{function}({places})", *arguments)


def events(world: World, thread: UUID) -> list[tuple[str | None, str]]:
    """Who is named for what happened, and the line."""
    return [
        (row["author_name"], row["note"]) for row in world.rows(NOTES, [thread]) if row["event"]
    ]


def told(world: World, table: str) -> list[dict[str, Any]]:
    return [event for event in world.events() if event["payload"].get("table") == table]


# Assignment


def test_conversation_is_taken_handed_over_and_released(world: World, thread: UUID) -> None:
    world.forget_events()
    taken = call(world, "andrej", "take_conversation", thread)
    assert (taken["id"], taken["assignee_id"]) == (thread, ANDREJ)
    assert call(world, "andrej", "take_conversation", thread) == taken
    assert {event["topic"] for event in told(world, "desk_states")} == {f"account:{ALPINE}:0"}

    # what somebody else has is handed over, not taken
    assert refused(world, "adam", "take_conversation", thread) == Refusal(
        "PT409",
        "andrej has this conversation.",
        f"field: conversation_id; assignee: {ANDREJ}",
        "Hand it over to yourself with hand_over_conversation, if that is agreed.",
    )
    handed = call(world, "olivia", "hand_over_conversation", thread, ADAM)
    assert handed["assignee_id"] == ADAM
    for stranger in (VERA, seed_uuid("ana"), seed_uuid("cilka")):
        why = refused(world, "olivia", "hand_over_conversation", thread, stranger)
        assert (why.code, why.detail) == ("PT422", "field: user_id")
    assert call(world, "andrej", "release_conversation", thread)["assignee_id"] is None
    assert call(world, "andrej", "release_conversation", thread)["assignee_id"] is None

    assert events(world, thread) == [
        ("andrej", "andrej has taken the conversation."),
        ("olivia", "olivia has handed the conversation over to adam."),
        ("andrej", "andrej has released the conversation."),
    ]
    for user, code in (("vera", "42501"), ("cilka", "PT404"), ("ana", "PT404")):
        assert refused(world, user, "take_conversation", thread).code == code


def test_of_two_who_take_at_once_one_has_it(world: World, thread: UUID) -> None:
    answers = at_once(
        *(
            lambda user=user: ask(world, user, "select public.take_conversation(%s)", thread)
            for user in ("andrej", "adam", "olivia")
        )
    )
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [why.code for why in refusals] == ["PT409", "PT409"]
    assert len(world.rows(NOTES, [thread])) == 1


def test_conversations_of_who_leaves_or_may_only_read_become_free(world: World) -> None:
    threads = [conversation(world, wa_id) for wa_id in ("38640111222", "38640999888")]
    call(world, "andrej", "take_conversation", threads[0])
    call(world, "adam", "take_conversation", threads[1])
    world.forget_events()

    world.owner.execute("delete from auth.users where id = %s", [ANDREJ])
    world.owner.execute(
        "update public.account_members set role = 'viewer' where user_id = %s", [ADAM]
    )

    assert world.rows("select assignee_id from public.desk_states") == [{"assignee_id": None}] * 2
    assert [event["payload"]["record"]["assignee_id"] for event in told(world, "desk_states")] == [
        None,
        None,
    ]
    line = "The conversation is free: its assignee can no longer answer it."
    for thread in threads:
        assert events(world, thread)[-1] == (None, line)
    # an account that is closed takes all of it along
    world.owner.execute("delete from public.accounts where id = %s", [ALPINE])
    assert world.rows("select from public.conversation_notes") == []


def test_open_conversations_that_nobody_has_are_found_and_counted(
    world: World, thread: UUID
) -> None:
    found = "select id from public.inbox_page(%s, is_free => true, status => 'open')"
    status = "select public.set_conversation_status(%s, %s)"

    def is_untaken() -> bool:
        (counts,) = ask(world, "vera", "select public.inbox_counts(%s) as c", ALPINE)
        assert counts["c"]["free"] == len(ask(world, "vera", found, ALPINE))
        return bool(counts["c"]["free"])

    assert is_untaken()
    call(world, "andrej", "take_conversation", thread)
    assert not is_untaken()
    call(world, "andrej", "hand_over_conversation", thread, ADAM)
    ask(world, "andrej", status, thread, "closed")
    call(world, "adam", "release_conversation", thread)
    assert not is_untaken()
    ask(world, "andrej", status, thread, "open")
    assert is_untaken()
    ask(world, "andrej", status, thread, "pending")
    assert not is_untaken()
    # while a member leaves, the conversation is closed
    ask(world, "andrej", status, thread, "open")
    call(world, "adam", "take_conversation", thread)
    with world.owner.transaction():
        world.owner.execute(
            "delete from public.account_members where user_id = %s and account_id = %s",
            [ADAM, ALPINE],
        )
        closing = start_blocked(world, "andrej", status, thread, "closed")
    assert not isinstance(closing.result(10), Refusal)
    assert not is_untaken()


# Notes


def test_notes_are_for_staff_and_number_apart(world: World, thread: UUID) -> None:
    before = world.value(
        "select last_seq from public.conversation_activity where conversation_id = %s", [thread]
    )
    world.forget_events()
    note = insert(
        world,
        "andrej",
        "conversation_notes",
        conversation_id=thread,
        note="She has a dog.",
        mentions=[ADAM, VERA],
    )
    call(world, "andrej", "take_conversation", thread)
    insert(world, "adam", "conversation_notes", conversation_id=thread, note="Two dogs.")

    assert [
        (row["seq"], row["kind"], row["author_name"]) for row in world.rows(NOTES, [thread])
    ] == [
        (1, "note", "andrej"),
        (2, "event", "andrej"),
        (3, "note", "adam"),
    ]
    assert (note["account_id"], note["author_id"], note["mentions"]) == (
        ALPINE,
        ANDREJ,
        [ADAM, VERA],
    )
    # the customer's numbering shows no gap, and nobody but staff hears or reads any of it
    assert before == world.value(
        "select last_seq from public.conversation_activity where conversation_id = %s", [thread]
    )
    assert {event["topic"] for event in world.events()} == {f"account:{ALPINE}:0"}
    assert world.rows("select from public.messages where message like '%%dog%%'") == []
    for table in ("conversation_notes", "desk_states"):
        assert ask(world, "cilka", f"select * from public.{table}") == []
        assert ask(world, "ana", f"select * from public.{table}") == []
        assert ask(world, "vera", f"select * from public.{table}") != []
    (log,) = ask(world, "cilka", "select public.changes_since(null) as page")
    call(world, "andrej", "release_conversation", thread)
    (page,) = ask(world, "cilka", "select public.changes_since(%s) as page", log["page"]["cursor"])
    assert page["page"]["changes"] == []


def test_note_is_refused_in_words(world: World, thread: UUID) -> None:
    write = (
        "insert into public.conversation_notes (conversation_id, note, mentions)"
        " values (%s, %s, %s)"
    )
    for user, note, mentions, code, detail in (
        ("andrej", " \n", [], "PT422", "field: note"),
        ("andrej", "x" * 4097, [], "PT422", "field: note"),
        ("andrej", "x", [seed_uuid("ana")], "PT422", f"field: mentions; user: {seed_uuid('ana')}"),
        ("andrej", "x", [ADAM] * 51, "PT422", "field: mentions"),
        ("andrej", "x", [[ADAM]], "PT422", "field: mentions"),
        ("vera", "x", [], "42501", "field: account_id"),
        ("cilka", "x", [], "PT404", f"conversation: {thread}"),
        ("ana", "x", [], "PT404", f"conversation: {thread}"),
    ):
        why = refusal(world, user, write, thread, note, mentions)
        assert (why.code, why.detail) == (code, detail)
    forged = refusal(
        world,
        "andrej",
        "insert into public.conversation_notes (conversation_id, note, author_id)"
        " values (%s, 'x', %s)",
        thread,
        ADAM,
    )
    assert (forged.code, forged.detail) == ("PT422", "field: author_id")
    assert world.rows(NOTES, [thread]) == []


def test_note_is_changed_by_its_author_and_deleted_by_admins_too(
    world: World, thread: UUID
) -> None:
    first, second = (
        insert(world, "andrej", "conversation_notes", conversation_id=thread, note=note)
        for note in ("one", "two")
    )
    change = "update public.conversation_notes set note = %s where id = %s returning note, version"
    assert ask(world, "andrej", change, "One", first["id"]) == [{"note": "One", "version": 2}]
    for user, code in (("adam", "42501"), ("vera", "42501"), ("cilka", "PT404"), ("ana", "PT404")):
        assert refusal(world, user, change, "mine", first["id"]).code == code

    world.owner.execute(
        "update public.account_members set role = 'agent' where user_id = %s", [ADAM]
    )
    assert refused(world, "adam", "delete_note", first["id"]).code == "42501"
    world.forget_events()
    call(world, "andrej", "delete_note", first["id"])
    call(world, "olivia", "delete_note", second["id"])
    call(world, "olivia", "delete_note", second["id"])
    assert [event["event"] for event in told(world, "conversation_notes")] == [
        "conversation_notes.deleted"
    ] * 2
    insert(world, "adam", "conversation_notes", conversation_id=thread, note="three")
    assert [(row["seq"], row["note"]) for row in world.rows(NOTES, [thread])] == [
        (1, ""),
        (2, ""),
        (3, "three"),
    ]
    # what is told as gone is not read either
    seen = "select seq from public.conversation_notes where conversation_id = %s"
    assert ask(world, "olivia", seen, thread) == [{"seq": 3}]
    call(world, "andrej", "take_conversation", thread)
    event = world.value(
        "select id from public.conversation_notes where kind = 'event' and conversation_id = %s",
        [thread],
    )
    assert refused(world, "olivia", "delete_note", event).detail == "field: note_id"
    assert refusal(world, "andrej", change, "x", event).code == "42501"


def test_events_are_in_the_accounts_language(world: World, thread: UUID) -> None:
    world.owner.execute("update public.accounts set language = 'sl' where id = %s", [ALPINE])
    call(world, "andrej", "take_conversation", thread)
    call(world, "andrej", "hand_over_conversation", thread, ADAM)
    call(world, "adam", "release_conversation", thread)
    assert [line for _, line in events(world, thread)] == [
        "Pogovor prevzame andrej.",
        "Pogovor preda andrej, prevzame ga adam.",
        "Pogovor sprosti adam.",
    ]


# Labels


def test_labels_are_put_on_and_taken_off(world: World, thread: UUID) -> None:
    vip, late = (
        insert(world, "andrej", "labels", account_id=ALPINE, name=name) for name in ("VIP", "late")
    )
    elsewhere = insert(world, "ana", "labels", account_id=BAY, name="VIP")
    for label in (vip, late, vip):
        call(world, "andrej", "label_conversation", thread, label["id"])
    call(world, "adam", "unlabel_conversation", thread, late["id"])
    call(world, "adam", "unlabel_conversation", thread, late["id"])

    assert events(world, thread) == [
        ("andrej", "andrej has added the label VIP."),
        ("andrej", "andrej has added the label late."),
        ("adam", "adam has removed the label late."),
    ]
    why = refused(world, "andrej", "label_conversation", thread, elsewhere["id"])
    assert (why.code, why.detail) == ("PT422", "field: label_id")
    for user, code in (("vera", "42501"), ("cilka", "PT404"), ("ana", "PT404")):
        assert refused(world, user, "label_conversation", thread, vip["id"]).code == code

    make = "insert into public.labels (account_id, name, colour) values (%s, %s, %s)"
    for name, colour, code, field in (
        ("VIP", "#ffffff", "PT409", "name"),
        (" ", "#ffffff", "PT422", "name"),
        ("x", "red", "PT422", "colour"),
    ):
        why = refusal(world, "andrej", make, ALPINE, name, colour)
        assert (why.code, why.detail) == (code, f"field: {field}")
    # a label that goes leaves its conversations, without a line for each
    world.forget_events()
    ask(world, "andrej", "delete from public.labels where id = %s", vip["id"])
    assert {event["event"] for event in world.events()} == {
        "labels.deleted",
        "conversation_labels.deleted",
    }
    assert len(events(world, thread)) == 3


# Snooze


def test_snooze_ends_by_time_by_hand_and_by_the_customer(world: World, thread: UUID) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    shown = "select snoozed_until from public.inbox where id = %s"
    snooze = call(world, "andrej", "snooze_conversation", thread, tomorrow)
    assert snooze["snoozed_until"] == tomorrow
    assert ask(world, "vera", shown, thread) == [{"snoozed_until": tomorrow}]
    assert ask(world, "cilka", shown, thread) == [{"snoozed_until": None}]
    for wrong in (ago(hours=1), datetime.now(UTC) + timedelta(days=400)):
        why = refused(world, "andrej", "snooze_conversation", thread, wrong)
        assert (why.code, why.detail) == ("PT422", "field: until")
    for user, code in (("vera", "42501"), ("cilka", "PT404"), ("ana", "PT404")):
        assert refused(world, user, "snooze_conversation", thread, tomorrow).code == code

    # what staff write ends nothing, what the customer writes does
    ask(world, "andrej", "select public.post_message(%s, 'hi')", thread)
    assert ask(world, "vera", shown, thread) == [{"snoozed_until": tomorrow}]
    world.ingest(text_message("wamid.again", "38640111222"))
    assert ask(world, "vera", shown, thread) == [{"snoozed_until": None}]

    call(world, "andrej", "snooze_conversation", thread, tomorrow)
    call(world, "adam", "snooze_conversation", thread, None)
    call(world, "andrej", "snooze_conversation", thread, tomorrow)
    assert backend(world, "end_snoozes()") == 0
    world.owner.execute("update public.desk_states set snoozed_until = now() - interval '1 s'")
    assert ask(world, "vera", shown, thread) == [{"snoozed_until": None}]
    world.forget_events()
    assert [backend(world, "end_snoozes()") for _ in range(2)] == [1, 0]
    assert [event["topic"] for event in told(world, "desk_states")] == [f"account:{ALPINE}:0"]

    lines = events(world, thread)
    assert [name for name, _ in lines] == ["andrej", None, "andrej", "adam", "andrej", None]
    assert lines[0][1] == (
        "andrej has snoozed the conversation until"
        f" {tomorrow:%A}, {tomorrow.day} {tomorrow:%B %Y at %H:%M}."
    )
    assert [lines[place][1] for place in (1, 3, 5)] == [
        "The snooze is over: the customer has written.",
        "adam has ended the snooze.",
        "The snooze is over: it is time.",
    ]


# Unread


def test_conversation_is_unread_again_for_the_caller_alone(world: World, thread: UUID) -> None:
    unread = "select unread_count, last_read_seq from public.inbox where id = %s"
    job = make_job(world)
    chat = world.value("select id from public.conversations where booking_id = %s", [job["id"]])
    # nobody of the other side has written
    why = refused(world, "andrej", "mark_unread", chat)
    assert (why.code, why.detail) == ("PT409", "field: conversation_id")

    world.ingest(text_message("wamid.2", "38640111222"))
    ask(world, "andrej", "select public.post_message(%s, 'hi')", thread)
    for user in ("andrej", "adam", "cilka"):
        call(world, user, "mark_read", thread, 3)
    assert call(world, "andrej", "mark_unread", thread) == {"mark_unread": 1}
    assert call(world, "cilka", "mark_unread", thread) == {"mark_unread": 2}
    # never forward
    call(world, "vera", "mark_unread", thread)
    world.owner.execute(
        "update public.read_markers set last_read_seq = 0 where user_id = %s", [VERA]
    )
    assert call(world, "vera", "mark_unread", thread) == {"mark_unread": 0}

    assert ask(world, "andrej", unread, thread) == [{"unread_count": 1, "last_read_seq": 1}]
    assert ask(world, "adam", unread, thread) == [{"unread_count": 0, "last_read_seq": 3}]
    assert ask(world, "cilka", unread, thread) == [{"unread_count": 1, "last_read_seq": 2}]
    assert refused(world, "ana", "mark_unread", thread).code == "PT404"


# The inbox by assignee, label, snooze


def test_inbox_is_filtered_and_counted(world: World) -> None:
    threads = [conversation(world, f"3864000000{n}", ago(minutes=10 - n)) for n in range(6)]
    newest = threads[::-1]
    label = insert(world, "andrej", "labels", account_id=ALPINE, name="VIP")
    call(world, "andrej", "take_conversation", newest[0])
    call(world, "andrej", "take_conversation", newest[1])
    call(world, "adam", "take_conversation", newest[2])
    for thread in newest[1:4]:
        call(world, "andrej", "label_conversation", thread, label["id"])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    call(world, "andrej", "snooze_conversation", newest[3], tomorrow)
    ask(world, "andrej", "select public.set_conversation_status(%s, 'closed')", newest[1])

    def found(user: str = "vera", **filters: Any) -> list[int]:
        named = "".join(f", {name} => %s" for name in filters)
        rows = ask(
            world,
            user,
            f"select id from public.inbox_page(%s{named})",
            ALPINE,
            *filters.values(),
        )
        return [newest.index(row["id"]) for row in rows]

    assert found() == [0, 1, 2, 3, 4, 5]
    assert found(assignee_id=ANDREJ) == [0, 1]
    assert found(assignee_id=ANDREJ, status="open") == [0]
    assert found(is_free=True) == [3, 4, 5]
    assert found(is_free=True, is_snoozed=False) == [4, 5]
    assert found(is_snoozed=True) == [3]
    assert found(label_id=label["id"]) == [1, 2, 3]
    assert found(label_id=label["id"], assignee_id=ADAM) == [2]
    # by name, digits of the phone and more, and groups by theirs
    ask(
        world,
        "andrej",
        "update public.contacts_v2 set name = 'Čuk Nika' where phone = %s",
        "+38640000005",
    )
    world.ingest(
        text_message(
            "wamid.group",
            kind="group",
            group_id="HBgLMTY1MDM4Nzk0MzkVAgA",
            sender_type="client",
            sender_id="38640000001",
            sent_at=ago(minutes=30),
        )
    )
    world.owner.execute(
        "update public.conversations set group_name = 'Cukrarna' where group_id is not null"
    )
    group = world.value("select id from public.conversations where group_id is not null")
    newest.append(group)
    assert found(query="cuk") == [0, 6]
    assert found(query="čuk nik") == found(query="0400 00 005") == [0]
    assert found(query="3864000000", status="open") == [0, 2, 3, 4, 5]
    assert found(query="3864000000", assignee_id=ADAM) == [2]
    assert found(query="3864000000", label_id=label["id"]) == [1, 2, 3]
    assert found(query="nobody") == []
    assert found(query=" ") == found()
    # and of those that are asked for, with what else is asked
    assert found(ids=[newest[4], newest[0], seed_uuid("none")]) == [0, 4]
    assert found(ids=newest, is_free=True, is_snoozed=False) == [4, 5, 6]
    assert found(ids=newest, query="cuk") == [0, 6]
    assert found(ids=[]) == []
    newest.pop()
    world.owner.execute("delete from public.conversations where id = %s", [group])
    # another account's ids find nothing
    assert found(assignee_id=seed_uuid("ana")) == found(label_id=seed_uuid("none")) == []
    # page by page
    rows = ask(
        world,
        "vera",
        "select id, last_message_at from public.inbox_page(%s, page_size => 2)",
        ALPINE,
    )
    last = rows[-1]
    assert found(before=last["last_message_at"], before_id=last["id"], page_size=3) == [2, 3, 4]

    (row,) = ask(world, "vera", "select * from public.inbox where id = %s", newest[1])
    assert (row["assignee_id"], row["assignee_name"]) == (ANDREJ, "andrej")
    assert (row["label_ids"], row["snoozed_until"]) == ([label["id"]], None)
    (counts,) = ask(world, "vera", "select public.inbox_counts(%s) as c", ALPINE)
    by_name = {row["name"]: row["conversations"] for row in counts["c"]["assignees"]}
    assert by_name == {"adam": 1, "andrej": 1, "olivia": 0, "vera": 0}
    (labels,) = ask(world, "vera", "select public.label_counts(%s) as c", ALPINE)
    assert labels["c"]["labels"] == [
        {"label_id": str(label["id"]), "name": "VIP", "conversations": 2}
    ]
    assert (counts["c"]["snoozed"], counts["c"]["free"]) == (1, 2)

    for call_ in ("inbox_page", "inbox_counts", "label_counts"):
        for user in ("ana", "cilka", "stranger"):
            assert refused(world, user, call_, ALPINE).code == "PT404"
    wrong = refusal(world, "vera", "select public.inbox_page(%s, status => 'shut')", ALPINE)
    assert (wrong.code, wrong.detail) == ("PT422", "field: status")
    wrong = refusal(world, "vera", "select public.inbox_page(%s, query => %s)", ALPINE, "x" * 201)
    assert (wrong.code, wrong.detail) == ("PT422", "field: query")
    wrong = refusal(
        world, "vera", "select public.inbox_page(%s, ids => %s)", ALPINE, [seed_uuid("none")] * 201
    )
    assert (wrong.code, wrong.detail) == ("PT422", "field: ids")


def test_customer_sees_nothing_of_the_desk_in_its_inbox(world: World, thread: UUID) -> None:
    label = insert(world, "andrej", "labels", account_id=ALPINE, name="difficult")
    call(world, "andrej", "take_conversation", thread)
    call(world, "andrej", "label_conversation", thread, label["id"])
    tomorrow = datetime.now(UTC) + timedelta(hours=23)
    call(world, "andrej", "snooze_conversation", thread, tomorrow)
    insert(
        world,
        "andrej",
        "scheduled_messages",
        conversation_id=thread,
        message="later",
        send_at=tomorrow,
    )
    seen = ask(
        world,
        "cilka",
        "select assignee_id, assignee_name, label_ids, snoozed_until, send_later_count"
        " from public.inbox where id = %s",
        thread,
    )
    assert seen == [
        {
            "assignee_id": None,
            "assignee_name": None,
            "label_ids": [],
            "snoozed_until": None,
            "send_later_count": None,
        }
    ]


def test_member_is_removed_while_others_write_the_state(world: World) -> None:
    """Neither waits for the other for ever: the conversation comes before its state."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    add = (
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'admin', 'adam') on conflict do nothing"
    )
    remove = "delete from public.account_members where user_id = %s returning user_id"
    for number, (way, value, assignee) in enumerate(
        [
            ("snooze_conversation(%s, %s)", tomorrow, None),
            ("hand_over_conversation(%s, %s)", ANDREJ, ANDREJ),
            ("release_conversation(coalesce(%s, %s))", None, None),
        ]
    ):
        thread = conversation(world, f"3864000000{number}")
        world.owner.execute(add, [ALPINE, ADAM])
        call(world, "adam", "take_conversation", thread)
        with world.acting_as("olivia") as writing:
            # holds the conversation, and not yet its state
            writing.execute(
                "insert into public.conversation_notes (conversation_id, note) values (%s, 'x')",
                [thread],
            )
            removed = start_blocked(world, None, remove, ADAM)
            writing.execute(f"select public.{way}".encode(), [thread, value])
        assert removed.result() == [{"user_id": ADAM}]
        state = "select assignee_id from public.desk_states where id = %s"
        assert world.value(state, [thread]) == assignee

    # and the other way round
    world.owner.execute(add, [ALPINE, ADAM])
    call(world, "adam", "take_conversation", thread)
    with world.connect() as removing, removing.transaction():
        removing.execute(remove, [ADAM])
        taken = start_blocked(
            world, "adam", "select public.take_conversation(%s)", conversation(world, "38640000009")
        )
        snooze = "select public.snooze_conversation(%s, %s)"
        snoozed = start_blocked(world, "olivia", snooze, thread, tomorrow)
    assert isinstance(snoozed.result(), list)
    why = taken.result()
    assert isinstance(why, Refusal)
    assert why.code == "PT404"
    assert events(world, thread)[-2][1].startswith("The conversation is free")


# Saved replies


def test_saved_reply_is_found_and_filled(world: World, thread: UUID) -> None:
    hours = insert(
        world,
        "andrej",
        "saved_replies",
        account_id=ALPINE,
        short_code="hours",
        title="Opening hours",
        text="Hello {{contact.name}}, we open at 8. {{agent.name}}",
    )
    visit = insert(
        world,
        "andrej",
        "saved_replies",
        account_id=ALPINE,
        short_code="open-visit",
        text="{{appointment.service}}: {{appointment.time}}",
    )
    find = "select short_code from public.saved_replies_beginning(%s, %s)"
    for beginning, codes in (
        ("", ["hours", "open-visit"]),
        ("/HO", ["hours"]),
        ("open", ["open-visit", "hours"]),
        ("%", []),
    ):
        found = ask(world, "vera", find, ALPINE, beginning)
        assert [row["short_code"] for row in found] == codes
    for user in ("cilka", "ana"):
        assert ask(world, user, find, ALPINE, "") == []

    fill = "select public.fill_saved_reply(%s, %s) as text"
    assert ask(world, "andrej", fill, hours["id"], thread) == [
        {"text": "Hello cilka, we open at 8. andrej"}
    ]
    why = refusal(world, "andrej", fill, visit["id"], thread)
    assert (why.code, why.message) == (
        "PT422",
        "{{appointment.service}} has no value for this customer.",
    )
    # in a booking's chat it is that booking, past or not
    job = make_job(world, starts_at="2026-01-01T09:00:00Z")
    make_job(world, starts_at="2999-01-01T09:00:00Z", service_type="Other")
    chat = world.value("select id from public.conversations where booking_id = %s", [job["id"]])
    assert ask(world, "andrej", fill, visit["id"], chat) == [
        {"text": "Carpet cleaning: Thursday, 1 January 2026 at 09:00"}
    ]
    for user, code in (("vera", "42501"), ("cilka", "PT404"), ("ana", "PT404")):
        assert refusal(world, user, fill, hours["id"], thread).code == code

    make = "insert into public.saved_replies (account_id, short_code, text) values (%s, %s, %s)"
    for code, text, sqlstate, field in (
        ("hours", "x", "PT409", "short_code"),
        ("/x", "x", "PT422", "short_code"),
        ("x", " ", "PT422", "text"),
        ("x", "{{contact.iban}}", "PT422", "text"),
    ):
        why = refusal(world, "andrej", make, ALPINE, code, text)
        assert (why.code, why.detail) == (sqlstate, f"field: {field}")
    change(world, "adam", "saved_replies", hours["id"], text="Closed.")
    why = refusal(
        world,
        "adam",
        "update public.saved_replies set text = '{{x}}' where id = %s",
        hours["id"],
    )
    assert why.message == "There is no variable {{x}}."


# In turn


def test_free_conversation_goes_to_the_member_at_the_desk_whose_turn_it_is(world: World) -> None:
    wa_ids = [f"3864000000{n}" for n in range(8)]

    def assignees() -> list[str | None]:
        return [
            row["display_name"]
            for row in world.rows(
                """
                select m.display_name
                from public.conversations k
                left join public.desk_states s on s.id = k.id
                left join public.account_members m
                    on m.account_id = s.account_id and m.user_id = s.assignee_id
                where k.customer_wa_id = any (%s)
                order by k.customer_wa_id
                """,
                [wa_ids],
            )
        ]

    def write(number: int, text: str = "first") -> None:
        world.ingest(text_message(f"wamid.{number}.{text}", wa_ids[number]))

    for user in ("andrej", "adam", "vera"):
        call(world, user, "stay_at_desk", ALPINE)
    for user in ("ana", "cilka", "stranger"):
        assert refused(world, user, "stay_at_desk", ALPINE).code == "PT404"
    # who works for one account need not name it
    call(world, "olivia", "stay_at_desk")
    assert refused(world, "cilka", "stay_at_desk").code == "PT404"
    world.owner.execute(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'agent', 'olivia')",
        [BAY, OLIVIA],
    )
    why = refused(world, "olivia", "stay_at_desk")
    assert (why.code, why.detail) == ("PT422", "field: account_id")
    world.owner.execute("delete from private.desk_presence where user_id = %s", [OLIVIA])
    write(0)
    assert assignees() == [None]

    world.owner.execute("update public.accounts set assigns_in_turn = true where id = %s", [ALPINE])
    # a viewer can't answer; a conversation that somebody has stays there
    for number in (1, 2, 3, 1):
        write(number)
        write(number, "again")
    names = assignees()
    assert names[0] is None
    assert set(names[1:3]) == {"andrej", "adam"}
    assert names[3] == names[1]
    # two conversations of one webhook
    world.ingest(text_message("wamid.4", wa_id=wa_ids[4]), text_message("wamid.5", wa_id=wa_ids[5]))
    assert set(assignees()[4:6]) == {"andrej", "adam"}

    # who has left the desk, or the account, has no turn; where nobody is, it stays free
    world.owner.execute(
        "update private.desk_presence set seen_at = now() - interval '3 minutes'"
        " where user_id = %s",
        [ANDREJ],
    )
    write(6)
    assert assignees()[6] == "adam"
    world.owner.execute("delete from public.account_members where user_id = %s", [ADAM])
    write(7)
    assert assignees()[7] is None
    first = world.value(
        "select id from public.conversations where customer_wa_id = %s", [wa_ids[6]]
    )
    assert events(world, first)[0] == (
        None,
        "The conversation goes to adam, whose turn it is.",
    )


def test_two_customers_at_once_go_to_two_members(world: World) -> None:
    world.owner.execute("update public.accounts set assigns_in_turn = true where id = %s", [ALPINE])
    for user in ("andrej", "adam"):
        call(world, user, "stay_at_desk", ALPINE)
    with world.connect() as first, first.transaction():
        one = first.execute("select private.next_at_desk(%s)", [ALPINE]).fetchone()
        other = world.value("select private.next_at_desk(%s)", [ALPINE])
        third = world.value("select private.next_at_desk(%s)", [ALPINE])
    assert one is not None
    assert {one[0], other} == {ANDREJ, ADAM}
    # while one is being given a conversation the other takes the next too, and nobody waits
    assert third == other


def test_viewer_is_given_no_conversation_while_the_role_changes(world: World, thread: UUID) -> None:
    for user in ("andrej", "adam"):
        call(world, user, "stay_at_desk", ALPINE)
    demote = "update public.account_members set role = 'viewer' where user_id = %s"
    hand_over = "select public.hand_over_conversation(%s, %s)"
    with world.connect() as demoting, demoting.transaction():
        demoting.execute(demote, [ANDREJ])
        handed = start_blocked(world, "olivia", hand_over, thread, ANDREJ)
        turns = [world.value("select private.next_at_desk(%s)", [ALPINE]) for _ in range(2)]
    assert turns == [ADAM, ADAM]
    why = handed.result()
    assert isinstance(why, Refusal)
    assert (why.code, why.detail) == ("PT422", "field: user_id")

    # the other way round the demotion waits, and frees it
    for give in (hand_over, "select private.next_at_desk(%s), %s"):
        with world.connect() as giving, giving.transaction():
            giving.execute(
                "select set_config('request.jwt.claims', %s, true)",
                [f'{{"sub": "{seed_uuid("olivia")}", "role": "authenticated"}}'],
            )
            giving.execute(give, [thread if give == hand_over else ALPINE, ADAM])
            with world.connect() as demoting, demoting.transaction():
                demoting.execute("set local lock_timeout = '50ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable), demoting.transaction():
                    demoting.execute(demote, [ADAM])
    world.owner.execute(demote, [ADAM])
    assert world.value("select assignee_id from public.desk_states") is None
