"""Everything that arrives: echoes, reactions, edits, deletions, events, and what they show."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from tests.sql.asking import ask, at_once
from tests.sql.inbound import PHONE, account_event, at, echo, edit, effect, reaction, revoke
from tests.world import (
    ALPINE,
    ALPINE_NUMBER,
    BAY,
    BAY_NUMBER,
    Item,
    World,
    seed_uuid,
    status,
    text_message,
)

USER = "SI.1349"


def shown(world: World, provider_id: str) -> dict[str, Any]:
    (row,) = world.rows(
        """
        select m.message, m.content, m.status, m.edited_at is not null as edited,
               m.revoked_at is not null as revoked, m.seq,
               (select jsonb_agg(r ->> 'emoji' order by place)
                from jsonb_array_elements(m.reactions) with ordinality as e (r, place)) as emojis
        from public.messages m
        where m.provider_id = %s
        """,
        [provider_id],
    )
    return row


def ingest_each(world: World, *items: Item) -> None:
    for number, item in enumerate(items):
        world.ingest(item, body=f"{number} {item['provider_id']}")


# --- echoes


def test_message_from_the_phone_app_is_ours_and_is_not_sent_again(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(echo("wamid.2", sent_at=at(5)))
    world.ingest(echo("wamid.2", sent_at=at(5)), body="again")

    assert world.rows(
        "select sender_type, sender_id, sender_name, status, seq from public.messages"
        " where provider_id = 'wamid.2'"
    ) == [
        {
            "sender_type": "operator",
            "sender_id": None,
            "sender_name": None,
            "status": "sent",
            "seq": 2,
        }
    ]
    assert world.value("select count(*) from private.outbound_queue") == 0
    assert world.value("select count(*) from public.conversations") == 1
    # only the customer opens the window
    assert world.value("select last_inbound_at < last_message_at from public.conversation_activity")


def test_first_message_from_the_phone_app_begins_a_conversation(world: World) -> None:
    world.ingest(echo("wamid.1"))
    world.ingest(text_message("wamid.2", sent_at=at(5)))

    assert world.rows(
        "select c.thread_key, c.customer_wa_id, k.profile_name, k.phone"
        " from public.conversations c join public.contacts k on k.id = c.customer_id"
    ) == [
        {
            "thread_key": f"phone:{PHONE}",
            "customer_wa_id": PHONE,
            "profile_name": "Nejc",
            "phone": f"+{PHONE}",
        }
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_statuses_settle_an_echo_in_any_order(world: World, order: tuple[int, ...]) -> None:
    items = [
        echo("wamid.1", sent_at=at(0)),
        status("wamid.1", "delivered", at(1)),
        status("wamid.1", "read", at(2)),
    ]
    ingest_each(world, *(items[number] for number in order))

    assert shown(world, "wamid.1")["status"] == "read"


# --- reactions


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_reaction_is_given_changed_and_taken_back_in_any_order(
    world: World, order: tuple[int, ...]
) -> None:
    world.ingest(text_message("wamid.0", sent_at=at(0)))
    items = [
        text_message("wamid.1", sent_at=at(1)),
        reaction("wamid.2", "wamid.1", 2, "👍"),
        reaction("wamid.3", "wamid.1", 3, None),
        reaction("wamid.4", "wamid.1", 3, "❤️", sender_type="operator"),
    ]
    ingest_each(world, *(items[number] for number in order))

    assert shown(world, "wamid.1")["emojis"] == ["❤️"]
    assert world.value("select last_seq from public.conversation_activity") == 2


def test_reaction_in_the_batch_of_its_message_is_shown(world: World) -> None:
    answer = world.ingest(reaction("wamid.2", "wamid.1", 2, "👍"), text_message("wamid.1"))

    assert answer["applied"] == 2
    assert shown(world, "wamid.1")["emojis"] == ["👍"]


def test_members_of_a_group_react_each_for_themselves(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(
        reaction("wamid.2", "wamid.1", 2, "👍", sender_id="1"),
        reaction("wamid.3", "wamid.1", 3, "🎉", sender_id="2"),
        reaction("wamid.4", "wamid.1", 4, None, sender_id="1"),
    )
    assert shown(world, "wamid.1")["emojis"] == ["🎉"]


def test_reaction_is_told_to_those_who_follow_and_names_nobody(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640111222"))
    world.forget_events()
    world.ingest(reaction("wamid.2", "wamid.1", 2, "👍"))

    events = world.events()
    assert {event["event"] for event in events} == {"messages.updated"}
    assert {event["kind"] for event in events} == {"account", "conversation", "customer"}
    for event in events:
        assert [one["emoji"] for one in event["payload"]["record"]["reactions"]] == ["👍"]
    for user, sees in (("andrej", True), ("cilka", True), ("ana", False), ("carlos", False)):
        rows = ask(world, user, "select id from public.messages where reactions <> '[]'")
        assert bool(rows) is sees


def test_repeated_reaction_changes_nothing(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(reaction("wamid.2", "wamid.1", 2, "👍"))
    version = world.value("select version from public.messages")
    again = world.ingest(reaction("wamid.2", "wamid.1", 2, "👍"), body="again")

    assert (again["applied"], again["duplicates"]) == (0, 1)
    assert world.value("select version from public.messages") == version


# --- edits and deletions


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_latest_edit_is_shown_and_the_first_words_are_kept(
    world: World, order: tuple[int, ...]
) -> None:
    items = [
        text_message("wamid.1", text="one", sent_at=at(1)),
        edit("wamid.2", "wamid.1", 2, "two"),
        edit("wamid.3", "wamid.1", 3, "three"),
    ]
    ingest_each(world, *(items[number] for number in order))

    row = shown(world, "wamid.1")
    assert (row["message"], row["edited"], row["content"]) == ("three", True, None)
    assert world.value(
        "select array_agg(text order by at nulls first) from private.message_effects"
    ) == [
        "one",
        "two",
        "three",
    ]


def test_edited_caption_keeps_the_file(world: World) -> None:
    image = {"type": "image", "image": {"id": "7", "sha256": "a", "caption": "one"}}
    world.ingest(text_message("wamid.1", type="image", text="[image] one", content=image))
    world.ingest(
        edit(
            "wamid.2",
            "wamid.1",
            2,
            "[image] two",
            content={"type": "image", "image": {"caption": "two"}},
        )
    )

    row = shown(world, "wamid.1")
    assert row["message"] == "[image] two"
    assert row["content"]["image"] == {"id": "7", "sha256": "a", "caption": "two"}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_deleted_message_is_blank_in_any_order(world: World, order: tuple[int, ...]) -> None:
    items = [
        text_message("wamid.1", text="secret", sent_at=at(1)),
        edit("wamid.2", "wamid.1", 2, "still secret"),
        reaction("wamid.3", "wamid.1", 3, "👍"),
        revoke("wamid.4", "wamid.1", 4),
    ]
    ingest_each(world, *(items[number] for number in order))

    row = shown(world, "wamid.1")
    assert (row["message"], row["content"], row["emojis"]) == ("", None, None)
    assert row["revoked"] is True
    assert row["seq"] == 1
    assert not world.rows(
        "select from private.message_effects where text like '%%secret%%'"
        " or content::text like '%%secret%%'"
    )


@pytest.mark.parametrize("type_", ["reaction", "edit", "revoke"])
def test_effects_are_found_by_their_message_however_many_there_are(
    world: World, type_: str
) -> None:
    count = 200
    world.ingest(*(text_message(f"wamid.{n}") for n in range(count)))
    items = [effect(f"wamid.e{n}", type_, f"wamid.{n}", 1, text="x") for n in range(count)]
    with world.acting("service_role") as connection:
        connection.execute("select backend.ingest_whatsapp('effects', %s)", [json.dumps(items)])
        connection.execute("reset role")
        row = connection.execute(
            "select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
            " from pg_catalog.pg_stat_xact_user_tables where relname = 'message_effects'"
        ).fetchone()
    assert row is not None
    # a few of each, not all for each
    assert count < row[0] < count * 30
    assert world.value("select count(*) from public.messages where version > 1") == count


def test_each_side_edits_and_deletes_its_own(world: World) -> None:
    world.ingest(text_message("wamid.1", text="theirs"), echo("wamid.2", text="ours"))
    world.ingest(
        edit("wamid.3", "wamid.2", 3, "forged"),
        revoke("wamid.4", "wamid.1", 4, sender_type="operator"),
    )
    assert shown(world, "wamid.1")["message"] == "theirs"
    assert shown(world, "wamid.2")["message"] == "ours"

    world.ingest(revoke("wamid.5", "wamid.2", 5, sender_type="operator"))
    assert shown(world, "wamid.2")["revoked"] is True


def test_another_accounts_number_does_nothing_to_a_message(world: World) -> None:
    world.ingest(text_message("wamid.1", text="ours alone"))
    world.ingest(
        *(
            item | {"phone_number_id": BAY_NUMBER}
            for item in (
                reaction("wamid.2", "wamid.1", 2, "👍"),
                edit("wamid.3", "wamid.1", 3, "forged"),
                revoke("wamid.4", "wamid.1", 4),
                status("wamid.1", "failed", at(5)),
            )
        )
    )
    row = shown(world, "wamid.1")
    assert (row["message"], row["emojis"], row["status"]) == ("ours alone", None, "delivered")


# --- replies


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_reply_names_what_it_answers_in_any_order(
    world: World, order: tuple[int, ...], together: bool
) -> None:
    items = [
        text_message("wamid.1", sent_at=at(1)),
        text_message("wamid.2", sent_at=at(2), reply_to="wamid.1"),
        text_message("wamid.3", sent_at=at(3), reply_to="wamid.2"),
    ]
    ordered = [items[number] for number in order]
    if together:
        world.ingest(*ordered)
    else:
        ingest_each(world, *ordered)

    assert world.value(
        "select array_agg(p.provider_id order by m.sent_at) from public.messages m"
        " left join public.messages p on p.id = m.reply_to"
    ) == [None, "wamid.1", "wamid.2"]
    assert world.value("select count(*) from private.parked_replies") == 0


def test_reply_shows_nothing_of_another_conversation(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640777666"))
    world.ingest(text_message("wamid.2", reply_to="wamid.1"))
    world.ingest(text_message("wamid.3", reply_to="wamid.4"))
    world.ingest(text_message("wamid.4", wa_id="38640777666"))

    assert world.value("select count(*) from public.messages where reply_to is not null") == 0
    assert world.value("select count(*) from private.parked_replies") == 0


# --- two parts at the same moment


def test_parts_that_come_at_once_never_miss_each_other(world: World) -> None:
    world.ingest(text_message("wamid.0"))
    for number in range(8):
        parent = f"wamid.m{number}"
        parts = [
            echo(parent, sent_at=at(1)),
            status(parent, "read", at(2)),
            reaction(f"wamid.r{number}", parent, 3, "👍"),
            text_message(f"wamid.a{number}", reply_to=parent, sent_at=at(4)),
        ]
        answers = at_once(*(lambda part=part: world.ingest(part) for part in parts))
        assert [answer["applied"] for answer in answers if isinstance(answer, dict)] == [1] * 4

        row = shown(world, parent)
        assert (row["status"], row["emojis"]) == ("read", ["👍"])
        assert (
            world.value(
                "select p.provider_id from public.messages m join public.messages p"
                " on p.id = m.reply_to where m.provider_id = %s",
                [f"wamid.a{number}"],
            )
            == parent
        )


# --- our messages, by the id that we gave them


@pytest.fixture
def sent(world: World) -> UUID:
    """A message of Andrej's whose call to WhatsApp timed out."""
    now = world.value("select to_jsonb(now())")
    world.ingest(text_message("wamid.in", wa_id="38640111222", sent_at=now))
    (posted,) = ask(
        world,
        "andrej",
        "select public.post_message((select id from public.conversations), 'hi') ->> 'id' as id",
    )
    message = UUID(posted["id"])
    with world.acting("service_role") as connection:
        connection.execute("select backend.claim_outbound('w')")
        connection.execute("select backend.begin_send(%s, 'w')", [message])
        connection.execute("select backend.settle_send(%s, 'w', 'unknown')", [message])
    return message


