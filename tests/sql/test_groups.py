"""Groups are threads of their own: nobody's in private, shown to staff, answered as groups."""

from __future__ import annotations

import json
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rapport.store.webhooks import json_of
from rapport.whatsapp.items import items_of
from tests.sql.asking import Refusal, ask, at_once, refusal
from tests.sql.outbound import accept, ago, begin, claim, post, state
from tests.world import ALPINE, ALPINE_NUMBER, BAY_NUMBER, Item, World, status, text_message

EVENTS = Path(__file__).parents[1] / "events"
CILKA = "38640111222"
ANA = "385911234567"
GROUP = "HBgLMTY1MDM4Nzk0MzkVAgA"


def said(provider_id: str, wa_id: str | None = ANA, **changes: Any) -> Item:
    """A text in the group."""
    given: Item = {
        "kind": "group",
        "group_id": GROUP,
        "sender_type": "client",
        "sender_id": wa_id or changes.get("user_id"),
        "profile_name": "Ana",
        "sent_at": ago(minutes=1),
    }
    return text_message(provider_id, wa_id, **(given | changes))


def told(at: str, **news: Any) -> Item:
    """What happened to the group."""
    content = {"name": None, "state": None, "joined": [], "departed": []} | news
    return {
        "kind": "group_event",
        "phone_number_id": ALPINE_NUMBER,
        "group_id": GROUP,
        "sent_at": at,
        "content": content,
    }


def person(wa_id: str | None, user_id: str | None = None) -> dict[str, str | None]:
    return {"wa_id": wa_id, "user_id": user_id}


def effect(provider_id: str, type_: str, sender_id: str, **changes: Any) -> Item:
    return {
        "kind": "effect",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": provider_id,
        "type": type_,
        "reply_to": "wamid.1",
        "sender_type": "client",
        "sender_id": sender_id,
        "sent_at": ago(seconds=10),
        "text": None,
        "content": None,
    } | changes


def at(minute: int) -> str:
    return f"2026-11-21T10:{minute:02}:00Z"


def group(world: World) -> dict[str, Any]:
    (row,) = world.rows("select * from public.conversations where group_id is not null")
    return row


def members(world: World) -> dict[str, bool]:
    return {
        one["wa_id"] or one["user_id"]: one["is_member"] for one in group(world)["participants"]
    }


def test_a_group_has_a_thread_of_its_own(world: World) -> None:
    world.ingest(text_message("wamid.0", wa_id=ANA, sent_at=ago(days=3)))
    private = world.value("select id from public.conversations")
    answer = world.ingest(said("wamid.1"), said("wamid.2", CILKA, profile_name="Cilka"))
    again = world.ingest(said("wamid.1"), body="again")

    assert (answer["applied"], again["duplicates"]) == (2, 1)
    thread = group(world)
    assert (
        thread["account_id"],
        thread["customer_id"],
        thread["channel"],
        thread["thread_key"],
    ) == (
        ALPINE,
        None,
        "whatsapp",
        f"group:{GROUP}",
    )
    assert [(one["wa_id"], one["name"], one["is_member"]) for one in thread["participants"]] == [
        (ANA, "Ana", True),
        (CILKA, "Cilka", True),
    ]
    assert world.rows(
        "select seq, customer_id, sender_type, sender_id, sender_name, conversation_id"
        " from public.messages where conversation_id <> %s order by seq",
        [private],
    ) == [
        {
            "seq": seq,
            "customer_id": None,
            "sender_type": "client",
            "sender_id": wa_id,
            "sender_name": name,
            "conversation_id": thread["id"],
        }
        for seq, wa_id, name in ((1, ANA, "Ana"), (2, CILKA, "Cilka"))
    ]
    # neither a contact of a participant nor a window with one
    assert world.value("select count(*) from public.contacts where account_id = %s", [ALPINE]) == 2
    windows = "select (public.reply_window(%s) ->> 'open')::boolean as open"
    assert ask(world, "andrej", windows, thread["id"]) == [{"open": True}]
    assert ask(world, "andrej", windows, private) == [{"open": False}]
    assert refusal(world, "andrej", "select public.post_message(%s, 'hi')", private).code == "PT422"


