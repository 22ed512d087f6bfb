"""What a number brings from the phone app: chats of long ago and a phone book, news to nobody."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from tests.sql.asking import ask, refusal
from tests.sql.outbound import ago, post
from tests.world import ALPINE, ALPINE_NUMBER, Item, World, status, text_message

ANA = "385911234567"
TINE = "38640333444"
PHOTO = {"type": "image", "image": {"id": "875502", "caption": "The sofa"}}


def past(provider_id: str, wa_id: str = ANA, *, ours: bool = False, **changes: Any) -> Item:
    given: Item = {
        "kind": "history",
        "sender_type": "operator" if ours else "client",
        "sender_id": None if ours else wa_id,
        "profile_name": None,
        "sent_at": ago(hours=2),
        "status": None,
    }
    return text_message(provider_id, wa_id, **(given | changes))


def entry(wa_id: str, name: str | None, minute: int, type_: str = "add") -> Item:
    return {
        "kind": "phone_book",
        "phone_number_id": ALPINE_NUMBER,
        "wa_id": wa_id,
        "type": type_,
        "text": name,
        "sent_at": f"2026-11-21T10:{minute:02}:00Z",
    }


def test_the_history_is_there_and_is_news_to_nobody(world: World) -> None:
    world.forget_events()
    answer = world.ingest(
        past("wamid.1"),
        past("wamid.2", ours=True, sent_at=ago(hours=1), status="read"),
        past("wamid.3", TINE, ours=True, status="delivered"),
    )
    assert (answer["applied"], answer["rejected"]) == (3, [])

    assert world.rows(
        "select provider_id, seq, sender_type, status, is_history, read_at = sent_at as at_once"
        " from public.messages order by provider_id"
    ) == [
        {
            "provider_id": p,
            "seq": s,
            "sender_type": t,
            "status": w,
            "is_history": True,
            "at_once": a,
        }
        for p, s, t, w, a in (
            ("wamid.1", 1, "client", "delivered", None),
            ("wamid.2", 2, "operator", "read", True),
            ("wamid.3", 1, "operator", "delivered", None),
        )
    ]
    # a chat of the past is no open one, and opens no window
    assert (
        world.rows(
            "select k.status, a.last_inbound_at,"
            " a.last_message_at < now() - interval '50 minutes' as is_past"
            " from public.conversations k"
            " join public.conversation_activity a on a.conversation_id = k.id"
        )
        == [{"status": "closed", "last_inbound_at": None, "is_past": True}] * 2
    )
    for row in ask(world, "andrej", "select id, unread_count from public.inbox"):
        assert row["unread_count"] == 0
        refused = refusal(world, "andrej", "select public.post_message(%s, 'hi')", row["id"])
        assert refused.code == "PT422"
    assert world.value("select count(*) from private.outbound_queue") == 0

    # told once for all, and the log has every row
    assert {(event["kind"], event["event"]) for event in world.events()} == {
        ("account", "resync"),
        ("conversation", "resync"),
    }
    assert len([event for event in world.events() if event["kind"] == "account"]) == 1
    assert world.value("select count(*) from private.changes where table_name = 'messages'") >= 3
    # what comes next is told as ever
    world.forget_events()
    world.ingest(text_message("wamid.9", wa_id=ANA))
    assert "messages.inserted" in {event["event"] for event in world.events()}


@pytest.mark.parametrize("is_first", [True, False])
def test_each_message_is_there_once(world: World, is_first: bool) -> None:
    live = text_message("wamid.1", wa_id=ANA, sent_at=ago(hours=1))
    items = [past("wamid.1", sent_at=ago(hours=1)), live] if is_first else [live, past("wamid.1")]
    for number, item in enumerate(items):
        world.ingest(item, body=str(number))
    again = world.ingest(past("wamid.1"), body="again")

    assert again["duplicates"] == 1
    assert world.value("select count(*) from public.messages") == 1
    # the one that came first stays what it is
    assert world.value("select is_history from public.messages") is is_first


def test_history_goes_where_the_person_is_spoken_with(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=ANA, sent_at=ago(minutes=5)))
    thread = world.value("select id from public.conversations")
    before = world.value("select last_inbound_at from public.conversation_activity")
    ask(world, "andrej", "select public.mark_read(%s, 1)", thread)
    world.ingest(past("wamid.0"), past("wamid.00", sent_at=ago(seconds=30)))

    assert world.rows("select status from public.conversations") == [{"status": "open"}]
    assert world.value("select last_inbound_at from public.conversation_activity") == before
    assert ask(world, "andrej", "select unread_count from public.inbox") == [{"unread_count": 0}]
    assert ask(
        world, "andrej", "select provider_id from public.messages order by sent_at, seq limit 1"
    ) == [{"provider_id": "wamid.0"}]
    assert post(world, "andrej", thread)["status"] == "queued"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_file_takes_the_place_of_its_placeholder(world: World, order: tuple[int, ...]) -> None:
    items = [
        past(
            "wamid.1",
            type="media_placeholder",
            text="[file]",
            content={"type": "media_placeholder"},
        ),
        past("wamid.1", type="image", text="[image] The sofa", content=PHOTO),
        past("wamid.2", reply_to="wamid.1", sent_at=ago(hours=1)),
    ]
    for number in order:
        world.ingest(items[number], body=str(number))
    (photo,) = world.rows("select * from public.messages where provider_id = 'wamid.1'")
    assert (photo["type"], photo["message"], photo["content"]) == (
        "image",
        "[image] The sofa",
        PHOTO,
    )
    assert world.value("select provider_id from public.message_media") == "875502"
    assert (
        world.value("select reply_to from public.messages where provider_id = 'wamid.2'")
        == photo["id"]
    )
    version = photo["version"]
    world.ingest(*items, body="again")
    assert (
        world.value("select version from public.messages where id = %s", [photo["id"]]) == version
    )


def test_what_is_told_exactly_counts_more_than_the_history(world: World) -> None:
    world.ingest(
        text_message("wamid.1", wa_id=ANA, kind="echo", profile_name=None, sent_at=ago(hours=1))
    )
    exact = ago(minutes=50)
    world.ingest(status("wamid.1", "delivered", exact))
    world.ingest(past("wamid.1", ours=True, sent_at=ago(hours=1), status="delivered"))
    assert world.value("select delivered_at = %s::timestamptz from public.messages", [exact])


def test_a_large_chunk_goes_in_at_once(world: World) -> None:
    items = [
        past(f"wamid.{n}", f"3864{n % 50:07}", ours=n % 3 == 0, sent_at=ago(hours=n % 48 + 1))
        for n in range(600)
    ]
    world.forget_events()
    assert world.ingest(*items)["applied"] == 600
    assert world.value("select count(*) from public.conversations") == 50
    assert world.value(
        "select bool_and(a.last_seq = m.count) from public.conversation_activity a join"
        " (select conversation_id, count(*) as count from public.messages group by 1) m"
        " on m.conversation_id = a.conversation_id"
    )
    assert len([event for event in world.events() if event["kind"] == "account"]) == 1


# --- the phone book


def names(world: World) -> dict[str, str | None]:
    return {
        row["phone"]: row["name"]
        for row in world.rows(
            "select phone, name from public.contacts where account_id = %s", [ALPINE]
        )
    }


def test_the_phone_book_names_whom_nobody_has_named(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id=ANA, profile_name="ana ✨"))
    world.forget_events()
    answer = world.ingest(
        entry(ANA, "Ana Horvat", 1), entry(TINE, "Tine", 1), entry("38640111222", "C.", 1)
    )
    assert answer["applied"] == 3
    assert names(world) == {"+38640111222": "cilka", f"+{ANA}": "Ana Horvat", f"+{TINE}": "Tine"}
    assert {event["event"] for event in world.events()} == {"resync"}
    # by the business's own word: a person who writes from the number is that contact
    world.ingest(text_message("wamid.2", wa_id=TINE))
    assert len(names(world)) == 3
    assert world.value("select count(*) from public.conversations") == 2
    # nobody was written to
    assert world.value("select wa_id from public.contact_identities where value = %s", [f"+{TINE}"])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_latest_entry_counts(world: World, order: tuple[int, ...]) -> None:
    items = [entry(TINE, "One", 1), entry(TINE, "Two", 2), entry(TINE, None, 3, "remove")]
    for number in order[:2]:
        world.ingest(items[number], body=str(number))
    world.ingest(items[order[2]], body="last")
    assert world.value("select is_removed from private.phone_book")
    # a contact that is removed there stays here
    assert f"+{TINE}" in names(world)
    again = world.ingest(*items, body="again")
    assert (again["applied"], again["duplicates"]) == (0, 3)


def test_what_staff_call_somebody_stays(world: World) -> None:
    world.ingest(entry(TINE, "Tine", 1))
    world.ingest(entry(TINE, "Tine Z.", 2))
    assert names(world)[f"+{TINE}"] == "Tine Z."
    ask(world, "andrej", "update public.contacts_v2 set name = 'Mr Zupan' where name = 'Tine Z.'")
    world.ingest(entry(TINE, "Tine Zupan", 3))
    assert names(world)[f"+{TINE}"] == "Mr Zupan"


def test_removing_somebody_who_is_not_known_makes_nobody(world: World) -> None:
    world.ingest(entry(TINE, None, 1, "remove"))
    assert f"+{TINE}" not in names(world)