def ours(world: World, message: UUID) -> dict[str, Any]:
    (row,) = world.rows(
        "select status, provider_id, error_code from public.messages where id = %s", [message]
    )
    return row


@pytest.mark.parametrize("word", ["sent", "delivered", "read", "failed"])
def test_status_with_our_id_settles_an_unknown_message(world: World, sent: UUID, word: str) -> None:
    assert ours(world, sent)["status"] == "unknown"
    world.ingest(status("wamid.out", word, at(5), message_ref=str(sent), error_code=131026))

    assert ours(world, sent)["status"] == word
    assert ours(world, sent)["provider_id"] == "wamid.out"
    assert world.rows("select outcome, provider_id from private.outbound_attempts") == [
        {"outcome": "accepted", "provider_id": "wamid.out"}
    ]


def test_status_with_our_id_ends_a_second_sending(world: World, sent: UUID) -> None:
    world.owner.execute("update private.outbound_attempts set ended_at = now() - interval '1 hour'")
    ask(world, "andrej", "select public.resend_message(%s)", sent)
    assert world.value("select count(*) from private.outbound_queue") == 1

    world.ingest(status("wamid.out", "sent", at(5), message_ref=str(sent)))
    assert ours(world, sent)["status"] == "sent"
    assert world.value("select count(*) from private.outbound_queue") == 0