def test_a_recorded_message_lands_in_its_group(world: World) -> None:
    payload = json.loads((EVENTS / "text_in_group.json").read_text())
    value = payload["entry"][0]["changes"][0]["value"]
    value["metadata"]["phone_number_id"] = ALPINE_NUMBER
    world.ingest(*(json_of(item) for item in items_of(payload)))

    assert group(world)["group_id"] == GROUP
    assert (
        world.value("select count(*) from public.conversations where customer_id is not null") == 0
    )


def test_the_inbox_shows_the_group_by_its_name(world: World) -> None:
    world.ingest(said("wamid.1"))
    inbox = (
        "select customer_id, customer_name, group_name, unread_count, last_sender_name"
        " from public.inbox"
    )
    row = {"customer_id": None, "unread_count": 1, "last_sender_name": "Ana"}
    unnamed = {"customer_name": "WhatsApp group", "group_name": None}
    assert ask(world, "andrej", inbox) == [row | unnamed]

    world.ingest(told(ago(seconds=50), name="Studio Horvat"))
    named = {"customer_name": "Studio Horvat", "group_name": "Studio Horvat"}
    assert ask(world, "vera", inbox) == [row | named]
    for user in ("cilka", "ana", "carlos", "stranger"):
        assert ask(world, user, inbox) == []


def test_no_customer_sees_what_is_said_in_a_group(world: World) -> None:
    cursors = {
        user: ask(world, user, "select public.changes_since() ->> 'cursor' as cursor")[0]["cursor"]
        for user in ("andrej", "cilka", "ana")
    }
    world.forget_events()
    # the customer is in the group, and has a login
    world.ingest(
        said("wamid.1", CILKA, type="image", content={"type": "image", "image": {"id": "7"}})
    )
    world.ingest(told(at(1), name="Studio", joined=[person(CILKA)]))
    thread = group(world)["id"]

    for table in (
        "conversations where group_id is not null",
        "messages",
        "conversation_activity where customer_id is null",
        "message_media",
        "inbox where group_id is not null",
    ):
        seen = {u: len(ask(world, u, f"select 1 from public.{table}")) for u in cursors}
        assert seen == {"andrej": 1, "cilka": 0, "ana": 0}, table
    for user, cursor in cursors.items():
        (answer,) = ask(world, user, "select public.changes_since(%s) as changes", cursor)
        assert bool(answer["changes"]["changes"]) is (user == "andrej"), user
    assert {event["kind"] for event in world.events()} == {"account", "conversation"}
    for user, may in (("andrej", True), ("cilka", False), ("ana", False)):
        for topic in {event["topic"] for event in world.events()}:
            (row,) = ask(world, user, "select private.may_receive(%s) as may", topic)
            assert row["may"] is may
    for call in (
        f"select public.post_message('{thread}', 'hi')",
        f"insert into public.messages (conversation_id, message) values ('{thread}', 'hi')",
        f"select public.mark_read('{thread}', 1)",
        f"select public.reply_window('{thread}')",
        f"select public.set_conversation_status('{thread}', 'closed')",
    ):
        assert refusal(world, "cilka", call).code == "PT404", call
    assert ask(world, "cilka", "select * from public.conversation_people(%s)", thread) == []


def test_an_answer_goes_to_the_group(world: World) -> None:
    world.ingest(said("wamid.1"))
    thread = group(world)["id"]
    first = world.value("select id from public.messages")
    answer = post(world, "andrej", thread, "on Friday", reply_to=first)
    assert (answer["customer_id"], answer["status"]) == (None, "queued")

    (job,) = claim(world)
    assert (job["group_id"], job["wa_id"], job["user_id"]) == (GROUP, None, None)
    assert job["reply_to"] == "wamid.1"
    assert begin(world, answer["id"])
    accept(world, answer["id"], "wamid.9")
    # of each participant one: what the first of them has counts
    world.ingest(
        status("wamid.9", "delivered", ago(seconds=5)), status("wamid.9", "read", ago(seconds=4))
    )
    world.ingest(status("wamid.9", "delivered", ago(seconds=3)), body="another's")
    assert world.value("select status from public.messages where id = %s", [answer["id"]]) == "read"
    assert world.value(
        "select delivered_at < read_at from public.messages where id = %s", [answer["id"]]
    )


