"""What users of other systems complain about, as far as it concerns what arrives.

Each test bears the name of a complaint; the numbers are those of the list that they come from.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.sql.asking import Refusal, ask, at_once
from tests.sql.inbound import at, echo, edit, reaction, revoke
from tests.world import ALPINE_NUMBER, BAY, BAY_NUMBER, Item, World, seed_uuid, status, text_message

SENDERS = [f"3864000000{n}" for n in range(10)]


def wamids(world: World) -> list[str]:
    """The messages by the provider's time."""
    found: list[str] = world.value(
        "select coalesce(array_agg(provider_id order by sent_at, seq), '{}') from public.messages"
    )
    return found


def test_case_01_batched_items_are_not_lost(world: World) -> None:
    """One bad update among a thousand costs itself alone, wherever it is."""
    items = [
        text_message(f"wamid.{n}", wa_id=f"386401{n % 50:05}", sent_at=at(n % 60))
        for n in range(997)
    ]
    items.insert(0, status("wamid.x", "melted", at(1)))
    items.insert(500, text_message("wamid.y", sent_at="soon"))
    items.append(status("wamid.z", "melted", at(1)))

    answer = world.ingest(*items)

    assert answer["applied"] == 997
    assert [one["index"] for one in answer["rejected"]] == [0, 500, 999]
    assert len(wamids(world)) == 997


def test_case_02_replay_duplicates_neither_messages_nor_effects(world: World) -> None:
    items = [
        text_message("wamid.1", wa_id="38640111222", username="cilka.k"),
        echo("wamid.2", "38640111222", sent_at=at(1)),
        reaction("wamid.3", "wamid.2", 2, "👍"),
        edit("wamid.4", "wamid.1", 3, "edited"),
        text_message("wamid.5", wa_id="38640111222", sent_at=at(4), reply_to="wamid.2"),
        status("wamid.2", "read", at(5)),
    ]
    world.ingest(*items)
    world.forget_events()
    state = "select jsonb_agg(to_jsonb(m) order by seq) from public.messages m"
    before = world.value(state)

    for number, item in enumerate(items):
        assert world.ingest(item, body=f"again {number}")["applied"] == 0
    assert world.ingest(*items, body="all again")["duplicates"] == len(items)

    assert world.value(state) == before
    assert world.value("select count(*) from private.changes") == 0
    assert world.events() == []


def test_case_03_two_copies_at_the_same_moment_are_one(world: World) -> None:
    def copy(number: int) -> Any:
        return world.ingest(
            text_message("wamid.1"), reaction("wamid.2", "wamid.1", 1, "👍"), body=f"{number}"
        )

    answers = at_once(*(lambda n=n: copy(n) for n in range(6)))

    assert sorted(answer["applied"] for answer in answers if isinstance(answer, dict)) == [
        *[0] * 5,
        2,
    ]
    assert wamids(world) == ["wamid.1"]


def test_case_04_what_can_not_be_applied_is_still_there_in_the_raw(world: World) -> None:
    world.ingest(text_message("wamid.1", sent_at="soon"), body='{"raw": "body"}')

    assert world.rows(
        "select body, rejected -> 0 ->> 'reason' as why from private.webhook_events"
    ) == [{"body": '{"raw": "body"}', "why": "refused"}]


def test_case_07_status_never_goes_backward(world: World) -> None:
    world.ingest(text_message("wamid.1"), echo("wamid.2", sent_at=at(1)))
    words = [("read", 5), ("delivered", 4), ("sent", 3), ("delivered", 4)]
    for number, (word, second) in enumerate(words):
        world.ingest(status("wamid.2", word, at(second)), body=f"{number}")

        assert (
            world.value("select status from public.messages where provider_id = 'wamid.2'")
            == "read"
        )
    assert world.value(
        "select array[extract(second from sent_at), extract(second from delivered_at),"
        " extract(second from read_at)]::integer[] from public.messages"
        " where provider_id = 'wamid.2'"
    ) == [1, 4, 5]


def test_case_08_failed_and_delivered_together_show_both(world: World) -> None:
    world.ingest(echo("wamid.1"))
    world.ingest(
        status("wamid.1", "delivered", at(3)),
        status("wamid.1", "failed", at(2), error_code=131026, error_message="Undeliverable"),
    )
    assert world.rows("select status, error_code, error_message from public.messages") == [
        {"status": "delivered", "error_code": 131026, "error_message": "Undeliverable"}
    ]


