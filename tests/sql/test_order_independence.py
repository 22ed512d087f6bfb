"""Updates in any order, any batches and any repetition make the same rows.

Not generated are the cases in which the order decides by right:

- A person who writes with the number alone and with the user id alone before a message with
  both: these are two contacts until somebody says that they are one. Since April 2026 every
  webhook of a person who has a user id carries it.
- Notices of changed numbers and user ids: a message of the old number's next owner and a late
  one of its former owner differ by nothing but the notice.
- A username that some messages of a person say and others do not: what is not said stays.
- Two spellings of one number: the contact shows the one that came first.
- Conversations that staff close or contacts that staff merge meanwhile.

Not compared is profile_named_at: it is written with the name, so it is the time of one of the
messages that bore the name, not always of the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.local.stack.postgres import Cluster, Database
from tests.world import ALPINE_NUMBER, BAY_NUMBER, CUSTOMERS, Item, World

# wa_id, user_id, and whether they have a username: some write with the number, some with both
# or with the user id alone
PEOPLE = (
    ("38640999001", None, False),
    (CUSTOMERS["cilka"][1][1:], None, False),
    ("38640999002", "SI.1001", True),
    ("38640999003", "SI.1002", True),
    (None, "SI.1003", False),
)
NUMBERS = (ALPINE_NUMBER, BAY_NUMBER)

# ids, seq, version and the server's times are left out; who is who is said by what is known
STATE = """
    select jsonb_build_object(
        'messages', (
            select jsonb_agg(to_jsonb(r) order by r.sent_at, r.provider_id, r.channel)
            from (
                select
                    w.phone_number_id as channel, m.provider_id, t.thread_key, m.sender_type,
                    m.sender_id, m.sender_name, m.type, m.message, m.content,
                    p.provider_id as reply_to, m.status, m.sent_at, m.delivered_at, m.read_at,
                    m.failed_at, m.error_code, m.error_message, m.reactions, m.edited_at,
                    m.revoked_at
                from public.messages m
                join public.whatsapp_channels w on w.id = m.whatsapp_channel_id
                join public.conversations t on t.id = m.conversation_id
                left join public.messages p on p.id = m.reply_to
            ) r
        ),
        'conversations', (
            select jsonb_agg(to_jsonb(r) order by r.channel, r.thread_key)
            from (
                select
                    w.phone_number_id as channel, t.thread_key, t.customer_wa_id, t.status,
                    a.last_seq, a.last_message_at, a.last_inbound_at, (
                        select array_agg(m.seq order by m.seq) = array_agg(g.n order by g.n)
                        from public.messages m
                        full join generate_series(1, a.last_seq) as g (n) on g.n = m.seq
                        where m.conversation_id = t.id
                    ) as gapless
                from public.conversations t
                join public.whatsapp_channels w on w.id = t.whatsapp_channel_id
                join public.conversation_activity a on a.conversation_id = t.id
            ) r
        ),
        'contacts', (
            select jsonb_agg(to_jsonb(r) order by r.account_id, r.identities)
            from (
                select c.account_id, c.name, c.profile_name, c.phone, c.username, (
                    select array_agg(i.kind || ':' || i.value || ':' || coalesce(i.wa_id, '')
                        order by i.kind, i.value)
                    from public.contact_identities i
                    where i.contact_id = c.id
                ) as identities, (
                    select array_agg(t.thread_key order by t.thread_key)
                    from public.conversations t
                    where t.customer_id = c.id
                ) as threads
                from public.contacts c
            ) r
        ),
        'effects', (
            select jsonb_agg(
                to_jsonb(e) - 'whatsapp_channel_id'
                order by e.provider_id, e.kind, e.whatsapp_channel_id)
            from private.message_effects e
        ),
        'statuses', (
            select jsonb_agg(
                to_jsonb(s) - 'whatsapp_channel_id'
                order by s.provider_id, s.status, s.at, s.whatsapp_channel_id)
            from private.message_statuses s
        ),
        'waiting', (select count(*) from private.parked_replies p
            join public.messages m on m.whatsapp_channel_id = p.whatsapp_channel_id
                and m.provider_id = p.parent_provider_id),
        'suggestions', (select count(*) from public.contact_suggestions)
    )