def test_delivery_of_an_earlier_attempt_counts_and_its_failure_does_not(
    world: World, sent: UUID
) -> None:
    world.ingest(status("wamid.a", "failed", at(5), message_ref=str(sent), error_code=131000))
    assert ours(world, sent)["status"] == "failed"
    ask(world, "andrej", "select public.resend_message(%s)", sent)
    # the same again, in another webhook
    world.ingest(
        status("wamid.a", "failed", at(4), message_ref=str(sent), error_code=131000), body="b"
    )
    assert ours(world, sent) == {"status": "queued", "provider_id": None, "error_code": None}
    assert world.value("select count(*) from private.outbound_queue") == 1

    world.ingest(status("wamid.a", "delivered", at(6), message_ref=str(sent)))
    assert ours(world, sent)["status"] == "delivered"
    # it is not sent a second time
    assert world.value("select count(*) from private.outbound_queue") == 0


def test_reaction_before_we_know_the_id_is_shown_when_we_do(world: World, sent: UUID) -> None:
    world.ingest(reaction("wamid.r", "wamid.out", 5, "👍"))
    world.ingest(text_message("wamid.a", wa_id="38640111222", reply_to="wamid.out"))
    with world.acting("service_role") as connection:
        connection.execute("select backend.settle_send(%s, 'w', 'accepted', 'wamid.out')", [sent])

    assert shown(world, "wamid.out")["emojis"] == ["👍"]
    assert world.value("select reply_to from public.messages where provider_id = 'wamid.a'") == sent


