"""Who writes by WhatsApp: usernames, numbers and user ids that change, and what is ambiguous."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.world import ALPINE, ALPINE_NUMBER, BAY, BAY_NUMBER, Item, World, seed_uuid, text_message

OLD = "38640999888"
NEW = "38651222333"
OLD_ID = "SI.1349"
NEW_ID = "SI.2458"
SECOND_NUMBER = "1003427786179740"

# the rows that a batch leaves behind, apart from their ids
STATE = """
    select jsonb_build_object(
        'contacts', (
            select jsonb_agg(
                jsonb_build_array(c.account_id, c.phone, c.username, c.profile_name, (
                    select jsonb_agg(i.kind || ':' || i.value order by i.kind, i.value)
                    from public.contact_identities i
                    where i.contact_id = c.id
                ), (
                    select jsonb_agg(
                        jsonb_build_array(t.thread_key, t.customer_wa_id, t.status, (
                            select jsonb_agg(m.provider_id order by m.sent_at, m.provider_id)
                            from public.messages m
                            where m.conversation_id = t.id
                        ))
                        order by t.thread_key
                    )
                    from public.conversations t
                    where t.customer_id = c.id
                ))
                order by c.account_id, c.phone, c.username
            )
            from public.contacts c
        ),
        'suggestions', (select count(*) from public.contact_suggestions)
    )
"""


def notice(provider_id: str, **changes: Any) -> Item:
    """A message of WhatsApp's own, by itself of no effect."""
    return {
        "kind": "system",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": provider_id,
        "wa_id": OLD,
        "user_id": None,
        "new_wa_id": None,
        "new_user_id": None,
        "sent_at": "2026-11-21T12:00:00Z",
        "type": "system",
        "text": f"notice {provider_id}",
        "content": {"type": "system"},
    } | changes


def new_number(provider_id: str = "wamid.change", **changes: Any) -> Item:
    """The notice that `OLD` has become `NEW`, at noon."""
    return notice(provider_id, **({"new_wa_id": NEW} | changes))


def at(time: str) -> str:
    return f"2026-11-21T{time}:00Z"


def owner(world: World, kind: str, value: str, account: UUID = ALPINE) -> UUID | None:
    rows = world.rows(
        "select contact_id from public.contact_identities"
        " where account_id = %s and kind = %s and match_key = private.match_key(%s, %s)",
        [account, kind, kind, value],
    )
    return rows[0]["contact_id"] if rows else None


def suggestions(world: World) -> list[tuple[str, set[UUID]]]:
    return [
        (row["reason"], {row["contact_id"], row["other_contact_id"]})
        for row in world.rows("select * from public.contact_suggestions order by reason")
    ]


def threads(world: World) -> list[dict[str, Any]]:
    return world.rows(
        """
        select t.thread_key, t.customer_wa_id, t.status, t.customer_id, (
            select array_agg(m.provider_id order by m.seq)
            from public.messages m
            where m.conversation_id = t.id
        ) as messages
        from public.conversations t
        order by t.created_at, t.thread_key
        """
    )


def write_contact(world: World, account: UUID = ALPINE, **fields: str) -> UUID:
    """A contact without identities, as a customer's own writing leaves it."""
    columns = ", ".join(fields)
    contact: UUID = world.value(
        f"insert into public.contacts (account_id, {columns})"
        f" values (%s, {', '.join(['%s'] * len(fields))}) returning id",
        [account, *fields.values()],
    )
    return contact


def together(*works: Any) -> list[Any]:
    """Does all at once; what one raises is raised."""
    start = threading.Barrier(len(works))

    def run(work: Any) -> Any:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


# --- usernames


def test_person_without_a_number_is_seen_by_name_and_username(world: World) -> None:
    world.ingest(text_message("wamid.1", None, user_id=OLD_ID, username="tina.k"))

    for face in ("contacts_v2", "contacts_live_chat"):
        with world.acting_as("andrej") as connection:
            assert connection.execute(
                f"select name, username, phone from public.{face} where username is not null"
            ).fetchall() == [("Nejc", "tina.k", None)]
        with world.acting_as("ana") as connection:
            assert not connection.execute(
                f"select from public.{face} where username is not null"
            ).fetchall()
    assert owner(world, "username", "Tina.K") == owner(world, "bsuid", OLD_ID)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_latest_message_gives_the_username_in_any_order(
    world: World, order: tuple[int, ...]
) -> None:
    messages = [
        text_message("wamid.0", username="tina", sent_at=at("10:00")),
        text_message("wamid.1", username="tinka", sent_at=at("10:01")),
        text_message("wamid.2", username="tina", sent_at=at("10:02")),
    ]
    for number in order:
        world.ingest(messages[number])

    assert world.value("select username from public.contacts where name is null") == "tina"
    assert owner(world, "username", "tina") == owner(world, "phone", OLD)
    assert owner(world, "username", "tinka") is None