def test_case_09_order_is_the_providers_and_the_cursor_the_servers(world: World) -> None:
    world.ingest(text_message("wamid.2", sent_at=at(2)))
    world.ingest(text_message("wamid.1", sent_at=at(1)))

    assert wamids(world) == ["wamid.1", "wamid.2"]
    assert world.value("select array_agg(provider_id order by seq) from public.messages") == [
        "wamid.2",
        "wamid.1",
    ]
    assert (
        world.value(
            "select extract(second from last_message_at)::integer from public.conversation_activity"
        )
        == 2
    )


def test_case_10_four_photos_at_once_are_one_conversation(world: World) -> None:
    photo = {"type": "image", "text": "[image]", "content": {"type": "image"}}
    answers = at_once(
        *(lambda n=n: world.ingest(text_message(f"wamid.{n}", **photo)) for n in range(4))
    )
    assert not any(isinstance(answer, Refusal) for answer in answers)
    assert world.value("select count(*) from public.conversations") == 1
    assert world.value("select array_agg(seq order by seq) from public.messages") == [1, 2, 3, 4]


def test_case_12_spellings_of_a_number_are_one_person_on_every_path(world: World) -> None:
    """Brazil's ninth digit, in messages and echoes; the reply goes to the spelling that came."""
    bay = {"phone_number_id": BAY_NUMBER}
    world.ingest(
        text_message("wamid.1", "551187654321", sent_at=at(1), **bay),
        echo("wamid.2", "5511987654321", sent_at=at(2), **bay),
    )
    assert world.rows("select customer_id, customer_wa_id from public.conversations") == [
        {"customer_id": seed_uuid("contact carlos"), "customer_wa_id": "551187654321"}
    ]


def test_case_13_people_without_a_number_are_kept_and_found(world: World) -> None:
    world.ingest(text_message("wamid.1", None, user_id="SI.1349", username="tina.k"))

    assert ask(
        world, "andrej", "select name, username, phone from public.contacts_v2 where name = 'Nejc'"
    ) == [{"name": "Nejc", "username": "tina.k", "phone": None}]


def test_case_14_user_id_is_of_one_business(world: World) -> None:
    world.ingest(text_message("wamid.1", None, user_id="SI.1349"))
    world.ingest(
        text_message("wamid.1", "38640999888", user_id="SI.1349", phone_number_id=BAY_NUMBER)
    )
    assert world.value("select count(distinct customer_id) from public.messages") == 2
    # what one business knows is not the other's to learn
    assert world.value("select account_id from private.whatsapp_user_numbers") == BAY


def test_case_16_message_of_a_medium_is_there_before_the_medium(world: World) -> None:
    content = {"type": "image", "image": {"id": "7", "sha256": "abc", "mime_type": "image/jpeg"}}
    world.ingest(text_message("wamid.1", type="image", text="[image]", content=content))

    assert world.value("select content -> 'image' ->> 'id' from public.messages") == "7"


def test_case_17_nothing_vanishes_that_comes_before_its_parent(world: World) -> None:
    for number, item in enumerate(
        [
            reaction("wamid.r", "wamid.1", 2, "👍"),
            edit("wamid.e", "wamid.1", 3, "better"),
            revoke("wamid.d", "wamid.2", 4),
            text_message("wamid.a", sent_at=at(5), reply_to="wamid.1"),
            text_message("wamid.1", sent_at=at(1), text="good"),
            text_message("wamid.2", sent_at=at(1), text="wrong"),
            text_message(
                "wamid.u",
                sent_at=at(6),
                type="unsupported",
                text="[unsupported message]",
                content={"type": "unsupported", "errors": [{"code": 131051}]},
            ),
        ]
    ):
        assert world.ingest(item, body=f"{number}")["applied"] == 1

    assert world.value(
        "select jsonb_object_agg(m.provider_id, jsonb_build_array("
        "m.message, m.reactions -> 0 ->> 'emoji', p.provider_id))"
        " from public.messages m left join public.messages p on p.id = m.reply_to"
    ) == {
        "wamid.1": ["better", "👍", None],
        "wamid.2": ["", None, None],
        "wamid.a": ["text of wamid.a", None, "wamid.1"],
        "wamid.u": ["[unsupported message]", None, None],
    }