"""


@pytest.fixture(scope="module")
def arena(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """One world for all examples; each is undone."""
    database = cluster.clone_database(world_template, "order_independence")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)
    cluster.drop_database(database.name)


def moments() -> st.SearchStrategy[str]:
    """Few, so that many coincide."""
    return st.integers(0, 5).map(lambda second: f"2026-11-21T10:00:0{second}+00:00")


@st.composite
def updates(draw: st.DrawFn) -> list[Item]:
    """A set of updates about one another, none of them twice."""
    count = draw(st.integers(2, 9))
    # what effects, statuses and replies may be about; the last one never comes
    parents = [f"wamid.{n}" for n in range(count)] + ["wamid.elsewhere"]
    items: list[Item] = []
    for number in range(count):
        wa_id, user_id, has_username = draw(st.sampled_from(PEOPLE))
        if wa_id and user_id and draw(st.booleans()):
            wa_id = None
        is_echo = draw(st.integers(0, 3)) == 0
        items.append(
            {
                "kind": "echo" if is_echo else "message",
                "phone_number_id": draw(st.sampled_from(NUMBERS)),
                "provider_id": f"wamid.{number}",
                "wa_id": wa_id,
                "user_id": user_id,
                "profile_name": None
                if is_echo
                else draw(st.sampled_from([None, "Tina", "T.", "Nejc"])),
                "username": draw(st.sampled_from(["tina", "tinka", "t.k"]))
                if has_username and not is_echo
                else None,
                "sent_at": draw(moments()),
                "type": "text",
                "text": f"text {number}",
                "content": None,
                "reply_to": draw(st.none() | st.sampled_from(parents)),
            }
        )
    for number in range(draw(st.integers(0, 8))):
        type_ = draw(st.sampled_from(["reaction", "reaction", "edit", "revoke"]))
        words = {"reaction": ["👍", "🎉", None], "edit": ["new", "newer"], "revoke": [None]}[type_]
        items.append(
            {
                "kind": "effect",
                "phone_number_id": draw(st.sampled_from(NUMBERS)),
                "provider_id": f"wamid.effect.{number}",
                "type": type_,
                "reply_to": draw(st.sampled_from(parents)),
                "sender_type": draw(st.sampled_from(["client", "operator"])),
                "sender_id": None,
                "sent_at": draw(moments()),
                "text": draw(st.sampled_from(words)),
                "content": {"type": "text"} if type_ == "edit" else None,
            }
        )
    for _ in range(draw(st.integers(0, 8))):
        word = draw(st.sampled_from(["sent", "delivered", "read", "failed"]))
        code = draw(st.sampled_from([131026, 131047])) if word == "failed" else None
        items.append(
            {
                "kind": "status",
                "phone_number_id": draw(st.sampled_from(NUMBERS)),
                "provider_id": draw(st.sampled_from(parents)),
                "status": word,
                "at": draw(moments()),
                "error_code": code,
                "error_message": code and f"sentence of {code}",
                "message_ref": None,
            }
        )
    return items


@st.composite
def deliveries(draw: st.DrawFn, items: list[Item]) -> list[list[Item]]:
    """The same updates in another order, some of them repeated, cut into batches."""
    repeated = draw(st.lists(st.sampled_from(items), max_size=4))
    order = draw(st.permutations(items + repeated))
    batches: list[list[Item]] = [[]]
    for item in order:
        if batches[-1] and draw(st.booleans()):
            batches.append([])
        batches[-1].append(item)
    return batches


def outcome(world: World, batches: list[list[Item]]) -> dict[str, Any]:
    """What these webhooks leave behind, and undoes it."""
    # in one session: each new one would prepare every statement anew
    connection = world.owner
    with connection.transaction(force_rollback=True):
        for number, batch in enumerate(batches):
            row = connection.execute(
                "select backend.ingest_whatsapp(%s, %s)", [str(number), json.dumps(batch)]
            ).fetchone()
            assert row is not None
            assert row[0]["rejected"] == []
        # what is deferred to the commit
        connection.execute("set constraints all immediate")
        row = connection.execute(STATE.encode()).fetchone()
        assert row is not None
        state: dict[str, Any] = row[0]
        return state


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_shuffle_split_and_repetition_leaves_the_same_rows(
    arena: World, data: st.DataObject
) -> None:
    items = data.draw(updates())
    expected = outcome(arena, [items])
    assert all(thread["gapless"] for thread in expected["conversations"])
    assert expected["waiting"] == 0

    for _ in range(3):
        assert outcome(arena, data.draw(deliveries(items))) == expected