def test_username_that_is_not_said_stays(world: World) -> None:
    world.ingest(text_message("wamid.1", username="tina"))
    world.ingest(text_message("wamid.2", sent_at=at("11:00")))

    assert world.rows("select username, version from public.contacts where name is null") == [
        {"username": "tina", "version": 1}
    ]


@pytest.mark.parametrize("apart", [True, False])
def test_username_goes_to_whom_the_newest_message_says(world: World, apart: bool) -> None:
    items = [
        text_message("wamid.1", OLD, username="tina", sent_at=at("10:00")),
        text_message("wamid.2", NEW, username="Tina", sent_at=at("10:01")),
    ]
    if apart:
        for item in items:
            world.ingest(item)
    else:
        world.ingest(*reversed(items))

    assert owner(world, "username", "tina") == owner(world, "phone", NEW)
    assert world.rows(
        "select phone, username from public.contacts where name is null order by phone"
    ) == [{"phone": f"+{OLD}", "username": None}, {"phone": f"+{NEW}", "username": "Tina"}]


def test_late_message_takes_no_username_back(world: World) -> None:
    world.ingest(text_message("wamid.2", NEW, username="tina", sent_at=at("10:01")))
    world.ingest(text_message("wamid.1", OLD, username="tina", sent_at=at("10:00")))

    assert owner(world, "username", "tina") == owner(world, "phone", NEW)
    assert world.value("select username from public.contacts where phone = %s", [f"+{OLD}"]) is None


def test_swapped_usernames_end_where_they_are(world: World) -> None:
    world.ingest(
        text_message("wamid.1", OLD, username="a", sent_at=at("10:00")),
        text_message("wamid.2", NEW, username="b", sent_at=at("10:00")),
    )
    world.ingest(
        text_message("wamid.3", OLD, username="b", sent_at=at("11:00")),
        text_message("wamid.4", NEW, username="a", sent_at=at("11:00")),
    )

    assert owner(world, "username", "a") == owner(world, "phone", NEW)
    assert owner(world, "username", "b") == owner(world, "phone", OLD)
    assert world.value(
        "select array_agg(username order by phone) from public.contacts where name is null"
    ) == ["b", "a"]


def test_username_of_another_business_is_its_own(world: World) -> None:
    world.ingest(
        text_message("wamid.1", username="tina"),
        text_message("wamid.2", username="tina", phone_number_id=BAY_NUMBER),
    )

    alpine, bay = owner(world, "username", "tina"), owner(world, "username", "tina", BAY)
    assert None not in (alpine, bay)
    assert alpine != bay


def test_many_claim_one_username_at_once(world: World) -> None:
    senders = [f"3864000000{n}" for n in range(6)]
    for n, sender in enumerate(senders[:3]):
        world.ingest(text_message(f"wamid.first.{n}", sender))

    together(
        *(
            lambda n=n, sender=sender: world.ingest(
                text_message(f"wamid.{n}", sender, username="tina", sent_at=at(f"11:0{n}"))
            )
            for n, sender in enumerate(senders)
        )
    )
    # the next message settles a late one
    world.ingest(text_message("wamid.last", senders[5], username="tina", sent_at=at("12:00")))

    assert owner(world, "username", "tina") == owner(world, "phone", senders[5])
    assert world.value("select array_agg(phone) from public.contacts where username = 'tina'") == [
        f"+{senders[5]}"
    ]


# --- numbers and user ids that change