def test_the_window_is_the_group_s(world: World) -> None:
    world.ingest(said("wamid.1", sent_at=ago(hours=25)))
    thread = group(world)["id"]
    assert refusal(world, "andrej", "select public.post_message(%s, 'hi')", thread) == Refusal(
        "PT422",
        "More than 24 hours have passed since the person last wrote.",
        "field: type",
        "Send a template.",
    )
    # a message of any participant opens it for all
    world.ingest(said("wamid.2", CILKA))
    assert post(world, "andrej", thread)["status"] == "queued"


def test_what_groups_do_not_take_is_refused_with_the_field(world: World) -> None:
    world.ingest(said("wamid.1"))
    thread = group(world)["id"]
    buttons = {
        "type": "button",
        "body": {"text": "Friday?"},
        "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "Yes"}}]},
    }
    refused = refusal(
        world,
        "andrej",
        "select public.post_message(%s, null, 'interactive', %s)",
        thread,
        json.dumps(buttons),
    )
    assert (refused.code, refused.detail) == ("PT422", "field: type")

    waiting = post(world, "andrej", thread)
    world.ingest(told(ago(seconds=5), state="suspended"))
    assert group(world)["group_state"] == "suspended"
    assert refusal(world, "andrej", "select public.post_message(%s, 'hi')", thread) == Refusal(
        "PT422",
        "The group is suspended, so it can't get messages.",
        "field: conversation_id",
        "WhatsApp has suspended the group. Write to its participants one by one.",
    )
    # and the worker finds out as well
    (job,) = claim(world)
    assert not begin(world, job["message_id"])
    assert state(world, waiting["id"])["error_message"] == (
        "The group is suspended, so it can't get messages."
    )
    world.ingest(told(ago(seconds=1), state="active"))
    assert post(world, "andrej", thread)["status"] == "queued"


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_a_group_is_the_same_in_whatever_order_it_is_told(
    world: World, order: tuple[int, ...]
) -> None:
    items = [
        told(at(1), name="One", state="active", joined=[person(ANA), person(CILKA, "SI.1")]),
        told(at(2), name="Two", departed=[person(CILKA)]),
        said("wamid.1", ANA, sent_at=at(3), profile_name="Ana"),
        # a late word of somebody who has left, and one who is back
        said(
            "wamid.2", None, user_id="SI.1", sent_at=at(1), profile_name="Cilka", sender_id="SI.1"
        ),
        said("wamid.3", ANA, sent_at=at(4), profile_name="Ana H."),
    ]
    for number in order:
        world.ingest(items[number], body=str(number))

    thread = group(world)
    assert (thread["group_name"], thread["group_state"]) == ("Two", "active")
    assert thread["participants"] == [
        {
            "wa_id": ANA,
            "user_id": None,
            "name": "Ana H.",
            "is_member": True,
            "joined_at": at(1),
            "left_at": None,
        },
        {
            "wa_id": CILKA,
            "user_id": "SI.1",
            "name": "Cilka",
            "is_member": False,
            "joined_at": at(1),
            "left_at": at(2),
        },
    ]


def test_somebody_who_writes_after_leaving_is_back(world: World) -> None:
    world.ingest(told(at(2), departed=[person(ANA)]))
    assert members(world) == {ANA: False}
    world.ingest(said("wamid.1", sent_at=at(1)))
    assert members(world) == {ANA: False}
    world.ingest(said("wamid.2", sent_at=at(3)))
    assert members(world) == {ANA: True}
    # and a message by somebody who is shown already writes no version of the conversation
    version = group(world)["version"]
    world.ingest(said("wamid.3", sent_at=at(4)))
    assert group(world)["version"] == version


