"""Counts of the desk are those of a plain count, in any order of what changes them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.world import ALPINE, World, seed_uuid, text_message

PLAIN = """
    select jsonb_build_object(
        'free', (
            select count(*)
            from public.conversations k
            left join public.desk_states s on s.id = k.id
            where k.account_id = m.account_id and k.status = 'open' and s.assignee_id is null
              and (s.snoozed_until > now()) is not true
              and (k.customer_id is null
                   or exists (select from public.customers c where c.id = k.customer_id))
        ),
        'snoozed', (
            select count(*)
            from public.desk_states s
            where s.account_id = m.account_id and s.snoozed_until > now()
        ),
        'assignees', jsonb_agg(
            jsonb_build_object('user_id', m.user_id, 'name', m.display_name, 'conversations', (
                select count(*)
                from public.conversations k
                join public.desk_states s on s.id = k.id
                where s.assignee_id = m.user_id and k.account_id = m.account_id
                  and k.status <> 'closed'
            ))
            order by m.display_name, m.user_id
        ),
        'labels', (
            select coalesce(jsonb_agg(
                jsonb_build_object('label_id', l.id, 'name', l.name, 'conversations', (
                    select count(*)
                    from public.conversation_labels o
                    join public.conversations k on k.id = o.conversation_id
                    where o.label_id = l.id and k.status <> 'closed'
                ))
                order by l.name, l.id
            ), '[]')
            from public.labels l
            where l.account_id = m.account_id
        )
    )
    from public.account_members m
    where m.account_id = %s
    group by m.account_id
"""
# rows are kept for what is not closed, and for nothing else
DIFFERENCES = """
    select k.id
    from (select * from public.conversations where status <> 'closed') k
    left join public.desk_states s on s.id = k.id
    full join private.unclosed_conversations u on u.conversation_id = k.id
    where (k.account_id, k.status = 'open', s.assignee_id, s.snoozed_until) is distinct from
        (u.account_id, u.is_open, u.assignee_id, u.snoozed_until)
    union all
    select coalesce(l.conversation_id, u.conversation_id)
    from (
        select o.*
        from public.conversation_labels o
        join public.conversations k on k.id = o.conversation_id
        where k.status <> 'closed'
    ) l
    full join private.unclosed_labels u using (conversation_id, label_id)
    where l.id is null or u.label_id is null