@pytest.mark.parametrize("whose", ["another number's", "a customer's", "nobody's"])
def test_our_id_counts_only_for_a_message_of_that_number(
    world: World, sent: UUID, whose: str
) -> None:
    ref = {
        "another number's": sent,
        "a customer's": world.value("select id from public.messages where sender_type = 'client'"),
        "nobody's": seed_uuid("nobody"),
    }[whose]
    number = BAY_NUMBER if whose == "another number's" else ALPINE_NUMBER
    answer = world.ingest(
        status("wamid.out", "read", at(5), message_ref=str(ref), phone_number_id=number)
    )
    assert answer["rejected"] == []
    assert ours(world, sent)["status"] == "unknown"
    assert world.value("select count(*) from public.messages where status = 'read'") == 0


# --- one person, known by number and user id


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_who_writes_with_the_user_id_alone_goes_on_in_one_thread(
    world: World, order: tuple[int, ...], together: bool
) -> None:
    items = [
        text_message("wamid.1", None, user_id=USER, sent_at=at(1)),
        text_message("wamid.2", PHONE, user_id=USER, sent_at=at(2)),
        text_message("wamid.3", None, user_id=USER, sent_at=at(3)),
    ]
    ordered = [items[number] for number in order]
    if together:
        world.ingest(*ordered)
    else:
        ingest_each(world, *ordered)

    assert world.rows(
        "select c.thread_key, c.customer_wa_id, k.phone, a.last_seq from public.conversations c"
        " join public.conversation_activity a on a.conversation_id = c.id"
        " join public.contacts k on k.id = c.customer_id"
    ) == [
        {
            "thread_key": f"phone:{PHONE}",
            "customer_wa_id": PHONE,
            "phone": f"+{PHONE}",
            "last_seq": 3,
        }
    ]