def test_conversation_goes_on_under_the_new_number(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    contact = owner(world, "phone", OLD)
    world.ingest(new_number(text="Nejc changed from 38640999888 to 38651222333"))
    world.ingest(text_message("wamid.2", NEW, sent_at=at("12:30")))

    assert owner(world, "phone", OLD) is None
    assert owner(world, "phone", NEW) == contact
    assert world.value("select phone from public.contacts where id = %s", [contact]) == f"+{NEW}"
    assert threads(world) == [
        {
            "thread_key": f"phone:{NEW}",
            "customer_wa_id": NEW,
            "status": "open",
            "customer_id": contact,
            "messages": ["wamid.1", "wamid.change", "wamid.2"],
        }
    ]
    assert world.rows(
        "select sender_type, sender_id, type, message, status from public.messages"
        " where provider_id = 'wamid.change'"
    ) == [
        {
            "sender_type": "system",
            "sender_id": None,
            "type": "system",
            "message": "Nejc changed from 38640999888 to 38651222333",
            "status": "delivered",
        }
    ]
    assert suggestions(world) == []


def test_notice_does_not_open_the_window_for_replies(world: World) -> None:
    world.ingest(text_message("wamid.1", sent_at=at("10:00")))
    world.ingest(new_number())

    assert world.rows(
        "select to_char(last_message_at at time zone 'UTC', 'HH24') as message,"
        " to_char(last_inbound_at at time zone 'UTC', 'HH24') as inbound"
        " from public.conversation_activity"
    ) == [{"message": "12", "inbound": "10"}]


BEFORE = text_message("wamid.before", OLD, user_id=OLD_ID, sent_at=at("11:00"))
CHANGE = new_number(user_id=OLD_ID, new_user_id=NEW_ID)
AFTER = text_message("wamid.after", NEW, user_id=NEW_ID, sent_at=at("13:00"))


@pytest.mark.parametrize(
    "batches",
    [
        [[BEFORE], [CHANGE], [AFTER]],
        [[BEFORE, CHANGE, AFTER]],
        [[AFTER, CHANGE, BEFORE]],
        [[BEFORE], [AFTER, CHANGE]],
        [[BEFORE, CHANGE], [AFTER]],
        [[CHANGE], [BEFORE], [AFTER]],
        [[CHANGE], [AFTER], [BEFORE]],
        [[CHANGE, BEFORE], [AFTER]],
        [[CHANGE, AFTER], [BEFORE]],
    ],
)
@pytest.mark.parametrize("repeats", [1, 2])
def test_every_split_and_order_ends_as_one_conversation(
    world: World, batches: list[list[Item]], repeats: int
) -> None:
    for batch in batches * repeats:
        world.ingest(*batch)

    assert world.value("select count(*) from public.contacts where name is null") == 1
    contact = owner(world, "phone", NEW)
    assert contact == owner(world, "bsuid", NEW_ID)
    assert owner(world, "phone", OLD) is None
    assert owner(world, "bsuid", OLD_ID) is None
    (thread,) = threads(world)
    assert sorted(thread.pop("messages")) == ["wamid.after", "wamid.before", "wamid.change"]
    assert thread == {
        "thread_key": f"phone:{NEW}",
        "customer_wa_id": NEW,
        "status": "open",
        "customer_id": contact,
    }
    assert suggestions(world) == []


def test_repeated_change_changes_nothing(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    first = world.ingest(new_number())
    before = world.value(STATE)
    changes = world.value("select count(*) from private.changes")

    assert (first["applied"], first["duplicates"]) == (1, 0)
    again = world.ingest(new_number(), body="another body")
    assert (again["applied"], again["duplicates"]) == (0, 1)
    assert world.value(STATE) == before
    assert world.value("select count(*) from private.changes") == changes


def test_whoever_gets_the_old_number_later_is_somebody_else(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.ingest(new_number())
    world.ingest(text_message("wamid.2", OLD, profile_name="Rok", sent_at=at("18:00")))

    assert owner(world, "phone", OLD) != owner(world, "phone", NEW)
    assert [thread["messages"] for thread in threads(world)] == [
        ["wamid.1", "wamid.change"],
        ["wamid.2"],
    ]


@pytest.mark.parametrize("batch", [[0, 1], [1, 0]])
def test_numbers_that_change_twice_in_a_batch_are_followed(world: World, batch: list[int]) -> None:
    world.ingest(text_message("wamid.1"))
    contact = owner(world, "phone", OLD)
    changes = [
        new_number("wamid.a", sent_at=at("12:00")),
        notice("wamid.b", wa_id=NEW, new_wa_id="38670111222", sent_at=at("12:30")),
    ]
    world.ingest(*(changes[n] for n in batch))

    assert owner(world, "phone", "38670111222") == contact
    assert owner(world, "phone", NEW) is None
    assert world.value("select phone from public.contacts where id = %s", [contact]) == (
        "+38670111222"
    )
    assert [t["thread_key"] for t in threads(world)] == ["phone:38670111222"]


def test_number_that_comes_back_is_theirs_again(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    contact = owner(world, "phone", OLD)
    world.ingest(new_number())
    world.ingest(notice("wamid.back", wa_id=NEW, new_wa_id=OLD, sent_at=at("14:00")))
    world.ingest(text_message("wamid.2", sent_at=at("15:00")))

    assert (owner(world, "phone", OLD), owner(world, "phone", NEW)) == (contact, None)
    assert threads(world)[0]["messages"] == ["wamid.1", "wamid.change", "wamid.back", "wamid.2"]


def test_both_numbers_of_a_business_hear_of_it(world: World) -> None:
    world.owner.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name) values (%s, %s, 'any', 'any')",
        [ALPINE, SECOND_NUMBER],
    )
    world.ingest(text_message("wamid.1"), text_message("wamid.2", phone_number_id=SECOND_NUMBER))
    contact = owner(world, "phone", OLD)
    world.ingest(new_number("wamid.a"))
    world.ingest(new_number("wamid.b", phone_number_id=SECOND_NUMBER))

    assert world.value("select count(*) from public.contacts where name is null") == 1
    assert sorted(
        (t["thread_key"], t["customer_id"], tuple(t["messages"])) for t in threads(world)
    ) == [
        (f"phone:{NEW}", contact, ("wamid.1", "wamid.a")),
        (f"phone:{NEW}", contact, ("wamid.2", "wamid.b")),
    ]


def test_another_business_keeps_the_number_it_knows(world: World) -> None:
    world.ingest(text_message("wamid.1"), text_message("wamid.2", phone_number_id=BAY_NUMBER))
    bay = owner(world, "phone", OLD, BAY)
    world.ingest(new_number())

    assert (owner(world, "phone", OLD), owner(world, "phone", NEW, BAY)) == (None, None)
    assert owner(world, "phone", OLD, BAY) == bay
    assert world.rows(
        "select c.phone, t.thread_key from public.contacts c"
        " join public.conversations t on t.customer_id = c.id where c.account_id = %s",
        [BAY],
    ) == [{"phone": f"+{OLD}", "thread_key": f"phone:{OLD}"}]


def test_new_number_of_another_contact_is_left_to_people(world: World) -> None:
    world.ingest(text_message("wamid.1", OLD), text_message("wamid.2", NEW))
    before = owner(world, "phone", OLD), owner(world, "phone", NEW)
    world.ingest(new_number())
    world.ingest(new_number("wamid.again", sent_at=at("12:01")))

    assert (owner(world, "phone", OLD), owner(world, "phone", NEW)) == before
    assert suggestions(world) == [("number_changed", set(before))]
    assert sorted((t["thread_key"], tuple(t["messages"])) for t in threads(world)) == [
        (f"phone:{OLD}", ("wamid.1", "wamid.change", "wamid.again")),
        (f"phone:{NEW}", ("wamid.2",)),
    ]
    with world.acting_as("ana") as connection:
        assert not connection.execute("select from public.contact_suggestions").fetchall()


def test_message_from_the_new_number_before_the_notice_is_left_to_people(world: World) -> None:
    world.ingest(text_message("wamid.1", OLD, sent_at=at("11:00")))
    world.ingest(text_message("wamid.2", NEW, sent_at=at("13:00")))
    world.ingest(new_number())

    assert owner(world, "phone", OLD) != owner(world, "phone", NEW)
    assert [reason for reason, _ in suggestions(world)] == ["number_changed"]


def test_nothing_is_relinked_when_half_of_it_is_another_contacts(world: World) -> None:
    world.ingest(text_message("wamid.1", OLD, user_id=OLD_ID))
    world.ingest(text_message("wamid.2", None, user_id=NEW_ID))
    contact, other = owner(world, "phone", OLD), owner(world, "bsuid", NEW_ID)
    world.ingest(new_number(user_id=OLD_ID, new_user_id=NEW_ID))

    assert owner(world, "phone", NEW) is None
    assert (owner(world, "phone", OLD), owner(world, "bsuid", OLD_ID)) == (contact, contact)
    assert owner(world, "bsuid", NEW_ID) == other
    assert suggestions(world) == [("number_changed", {contact, other})]


def test_open_thread_of_the_new_number_is_never_fused_with_the_old_one(world: World) -> None:
    world.ingest(text_message("wamid.1", OLD))
    contact = owner(world, "phone", OLD)
    # merged: one contact with both numbers
    world.owner.execute(
        "insert into public.contact_identities (account_id, kind, value, wa_id, contact_id)"
        " values (%s, 'phone', %s, %s, %s)",
        [ALPINE, f"+{NEW}", NEW, contact],
    )
    world.ingest(text_message("wamid.2", NEW))
    world.ingest(new_number())
    world.ingest(text_message("wamid.3", NEW, sent_at=at("13:00")))
    # somebody else has the old number by now
    world.ingest(text_message("wamid.4", OLD, sent_at=at("18:00")))

    assert [
        (t["messages"], t["status"], t["customer_wa_id"], t["customer_id"] == contact)
        for t in threads(world)
    ] == [
        (["wamid.1"], "open", NEW, True),
        (["wamid.2", "wamid.change", "wamid.3"], "open", NEW, True),
        (["wamid.4"], "open", OLD, False),
    ]


def test_notice_about_an_unknown_number_is_of_who_has_the_new_one(world: World) -> None:
    world.ingest(new_number())

    assert owner(world, "phone", OLD) is None
    assert world.rows("select phone, profile_name from public.contacts where name is null") == [
        {"phone": f"+{NEW}", "profile_name": None}
    ]
    assert threads(world)[0]["messages"] == ["wamid.change"]


def test_notice_about_a_number_of_nobody_moves_nobodys_thread(world: World) -> None:
    world.ingest(text_message("wamid.1", OLD), text_message("wamid.2", NEW))
    # given up by hand: an open thread stays with its customer
    world.owner.execute("delete from public.contact_identities where wa_id = %s", [OLD])
    world.ingest(new_number())

    assert sorted((t["thread_key"], tuple(t["messages"])) for t in threads(world)) == [
        (f"phone:{OLD}", ("wamid.1",)),
        (f"phone:{NEW}", ("wamid.2", "wamid.change")),
    ]
    assert suggestions(world) == []


def test_late_news_of_a_number_that_was_left_as_well_is_followed(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    contact = owner(world, "phone", OLD)
    world.ingest(new_number())
    world.ingest(notice("wamid.b", wa_id=NEW, new_wa_id="38670111222", sent_at=at("12:30")))
    # sent between the two changes
    world.ingest(text_message("wamid.2", NEW, sent_at=at("12:10")))
    world.ingest(text_message("wamid.3", OLD, sent_at=at("11:50")))

    assert owner(world, "phone", "38670111222") == contact
    assert [t["messages"] for t in threads(world)] == [
        ["wamid.1", "wamid.change", "wamid.b", "wamid.2", "wamid.3"]
    ]


def test_notice_does_not_open_a_closed_conversation(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    world.owner.execute("update public.conversations set status = 'closed'")
    world.ingest(new_number())
    assert [(t["status"], t["messages"]) for t in threads(world)] == [
        ("closed", ["wamid.1", "wamid.change"])
    ]

    world.ingest(text_message("wamid.2", NEW, sent_at=at("13:00")))
    assert [(t["status"], t["customer_wa_id"], t["messages"]) for t in threads(world)] == [
        ("closed", NEW, ["wamid.1", "wamid.change"]),
        ("open", NEW, ["wamid.2"]),
    ]


def test_user_id_changes_without_a_number(world: World) -> None:
    world.ingest(text_message("wamid.1", None, user_id=OLD_ID, username="tina"))
    contact = owner(world, "bsuid", OLD_ID)
    world.ingest(notice("wamid.change", wa_id=None, user_id=OLD_ID, new_user_id=NEW_ID))
    world.ingest(text_message("wamid.2", None, user_id=NEW_ID, sent_at=at("13:00")))

    assert (owner(world, "bsuid", OLD_ID), owner(world, "bsuid", NEW_ID)) == (None, contact)
    assert owner(world, "username", "tina") == contact
    assert [(t["thread_key"], t["messages"]) for t in threads(world)] == [
        (f"bsuid:{NEW_ID}", ["wamid.1", "wamid.change", "wamid.2"])
    ]


def test_user_id_of_another_contact_is_left_to_people(world: World) -> None:
    world.ingest(
        text_message("wamid.1", None, user_id=OLD_ID),
        text_message("wamid.2", None, user_id=NEW_ID),
    )
    pair = owner(world, "bsuid", OLD_ID), owner(world, "bsuid", NEW_ID)
    world.ingest(notice("wamid.change", wa_id=None, user_id=OLD_ID, new_user_id=NEW_ID))

    assert (owner(world, "bsuid", OLD_ID), owner(world, "bsuid", NEW_ID)) == pair
    assert suggestions(world) == [("user_id_changed", set(pair))]


def test_user_id_that_is_not_said_to_change_stays(world: World) -> None:
    world.ingest(text_message("wamid.1", user_id=OLD_ID))
    world.ingest(new_number())

    assert owner(world, "bsuid", OLD_ID) == owner(world, "phone", NEW)


def test_any_other_notice_is_kept_and_changes_nothing(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    identities = world.rows("select * from public.contact_identities")
    world.ingest(notice("wamid.identity"))

    assert world.rows("select * from public.contact_identities") == identities
    assert threads(world)[0]["messages"] == ["wamid.1", "wamid.identity"]


@pytest.mark.parametrize(
    ("known", "said", "becomes"),
    [
        # Brazil's ninth digit, Mexico's 1, Argentina's 9: with and without
        ("5511987654321", "551187654321", "5521912345678"),
        ("551187654321", "5511987654321", "552112345678"),
        ("5215512345678", "525512345678", "5213312345678"),
        ("5491123456789", "541123456789", "5493511234567"),
    ],
)
def test_spelling_of_a_changed_number_makes_no_difference(
    world: World, known: str, said: str, becomes: str
) -> None:
    world.ingest(text_message("wamid.1", known))
    contact = owner(world, "phone", known)
    world.ingest(notice("wamid.change", wa_id=said, new_wa_id=becomes))
    world.ingest(text_message("wamid.2", becomes, sent_at=at("13:00")))

    assert owner(world, "phone", known) is None
    assert owner(world, "phone", becomes) == contact
    assert world.rows(
        "select phone, wa_id from public.contacts c"
        " join public.contact_identities i on i.contact_id = c.id where c.id = %s",
        [contact],
    ) == [{"phone": f"+{becomes}", "wa_id": becomes}]
    assert [(t["customer_wa_id"], t["messages"]) for t in threads(world)] == [
        (becomes, ["wamid.1", "wamid.change", "wamid.2"])
    ]


def test_number_that_is_only_spelt_anew_stays_its_contacts(world: World) -> None:
    world.ingest(text_message("wamid.1", "551187654321"))
    contact = owner(world, "phone", "551187654321")
    world.ingest(notice("wamid.change", wa_id="551187654321", new_wa_id="5511987654321"))

    assert owner(world, "phone", "551187654321") == contact
    assert world.value("select phone from public.contacts where id = %s", [contact]) == (
        "+5511987654321"
    )
    assert threads(world)[0]["customer_wa_id"] == "5511987654321"


def test_phone_that_staff_wrote_instead_is_left(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    contact = owner(world, "phone", OLD)
    with world.acting_as("andrej") as connection:
        connection.execute(
            "update public.contacts_v2 set phone = '+38611222333' where id = %s", [contact]
        )
    world.ingest(new_number())

    assert owner(world, "phone", NEW) == contact
    assert world.value("select phone from public.contacts where id = %s", [contact]) == (
        "+38611222333"
    )


def test_change_and_message_from_the_new_number_at_once_lose_nothing(world: World) -> None:
    for n in range(12):
        old, new = f"386400001{n:02}", f"386510001{n:02}"
        world.ingest(text_message(f"wamid.{n}.before", old, sent_at=at("11:00")))
        together(
            lambda n=n, old=old, new=new: world.ingest(
                notice(f"wamid.{n}.change", wa_id=old, new_wa_id=new)
            ),
            lambda n=n, new=new: world.ingest(
                text_message(f"wamid.{n}.after", new, sent_at=at("13:00"))
            ),
            lambda n=n, old=old: world.ingest(
                text_message(f"wamid.{n}.late", old, profile_name="N", sent_at=at("11:30"))
            ),
        )

        # in either order: one contact, or two and a suggestion; never one number of two
        first, second = owner(world, "phone", old), owner(world, "phone", new)
        assert second is not None
        if first is None:
            assert (
                world.value(
                    "select count(distinct customer_id) from public.messages"
                    " where provider_id like %s",
                    [f"wamid.{n}.%"],
                )
                == 1
            )
        else:
            assert ("number_changed", {first, second}) in suggestions(world)
        assert (
            world.value(
                "select count(*) from public.messages where provider_id like %s", [f"wamid.{n}.%"]
            )
            == 4
        )
        # nobody who gets the old number later is let into an old thread
        assert first is not None or not world.rows(
            "select from public.conversations where thread_key = %s", [f"phone:{old}"]
        )


def test_batches_with_changes_and_messages_at_once_never_deadlock(world: World) -> None:
    world.owner.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name) values (%s, %s, 'any', 'any')",
        [ALPINE, SECOND_NUMBER],
    )
    people = [f"386400003{n:02}" for n in range(24)]

    def send(session: int) -> None:
        chance = random.Random(session)
        for turn in range(10):
            batch = [f"wamid.{session}.{turn}.{place}" for place in range(10)]
            number = chance.choice([ALPINE_NUMBER, SECOND_NUMBER])
            wrote, changed, became = (chance.choices(people, k=len(batch)) for _ in range(3))
            world.ingest(
                *(
                    notice(
                        id_, wa_id=changed[place], new_wa_id=became[place], phone_number_id=number
                    )
                    if place % 3 == 0
                    else text_message(
                        id_, wrote[place], profile_name=f"{turn}", phone_number_id=number
                    )
                    for place, id_ in enumerate(batch)
                )
            )

    together(*(lambda session=session: send(session) for session in range(6)))

    assert world.value("select count(*) from public.messages") == 600


def test_changes_and_staff_edits_at_once_never_deadlock(world: World) -> None:
    people = [(f"386400002{n:02}", f"386510002{n:02}") for n in range(6)]
    world.ingest(*(text_message(f"wamid.{old}", old) for old, _ in people))
    contacts = [owner(world, "phone", old) for old, _ in people]

    def edit(turn: int) -> None:
        for n, contact in enumerate(contacts):
            phone = people[n][turn % 2]
            try:
                with world.acting_as("andrej") as connection:
                    connection.execute(
                        "update public.contacts_live_chat set phone = %s, username = %s,"
                        " conversation_status = %s where id = %s",
                        [f"+{phone}", f"user{(n + turn) % 6}", "Pending", contact],
                    )
            except psycopg.Error as error:
                # taken by another contact; anything else is a fault
                if error.sqlstate != "PT409":
                    raise

    def change(turn: int) -> None:
        pairs = people if turn % 2 else people[::-1]
        world.ingest(
            *(
                item
                for old, new in pairs
                for item in (
                    notice(f"wamid.{turn}.{old}", wa_id=old, new_wa_id=new),
                    text_message(
                        f"wamid.{turn}.{new}", new, username=f"user{turn}", sent_at=at("13:00")
                    ),
                )
            )
        )

    together(
        *(lambda turn=turn: edit(turn) for turn in range(3)),
        *(lambda turn=turn: change(turn) for turn in range(3)),
    )

    assert world.value("select count(*) from public.messages where sender_type = 'system'") == 18
    assert all(owner(world, "phone", new) for _, new in people)
    # each column of a contact is an identity of its own
    assert not world.rows(
        "select c.username from public.contacts c where c.username is not null and not exists ("
        " select from public.contact_identities i where i.contact_id = c.id"
        " and i.kind = 'username' and i.match_key = lower(c.username))"
    )


# --- what is ambiguous


@pytest.mark.parametrize("number_first", [True, False])
def test_sender_known_as_two_is_left_to_people(world: World, number_first: bool) -> None:
    by_number = text_message("wamid.1", OLD)
    by_user_id = text_message("wamid.2", None, user_id=OLD_ID)
    for item in (by_number, by_user_id) if number_first else (by_user_id, by_number):
        world.ingest(item)
    pair = owner(world, "phone", OLD), owner(world, "bsuid", OLD_ID)
    world.ingest(text_message("wamid.3", OLD, user_id=OLD_ID, sent_at=at("11:00")))
    world.ingest(text_message("wamid.4", OLD, user_id=OLD_ID, sent_at=at("11:01")))

    assert pair[0] != pair[1]
    assert (owner(world, "phone", OLD), owner(world, "bsuid", OLD_ID)) == pair
    assert suggestions(world) == [("same_sender", set(pair))]
    assert world.value(
        "select array_agg(provider_id order by seq) from public.messages where customer_id = %s",
        [pair[0]],
    ) == ["wamid.1", "wamid.3", "wamid.4"]


def test_dismissed_suggestion_stays_dismissed(world: World) -> None:
    world.ingest(text_message("wamid.1", OLD))
    world.ingest(text_message("wamid.2", None, user_id=OLD_ID))
    world.ingest(text_message("wamid.3", OLD, user_id=OLD_ID))
    world.owner.execute("update public.contact_suggestions set status = 'dismissed'")
    world.ingest(text_message("wamid.4", OLD, user_id=OLD_ID))

    assert world.value("select array_agg(status) from public.contact_suggestions") == ["dismissed"]


@pytest.mark.parametrize("written", [f"+{OLD}", "+5511987654321"])
def test_number_that_a_customer_wrote_proves_nothing(world: World, written: str) -> None:
    claimed = write_contact(world, name="Tone", phone=written)
    write_contact(world, BAY, name="Tone", phone=written)
    sender = {"+5511987654321": "551187654321"}.get(written, OLD)
    world.ingest(text_message("wamid.1", sender))
    world.ingest(text_message("wamid.2", sender))

    contact = owner(world, "phone", sender)
    assert contact != claimed
    assert suggestions(world) == [("same_phone", {contact, claimed})]
    assert world.value(
        "select array_agg(evidence ->> 'phone') from public.contact_suggestions"
    ) == [written]


def test_known_sender_suggests_nothing(world: World) -> None:
    world.ingest(text_message("wamid.1", user_id=OLD_ID))
    write_contact(world, name="Tone", phone=f"+{OLD}")
    world.ingest(text_message("wamid.2", user_id=OLD_ID, profile_name="Nejko"))

    assert suggestions(world) == []


# --- contacts that are gone


def test_whoever_writes_from_a_deleted_contacts_number_is_new(world: World) -> None:
    world.ingest(text_message("wamid.1", user_id=OLD_ID, username="tina"))
    deleted = owner(world, "phone", OLD)
    with world.acting_as("andrej") as connection:
        connection.execute("delete from public.contacts_v2 where id = %s", [deleted])
    world.ingest(text_message("wamid.2", user_id=OLD_ID, username="tina", sent_at=at("11:00")))

    contact = owner(world, "phone", OLD)
    assert contact not in (None, deleted)
    assert contact == owner(world, "bsuid", OLD_ID) == owner(world, "username", "tina")
    assert [(t["status"], t["customer_id"], t["messages"]) for t in threads(world)] == [
        ("closed", deleted, ["wamid.1"]),
        ("open", contact, ["wamid.2"]),
    ]
    assert suggestions(world) == []


def test_message_and_deletion_at_once_leave_no_open_thread_of_nobody(world: World) -> None:
    for n in range(10):
        number = f"386400003{n:02}"
        world.ingest(text_message(f"wamid.{n}.1", number))
        contact = owner(world, "phone", number)
        world.owner.execute("update public.conversations set status = 'closed'")

        def delete(contact: UUID | None = contact) -> None:
            with world.acting_as("andrej") as connection:
                connection.execute("delete from public.contacts_v2 where id = %s", [contact])

        together(
            delete,
            lambda n=n, number=number: world.ingest(
                text_message(f"wamid.{n}.2", number, sent_at=at("11:00"))
            ),
        )

    assert not world.rows(
        "select from public.conversations t join public.contacts c on c.id = t.customer_id"
        " where c.deleted_at is not null and t.status <> 'closed'"
    )
    assert not world.rows(
        "select from public.contact_identities i join public.contacts c on c.id = i.contact_id"
        " where c.deleted_at is not null"
    )
    assert world.value("select count(*) from public.messages") == 20


def test_nobody_reads_changes_of_ids(world: World) -> None:
    world.ingest(new_number())

    for user in ("olivia", "ana", "cilka"):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            world.acting_as(user) as connection,
        ):
            connection.execute("select from private.whatsapp_id_changes")


def test_seeded_contact_is_relinked_as_well(world: World) -> None:
    """Cilka's number was written by staff: nobody has written from it yet."""
    world.ingest(notice("wamid.change", wa_id="38640111222", new_wa_id=NEW))

    assert owner(world, "phone", NEW) == seed_uuid("contact cilka")
    with world.acting_as("cilka") as connection:
        assert connection.execute("select phone from public.customers").fetchall() == [(f"+{NEW}",)]
        assert connection.execute("select sender_type from public.messages").fetchall() == [
            ("system",)
        ]