@pytest.mark.parametrize("sender", [ANA, "HR.7"])
def test_everybody_edits_and_deletes_their_own(world: World, sender: str) -> None:
    world.ingest(said("wamid.1", user_id="HR.7", text="mine"))
    forged = {"text": "forged", "content": {"type": "text", "text": {"body": "forged"}}}
    world.ingest(
        effect("wamid.2", "edit", CILKA, **forged),
        effect("wamid.3", "revoke", CILKA),
        effect("wamid.4", "reaction", CILKA, text="👍"),
        effect("wamid.5", "reaction", ANA, text="🎉"),
    )
    (row,) = world.rows("select message, revoked_at, reactions from public.messages")
    assert (row["message"], row["revoked_at"]) == ("mine", None)
    assert [(one["sender_id"], one["emoji"]) for one in row["reactions"]] == [
        (CILKA, "👍"),
        (ANA, "🎉"),
    ]

    edit = {"text": "better", "content": {"type": "text", "text": {"body": "better"}}}
    world.ingest(effect("wamid.6", "edit", sender, **edit))
    assert world.value("select message from public.messages") == "better"
    world.ingest(effect("wamid.7", "revoke", sender))
    assert world.value("select message from public.messages") == ""


def test_a_closed_group_is_opened_again(world: World) -> None:
    world.ingest(said("wamid.1"))
    thread = group(world)["id"]
    ask(world, "andrej", "select public.set_conversation_status(%s, 'closed')", thread)
    world.ingest(told(at(5), name="Closed"))
    assert group(world)["status"] == "closed"
    world.ingest(said("wamid.2"))
    assert (group(world)["id"], group(world)["status"]) == (thread, "open")


def test_a_group_is_of_one_number(world: World) -> None:
    world.ingest(said("wamid.1"), said("wamid.1") | {"phone_number_id": BAY_NUMBER})
    assert world.value("select count(distinct account_id) from public.conversations") == 2
    assert len(ask(world, "ana", "select 1 from public.messages")) == 1


def test_a_merge_moves_no_group(world: World) -> None:
    world.ingest(text_message("wamid.0", wa_id=ANA), text_message("wamid.00", wa_id="38640777888"))
    world.ingest(said("wamid.1"))
    before = group(world)
    ids = [
        row["id"]
        for row in world.rows("select id from public.contacts where name is null order by id")
    ]
    ask(world, "andrej", "select public.merge_contacts(%s, %s)", *ids)
    assert group(world) == before


def test_a_group_s_rows_hang_on_its_thread(world: World) -> None:
    world.ingest(said("wamid.1", type="image", content={"type": "image", "image": {"id": "7"}}))
    thread = group(world)["id"]
    ask(world, "andrej", "select public.mark_read(%s, 1)", thread)
    # what a foreign key can't hold without a customer is held all the same
    cilka = world.value("select id from public.contacts where name = 'cilka'")
    for change in (
        f"""
        insert into public.messages (
            account_id, conversation_id, customer_id, seq, sender_type, message,
            whatsapp_channel_id, status
        )
        select account_id, id, '{cilka}', 2, 'client', 'x', whatsapp_channel_id, 'sent'
        from public.conversations
        where id = '{thread}'
        """,
        f"update public.conversations set customer_id = '{cilka}' where id = '{thread}'",
        f"update public.conversations set group_id = 'another' where id = '{thread}'",
    ):
        with pytest.raises(psycopg.Error):
            world.owner.execute(change.encode())
    world.owner.execute(
        "delete from public.whatsapp_channels where phone_number_id = %s", [ALPINE_NUMBER]
    )
    for table in (
        "conversations",
        "messages",
        "conversation_activity",
        "read_markers",
        "message_media",
    ):
        assert world.value(f"select count(*) from public.{table}") == 0, table


def test_what_comes_at_the_same_time_is_one_group(world: World) -> None:
    for round_ in range(5):
        world.owner.execute("delete from public.conversations")
        world.owner.execute("delete from private.group_events")
        items = [
            said("wamid.1"),
            said("wamid.2", CILKA, profile_name="Cilka"),
            told(ago(minutes=2), name="Studio", joined=[person("38640555666")]),
            told(ago(seconds=1), departed=[person(ANA)]),
        ]
        answers = at_once(
            *(partial(world.ingest, item, body=f"{round_} {n}") for n, item in enumerate(items))
        )
        assert [answer["applied"] for answer in answers if isinstance(answer, dict)] == [1] * 4
        assert group(world)["group_name"] == "Studio"
        assert members(world) == {ANA: False, CILKA: True, "38640555666": True}