def test_thread_is_the_number_owners_no_more_once_somebody_else_has_it(world: World) -> None:
    world.ingest(text_message("wamid.1", PHONE, user_id=USER, sent_at=at(1)))
    world.owner.execute(
        "update public.contact_identities set contact_id = %s where kind = 'phone' and wa_id = %s",
        [seed_uuid("contact cilka"), PHONE],
    )
    world.ingest(text_message("wamid.2", None, user_id=USER, sent_at=at(2)))

    assert (
        world.value(
            "select c.thread_key from public.messages m"
            " join public.conversations c on c.id = m.conversation_id"
            " where m.provider_id = 'wamid.2'"
        )
        == f"bsuid:{USER}"
    )


# --- events about the account


@pytest.fixture
def waba(world: World) -> None:
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = '102290129340398' where account_id = %s",
        [ALPINE],
    )


@pytest.mark.usefixtures("waba")
def test_events_of_an_account_are_for_those_who_administer_it(world: World) -> None:
    answer = world.ingest(account_event(), account_event(), text_message("wamid.1"))
    again = world.ingest(account_event(), body="again")
    world.ingest(
        account_event(
            phone_number_id=BAY_NUMBER, waba_id=None, type="errors", at=None, content={"code": 1}
        )
    )

    assert (answer["applied"], answer["duplicates"], answer["rejected"]) == (2, 1, [])
    assert (again["applied"], again["duplicates"]) == (0, 1)
    query = "select type from public.account_events"
    for user in ("olivia", "adam"):
        assert ask(world, user, query) == [{"type": "message_template_status_update"}]
    for user in ("andrej", "vera", "ana", "cilka"):
        assert ask(world, user, query) == []
    assert world.rows("select type from public.account_events where account_id = %s", [BAY]) == [
        {"type": "errors"}
    ]


def test_event_of_an_unknown_account_is_kept_raw(world: World) -> None:
    answer = world.ingest(account_event(), text_message("wamid.1"))

    assert answer["rejected"] == [
        {"index": 0, "reason": "unknown_account", "waba_id": "102290129340398"}
    ]
    assert answer["applied"] == 1


def test_event_that_could_be_of_two_accounts_is_nobodys(world: World) -> None:
    world.owner.execute("update public.whatsapp_channels set waba_id = '102290129340398'")
    assert world.ingest(account_event())["applied"] == 0
