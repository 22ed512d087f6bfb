"""Several people and WhatsApp write the same contacts at once, in any interleaving.

Nobody waits for ever and nothing is torn: in any order of the writes, the faces, the
canonical tables, the customers' rows, the identities and what was told of them agree.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rapport.client.faces import STATUS_WORDS
from rapport.local.stack.postgres import Cluster, Database
from tests.sql.faces import FACES
from tests.world import ALPINE, Connection, World, seed_uuid, text_message

# what may be answered where others write the same: wrong version, gone, busy
# a webhook that gives way is 55P03, and comes again
REFUSALS = {"PT404", "PT409", "PT503", "55P03"}
SESSIONS = 4
PHONES = ("+38631000001", "+38631000002", "+5511987654321", "+551187654321")
EMAILS = ("a@x.si", "A@X.si", "b@x.si")
STATUSES = ("open", "pending", "closed")

numbers = count()
# contacts are meant by place, so that sessions meet
places = st.integers(0, 2)
views = st.sampled_from(list(FACES))
fields = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Nika", "Oto", None]),
        "phone": st.sampled_from([*PHONES, None]),
        "email": st.sampled_from([*EMAILS, None]),
        "username": st.sampled_from(["nika", "oto", None]),
        "tags": st.sampled_from([["vip"], []]),
        "status": st.sampled_from(STATUSES),
    },
).filter(bool)
writes = st.one_of(
    st.tuples(st.just("insert"), views, fields),
    st.tuples(st.just("update"), views, places, fields),
    st.tuples(st.just("update all"), views, fields.filter(lambda f: not f.keys() & {"phone"})),
    st.tuples(st.just("upsert"), views, fields),
    st.tuples(st.just("ingest"), st.lists(st.sampled_from(PHONES), min_size=1, max_size=3)),
    st.tuples(st.just("delete"), views, places),
    st.tuples(st.just("close"), st.sampled_from(STATUSES)),
)
programs = st.lists(st.lists(writes, min_size=2, max_size=5), min_size=SESSIONS, max_size=SESSIONS)


@pytest.fixture(scope="module")
def shared(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """One database for all programs."""
    database = cluster.clone_database(world_template, "interleavings")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)
    cluster.drop_database(database.name)


@pytest.fixture(scope="module")
def sessions(shared: World) -> Iterator[list[Connection]]:
    connections = [shared.connect("authenticator") for _ in range(SESSIONS)]
    yield connections
    for connection in connections:
        connection.close()


def of_face(view: str, written: dict[str, Any]) -> dict[str, Any]:
    """Fields in a face's columns and words."""
    row = dict(written)
    if "status" in row:
        row["conversation_status"] = STATUS_WORDS[FACES[view]][row.pop("status")]
    return row


def nth(view: str) -> str:
    return f"select id from public.{view} order by created_at, id offset %s limit 1"


# as a schedule would, in the lock order
CLOSE = """
    update public.conversations
    set status = %s
    where id in (
        select id
        from public.conversations
        where status <> 'closed'
        order by id
        for no key update
    )
"""


def statement(write: tuple[Any, ...]) -> tuple[str, str, list[Any]]:
    """The role, the query and its parameters."""
    match write:
        case ("insert", view, written):
            row = of_face(view, written)
            columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            query = f"insert into public.{view} ({columns}) values ({marks})"
            return "authenticated", query, [*row.values()]
        case ("update", view, place, written):
            row = of_face(view, written)
            changes = ", ".join(f"{column} = %s" for column in row)
            query = f"update public.{view} set {changes} where id = ({nth(view)})"
            return "authenticated", query, [*row.values(), place]
        case ("update all", view, written):
            row = of_face(view, written)
            changes = ", ".join(f"{column} = %s" for column in row)
            return "authenticated", f"update public.{view} set {changes}", [*row.values()]
        case ("upsert", view, written):
            contact = json.dumps(of_face(view, written))
            query = "select public.upsert_contact(%s, %s, %s)"
            return "authenticated", query, [ALPINE, contact, FACES[view]]
        case ("ingest", phones):
            items = json.dumps(
                [
                    text_message(f"wamid.{next(numbers)}", phone[1:], profile_name=phone)
                    for phone in phones
                ]
            )
            return "service_role", "select backend.ingest_whatsapp(%s, %s)", [items, items]
        case ("delete", view, place):
            return "authenticated", f"delete from public.{view} where id = ({nth(view)})", [place]
        case ("close", status):
            return "postgres", CLOSE, [status]
    raise AssertionError(write)


def run(
    world: World,
    connection: Connection,
    program: list[tuple[Any, ...]],
    together: threading.Barrier,
) -> list[psycopg.Error]:
    """Runs a program, a transaction a write, and returns how writes were refused."""
    refused = []
    together.wait()
    for write in program:
        role, query, parameters = statement(write)
        try:
            if role == "postgres":
                with world.connect() as owner:
                    owner.execute(query.encode(), parameters)
                continue
            with connection.transaction():
                connection.execute(f"set local role {role}".encode())
                connection.execute(
                    b"select set_config('request.jwt.claims', %s, true)",
                    [json.dumps({"role": role, "sub": str(seed_uuid("andrej"))})],
                )
                connection.execute(query.encode(), parameters)
        except psycopg.Error as error:
            refused.append(error)
    return refused