"""
MEMBERS = ("adam", "andrej", "olivia")
WA_IDS = ("38640111222", "38640999888", "38640555444")

some = st.integers(0, 2)
members = st.sampled_from(MEMBERS)
often = (
    st.tuples(st.just("message"), some),
    st.tuples(st.just("take"), some, members),
    st.tuples(st.just("release"), some),
    st.tuples(st.just("status"), some, st.sampled_from(("open", "pending", "closed"))),
    st.tuples(st.just("label"), some, st.integers(0, 1)),
    st.tuples(st.just("snooze"), some, st.booleans()),
)
seldom = (
    st.tuples(st.just("hand over"), some, members),
    st.tuples(st.just("unlabel"), some, st.integers(0, 1)),
    st.tuples(st.just("delete label"), st.integers(0, 1)),
    st.tuples(st.just("time goes by"), st.booleans()),
    st.tuples(st.just("remove member"), members),
    st.tuples(st.just("change role"), members, st.sampled_from(("viewer", "agent"))),
    st.tuples(st.just("merge"), some, some),
    st.tuples(st.just("undo merge")),
    st.tuples(st.just("delete contact"), some),
    st.tuples(st.just("delete conversation"), some),
)
steps = st.one_of(*often, *often, *often, *seldom)


@dataclass
class Desk:
    """A desk in a transaction that is undone."""

    connection: psycopg.Connection[Any]
    messages: int = 0
    labels: list[Any] = field(default_factory=list)
    merges: list[Any] = field(default_factory=list)

    def ask(self, query: str, *parameters: Any, user: str | None = None) -> Any:
        """The first value of a statement; what is refused changes nothing."""
        role = "authenticated" if user else "service_role" if "backend." in query else "postgres"
        claims = {"role": role} | ({"sub": str(seed_uuid(user))} if user else {})
        with suppress(psycopg.Error), self.connection.transaction():
            self.connection.execute(
                "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                [role, json.dumps(claims)],
            )
            cursor = self.connection.execute(query.encode(), parameters)
            row = cursor.fetchone() if cursor.description else None
            self.connection.execute("select set_config('role', 'postgres', true)")
            return row[0] if row else None
        return None

    def found(self, query: str, number: int) -> Any:
        ids = [row[0] for row in self.connection.execute(query.encode(), [ALPINE])]
        return ids[number % len(ids)] if ids else None

    def thread(self, number: int) -> Any:
        return self.found(
            "select k.id from public.conversations k join public.contacts c on c.id = k.customer_id"
            " where k.account_id = %s and c.deleted_at is null order by k.thread_key, k.id",
            number,
        )

    def contact(self, number: int) -> Any:
        return self.found(
            "select id from public.contacts where account_id = %s and deleted_at is null"
            " order by phone, id",
            number,
        )

    def label(self, number: int) -> Any:
        while len(self.labels) <= number:
            self.labels.append(
                self.ask(
                    "insert into public.labels (account_id, name) values (%s, %s) returning id",
                    ALPINE,
                    f"label {len(self.labels)}",
                    user="olivia",
                )
            )
        return self.labels[number]

    def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("message", number):
                self.messages += 1
                item = text_message(f"wamid.{self.messages}", wa_id=WA_IDS[number % len(WA_IDS)])
                given = json.dumps([item])
                self.ask("select backend.ingest_whatsapp(%s, %s)", given, given)
            case ("take", number, user):
                thread = self.thread(number)
                self.ask("select public.take_conversation(%s)", thread, user=user)
            case ("hand over", number, user):
                self.ask(
                    "select public.hand_over_conversation(%s, %s)",
                    self.thread(number),
                    seed_uuid(user),
                    user="olivia",
                )
            case ("release", number):
                thread = self.thread(number)
                self.ask("select public.release_conversation(%s)", thread, user="olivia")
            case ("status", number, word):
                self.ask(
                    "select public.set_conversation_status(%s, %s)",
                    self.thread(number),
                    word,
                    user="olivia",
                )
            case ("label" | "unlabel" as way, number, label):
                self.ask(
                    f"select public.{way}_conversation(%s, %s)",
                    self.thread(number),
                    self.label(label),
                    user="olivia",
                )
            case ("delete label", label):
                self.ask(
                    "delete from public.labels where id = %s", self.label(label), user="olivia"
                )
                self.labels = [one for one in self.labels if one != self.label(label)]
            case ("snooze", number, until):
                self.ask(
                    "select public.snooze_conversation(%s, %s)",
                    self.thread(number),
                    datetime.now(UTC) + timedelta(days=1) if until else None,
                    user="olivia",
                )
            case ("time goes by", is_swept):
                self.ask(
                    "update public.desk_states set snoozed_until = now() - interval '1 s'"
                    " where snoozed_until > now()"
                )
                if is_swept:
                    self.ask("select backend.end_snoozes()")
            case ("remove member", user):
                self.ask("delete from public.account_members where user_id = %s", seed_uuid(user))
                self.ask(
                    "insert into public.account_members (account_id, user_id, role, display_name)"
                    " values (%s, %s, 'admin', %s)",
                    ALPINE,
                    seed_uuid(user),
                    user,
                )
            case ("change role", user, role):
                self.ask(
                    "update public.account_members set role = %s where user_id = %s",
                    role,
                    seed_uuid(user),
                )
            case ("merge", keep, drop):
                self.merges.append(
                    self.ask(
                        "select public.merge_contacts(%s, %s)",
                        self.contact(keep),
                        self.contact(drop),
                        user="adam",
                    )
                )
            case ("undo merge",):
                if self.merges:
                    merge = self.merges.pop()
                    self.ask("select public.undo_merge(%s)", merge, user="adam")
            case ("delete contact", number):
                contact = self.contact(number)
                self.ask("delete from public.contacts_v2 where id = %s", contact, user="adam")
            case ("delete conversation", number):
                thread = self.thread(number)
                self.ask("delete from public.conversations where id = %s", thread)

    def counts(self) -> dict[str, Any]:
        """As a client has them."""
        counts: dict[str, Any] = self.ask(
            "select public.inbox_counts(%s) || public.label_counts(%s)", ALPINE, ALPINE, user="vera"
        )
        return counts


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(steps, min_size=40, max_size=50))
def test_counts_are_those_of_a_plain_count(world: World, steps: list[tuple[Any, ...]]) -> None:
    with world.owner.transaction(force_rollback=True):
        desk = Desk(world.owner)
        for number in (0, 1, 2):
            desk.take(("message", number))
            desk.take(("label", number, 0))
        for step in steps:
            desk.take(step)
            assert desk.connection.execute(DIFFERENCES).fetchall() == [], step
        (plain,) = desk.connection.execute(PLAIN, [ALPINE]).fetchone() or (None,)
        assert desk.counts() == plain
