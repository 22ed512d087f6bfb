"""Which private topics a person may join, and that leaving means leaving."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.live import topics
from tests.world import ALPINE, World, seed_uuid, text_message

# those of a conversation
SIGNS = {"presence_staff", "presence_customer", "typing_staff", "typing_customer"}


@pytest.fixture
def talking(world: World) -> World:
    world.ingest(text_message("wamid.1", wa_id="38640111222"))
    return world


def may_join(world: World, user: str, topic: str) -> bool:
    """Asks as Realtime does: a probe row, read under the user's policies, then undone."""
    with world.connect("supabase_admin") as connection:
        connection.execute("begin")
        connection.execute(
            "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", [topic]
        )
        connection.execute("set local role authenticated")
        connection.execute(
            "select set_config('realtime.topic', %s, true),"
            " set_config('request.jwt.claims', jsonb_build_object('sub', %s::text)::text, true)",
            [topic, str(seed_uuid(user))],
        )
        found = connection.execute(
            "select from realtime.messages where topic = %s and extension = 'broadcast'"
            " and payload is null",
            [topic],
        ).fetchall()
        connection.execute("rollback")
    return bool(found)


def conversation_of(world: World) -> object:
    return world.value("select id from public.conversations")


def test_staff_join_their_account_and_its_conversations(talking: World) -> None:
    mine = topics(talking, "andrej", conversation_of(talking))

    assert set(mine) == {"account", "presence_desk", "conversation"} | SIGNS
    assert all(may_join(talking, "andrej", topic) for topic in mine.values())


def test_customer_joins_its_own_topics(talking: World) -> None:
    mine = topics(talking, "cilka", conversation_of(talking))

    assert set(mine) == {"customer", "presence_desk", "conversation"} | SIGNS
    assert all(may_join(talking, "cilka", topic) for topic in mine.values())


def test_others_are_told_no_topic_and_join_none(talking: World) -> None:
    conversation = conversation_of(talking)
    known = topics(talking, "andrej", conversation) | topics(talking, "cilka")

    assert set(topics(talking, "carlos", conversation)) == {"customer", "presence_desk"}
    assert set(topics(talking, "ana", conversation)) == {"account", "presence_desk"}
    assert topics(talking, "stranger", conversation) == {}
    for outsider in ("ana", "carlos", "stranger"):
        assert not any(may_join(talking, outsider, topic) for topic in known.values())


def test_staff_and_customers_do_not_share_topics(talking: World) -> None:
    staff, customer = topics(talking, "andrej"), topics(talking, "cilka")

    assert not may_join(talking, "cilka", staff["account"])
    assert not may_join(talking, "andrej", customer["customer"])


@pytest.mark.parametrize(
    "topic", ["", "account", "account:", "account:x:0", "account::0", "desk:1", "a" * 5000]
)
def test_malformed_topics_are_refused(talking: World, topic: str) -> None:
    assert not may_join(talking, "andrej", topic)


def test_member_who_leaves_is_left_behind(talking: World) -> None:
    conversation = conversation_of(talking)
    before = topics(talking, "vera", conversation)

    talking.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("vera")]
    )
    after = topics(talking, "andrej", conversation)

    assert topics(talking, "vera", conversation) == {}
    assert not set(before.values()) & set(after.values())
    for topic in (*before.values(), *after.values()):
        assert not may_join(talking, "vera", topic)
    # and what is sent from now on goes where nobody of before listens
    talking.forget_events()
    talking.ingest(text_message("wamid.2", wa_id="38640111222"))
    sent = {event["topic"] for event in talking.events()}
    assert sent == {
        after["account"],
        after["conversation"],
        topics(talking, "cilka")["customer"],
    }
    assert not sent & set(before.values())


def test_those_who_stay_are_told_to_ask_again(talking: World) -> None:
    """On the names on which they listen, and with nothing that the one who left may not hear."""
    account = topics(talking, "andrej")["account"]
    customer = topics(talking, "cilka")["customer"]
    talking.forget_events()

    talking.owner.execute(
        "delete from public.account_members where user_id = %s", [seed_uuid("vera")]
    )

    assert [(event["topic"], event["event"], event["payload"]) for event in talking.events()] == [
        (account, "topics.changed", {}),
        (customer, "topics.changed", {}),
    ]
    assert topics(talking, "andrej")["account"] != account


def test_login_that_is_unlinked_is_left_behind(talking: World) -> None:
    conversation = conversation_of(talking)
    before = topics(talking, "cilka", conversation)

    talking.owner.execute("update public.contacts set portal_user_id = null where name = 'cilka'")

    assert topics(talking, "cilka", conversation) == {}
    assert not any(may_join(talking, "cilka", topic) for topic in before.values())
    # the account's other topics keep their names
    assert may_join(talking, "andrej", topics(talking, "andrej")["account"])
    assert topics(talking, "andrej", conversation)["conversation"] not in before.values()


def test_login_that_is_deleted_is_left_behind(talking: World) -> None:
    before = topics(talking, "cilka", conversation_of(talking))

    talking.owner.execute("delete from auth.users where id = %s", [seed_uuid("cilka")])

    assert not any(may_join(talking, "cilka", topic) for topic in before.values())
    assert talking.value("select portal_user_id from public.customers where name = 'cilka'") is None


def test_customer_who_loses_a_conversation_is_left_behind(talking: World) -> None:
    conversation = conversation_of(talking)
    before = topics(talking, "cilka", conversation)
    talking.owner.execute(
        "insert into public.contacts (id, account_id, name) values (%s, %s, 'new')",
        [seed_uuid("contact new"), ALPINE],
    )
    talking.owner.execute(
        "update public.conversations set customer_id = %s", [seed_uuid("contact new")]
    )

    assert not may_join(talking, "cilka", before["conversation"])
    assert may_join(talking, "cilka", before["customer"])
    talking.forget_events()
    talking.owner.execute("update public.conversations set status = 'pending'")
    assert before["conversation"] not in {event["topic"] for event in talking.events()}


def test_deleting_an_account_with_its_members_works(talking: World) -> None:
    talking.owner.execute("delete from public.accounts where id = %s", [ALPINE])

    assert topics(talking, "andrej") == {}
    assert talking.value("select count(*) from private.topic_epochs") == 0


def test_nobody_sends_on_data_topics(talking: World) -> None:
    topic = topics(talking, "olivia")["account"]
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
        talking.acting_as("olivia") as connection,
    ):
        connection.execute(
            "insert into realtime.messages (topic, extension, event, payload, private)"
            " values (%s, 'broadcast', 'messages.inserted', '{}', true)",
            [topic],
        )