AGREEMENTS = {
    "both faces show the same contacts": """
        select v.id, l.id
        from public.contacts_v2 v
        full join public.contacts_live_chat l using (id)
        where (v.account_id, v.name, v.phone, v.username, v.email, v.tags,
               v.conversation_id, v.created_at, v.updated_at, v.version)
              is distinct from
              (l.account_id, l.name, l.phone, l.username, l.email, l.tags,
               l.conversation_id, l.created_at, l.updated_at, l.version)
           or lower(l.conversation_status) <> v.conversation_status
    """,
    "faces show what the tables hold": """
        select c.id, v.id
        from (select * from public.contacts c where c.deleted_at is null) c
        full join public.contacts_v2 v using (id)
        where (coalesce(c.name, c.profile_name), c.phone, c.email, c.username, c.tags, c.version)
              is distinct from (v.name, v.phone, v.email, v.username, v.tags, v.version)
           or v.conversation_status <> coalesce(
               (select k.status from public.conversations k where k.id = v.conversation_id),
               c.status)
    """,
    "customers are what contacts say": """
        select c.id, p.id
        from (select * from public.contacts c where c.deleted_at is null) c
        full join public.customers p using (id)
        where (coalesce(c.name, c.profile_name), c.phone, c.email, c.portal_user_id)
              is distinct from (p.name, p.phone, p.email, p.portal_user_id)
    """,
    "what a contact shows it is known by": """
        select c.id, k.kind, k.value
        from public.contacts c
        cross join lateral (
            values ('phone', c.phone), ('email', c.email), ('username', c.username)
        ) k (kind, value)
        where c.deleted_at is null
          and k.value is not null
          and not exists (
              select
              from public.contact_identities o
              where o.account_id = c.account_id
                and o.kind = k.kind
                and o.match_key = private.match_key(k.kind, k.value)
                and o.contact_id = c.id
          )
    """,
    "what it is known by it shows, or has written from": """
        select o.*
        from public.contact_identities o
        join public.contacts c
            on c.id = o.contact_id
        where c.deleted_at is not null
           or (
               o.wa_id is null
               and o.match_key is distinct from private.match_key(
                   o.kind,
                   case o.kind
                       when 'phone' then c.phone when 'email' then c.email else c.username
                   end)
           )
    """,
    "a contact that is gone has no open conversation": """
        select k.id
        from public.conversations k
        join public.contacts c
            on c.id = k.customer_id
        where c.deleted_at is not null
          and k.status <> 'closed'
    """,
    "activity is that of the messages": """
        select a.conversation_id
        from public.conversation_activity a
        cross join lateral (
            select count(*) as messages, max(m.seq) as seq, max(m.sent_at) as sent_at
            from public.messages m
            where m.conversation_id = a.conversation_id
        ) m
        where (a.last_seq, a.last_seq, a.last_message_at, a.last_inbound_at)
              is distinct from (m.messages, m.seq, m.sent_at, m.sent_at)
    """,
    "the log ends with the rows as they are": """
        select r.table_name, r.id, r.version, g.version
        from (
            select 'contacts' as table_name, id, version, deleted_at is not null as gone
            from public.contacts
            union all
            select 'conversations', id, version, false from public.conversations
        ) r
        cross join lateral (
            select
                max(g.version) as version,
                max(g.version) filter (where g.operation = 'DELETE') as deleted
            from private.changes g
            where g.table_name = r.table_name
              and g.row_id = r.id
        ) g
        where g.version <> r.version
           or r.gone and g.deleted is distinct from r.version
    """,
    "the broadcasts end with the rows as they are": """
        select r.id
        from public.contacts r
        join lateral (
            select e.payload
            from realtime.messages e
            where e.topic like 'account:%%'
              and e.event like 'contacts.%%'
              and e.payload ->> 'id' = r.id::text
            order by (e.payload ->> 'version')::bigint desc
            limit 1
        ) e
            on true
        where (e.payload ->> 'version')::bigint <> r.version
           or (e.payload ->> 'operation' = 'DELETE') <> (r.deleted_at is not null)
           or e.payload -> 'record' ->> 'phone' is distinct from r.phone
    """,
}


@settings(
    max_examples=30,
    deadline=None,
    # threads interleave as they like: a failure need not come again, nor get smaller
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(programs=programs)
def test_writes_of_several_sessions_leave_everything_in_agreement(
    shared: World, sessions: list[Connection], programs: list[list[tuple[Any, ...]]]
) -> None:
    together = threading.Barrier(SESSIONS)
    outcomes: list[list[psycopg.Error]] = [[] for _ in programs]

    def play(place: int) -> None:
        outcomes[place] = run(shared, sessions[place], programs[place], together)

    threads = [threading.Thread(target=play, args=[place]) for place in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    unexpected = [
        (error.sqlstate, str(error))
        for refused in outcomes
        for error in refused
        if error.sqlstate not in REFUSALS
    ]
    assert unexpected == []
    for agreement, contradiction in AGREEMENTS.items():
        assert shared.rows(contradiction) == [], agreement