def test_case_18_replies_from_the_phone_app_are_there_once_and_not_sent(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    at_once(
        *(lambda n=n: world.ingest(echo("wamid.2", sent_at=at(1)), body=f"{n}") for n in range(4))
    )
    senders = "select array_agg(sender_type::text order by seq) from public.messages"
    assert world.value(senders) == ["client", "operator"]
    assert world.value("select count(*) from private.outbound_queue") == 0


def test_case_19_only_the_customer_opens_the_window(world: World) -> None:
    """Neither what we send from the phone nor a reaction does."""
    now = world.value("select to_jsonb(now())")
    world.ingest(text_message("wamid.1", wa_id="38640111222", sent_at="2026-01-01T10:00:00Z"))
    world.ingest(
        echo("wamid.2", "38640111222", sent_at=now),
        reaction("wamid.3", "wamid.2", 0, "👍", sent_at=now),
    )
    window = "select public.reply_window(id) ->> 'open' as open from public.conversations"
    assert ask(world, "andrej", window) == [{"open": "false"}]

    world.ingest(text_message("wamid.4", wa_id="38640111222", sent_at=now))
    assert ask(world, "andrej", window) == [{"open": "true"}]


def test_case_25_wrong_tenant_is_impossible(world: World) -> None:
    """One id at WhatsApp, one sender, two numbers of two businesses."""
    for number in (ALPINE_NUMBER, BAY_NUMBER):
        world.ingest(
            text_message("wamid.1", phone_number_id=number),
            reaction("wamid.2", "wamid.1", 1, "👍", phone_number_id=number),
        )
    assert world.value("select count(*) from public.messages") == 2
    assert world.value("select count(distinct account_id) from public.messages") == 2
    for user in ("andrej", "ana"):
        assert ask(world, user, "select count(*) as seen from public.messages") == [{"seen": 1}]


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_batches_over_the_same_conversations_never_deadlock(
    world: World, seed: int
) -> None:
    """Every kind of update, known and new people, each batch in an order of its own."""
    world.ingest(
        *(text_message(f"wamid.known.{sender}", wa_id=sender) for sender in SENDERS[:5]),
        *(echo(f"wamid.ours.{sender}", sender) for sender in SENDERS[:5]),
    )
    chance = random.Random(seed)
    workers = 6

    def batch(worker: int, turn: int) -> list[Item]:
        def mine(kind: str, sender: str) -> str:
            return f"wamid.{kind}.{worker}.{turn}.{sender}"

        items: list[Item] = []
        for place, sender in enumerate(SENDERS):
            both = {"user_id": f"SI.{sender}"} if place % 2 else {}
            items += [
                text_message(mine("m", sender), sender, sent_at=at(turn), **both),
                echo(mine("e", sender), sender, sent_at=at(turn)),
                text_message(
                    mine("a", sender), sender, sent_at=at(turn), reply_to=mine("e", sender)
                ),
                reaction(mine("r", sender), f"wamid.ours.{sender}", turn, "👍"),
                edit(mine("d", sender), f"wamid.known.{sender}", turn, f"{worker}"),
                status(f"wamid.ours.{sender}", "delivered", at(turn)),
                # of a message that another worker brings now
                status(f"wamid.e.{(worker + 1) % workers}.{turn}.{sender}", "read", at(turn)),
            ]
        chance.shuffle(items)
        return items

    batches = [[batch(worker, turn) for turn in range(4)] for worker in range(workers)]

    def send(worker: int) -> int:
        rejected = 0
        for turn, items in enumerate(batches[worker]):
            answer = world.ingest(*items, body=f"{worker} {turn}")
            rejected += len(answer["rejected"])
        return rejected

    answers = at_once(*(lambda worker=worker: send(worker) for worker in range(workers)))

    assert answers == [0] * workers
    assert world.value("select count(*) from public.messages") == 10 + workers * 4 * 30
    assert world.value(
        "select bool_and(status = 'read') from public.messages where provider_id like 'wamid.e.%%'"
    )
    assert world.value(
        "select bool_and(reply_to is not null) from public.messages"
        " where provider_id like 'wamid.a.%%'"
    )
    assert world.value("select count(*) from public.contacts where name is null") == len(SENDERS)
