"""Everybody who may ask, rows of both businesses in every table, and what each of them sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from tests.sql.matrix import TABLES
from tests.sql.portal import add_points, insert, make_job, send_invoice, write_invoice
from tests.world import (
    ALPINE,
    ALPINE_NUMBER,
    BAY,
    BAY_NUMBER,
    CUSTOMERS,
    STAFF,
    Connection,
    World,
    seed_uuid,
    text_message,
)


@dataclass(frozen=True)
class Actor:
    """Somebody who asks: the role in the database and in an account, if any."""

    database_role: str
    role: str
    account: UUID | None = None
    contact: UUID | None = None


# of the second business, beside those of every world
MORE_STAFF = {"otto": (BAY, "owner"), "bojan": (BAY, "admin"), "viktor": (BAY, "viewer")}
ACTORS = {
    "anonymous": Actor("anon", "anon"),
    "service role": Actor("service_role", "service_role"),
    "stranger": Actor("authenticated", "stranger"),
    # an agent once: the token still is valid
    "former": Actor("authenticated", "stranger"),
    **{
        name: Actor("authenticated", role, account)
        for name, (account, role) in (STAFF | MORE_STAFF).items()
    },
    **{
        name: Actor("authenticated", "customer", account, seed_uuid(f"contact {name}"))
        for name, (account, _) in CUSTOMERS.items()
    },
}
SIGNED_IN = [name for name, actor in ACTORS.items() if actor.database_role == "authenticated"]
AGENTS = {ALPINE: "andrej", BAY: "ana"}


def populate(world: World) -> None:
    """Rows of both businesses in every table."""
    owner = world.owner.cursor()
    owner.execute("select backend.set_push_key(repeat('A', 87))")
    owner.executemany(
        "insert into auth.users (id, email, aud, role)"
        " values (%s, %s, 'authenticated', 'authenticated')",
        [(seed_uuid(name), f"{name}@rapport.example") for name in (*MORE_STAFF, "former")],
    )
    owner.executemany(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, %s, %s)",
        [
            (account, seed_uuid(name), role, name)
            for name, (account, role) in {**MORE_STAFF, "former": (ALPINE, "agent")}.items()
        ],
    )
    owner.execute("delete from public.account_members where user_id = %s", [seed_uuid("former")])
    for name, (account, phone) in CUSTOMERS.items():
        number = {ALPINE: ALPINE_NUMBER, BAY: BAY_NUMBER}[account]
        world.ingest(
            text_message(f"wamid.{name}", wa_id=phone[1:], phone_number_id=number),
            text_message(
                f"wamid.photo.{name}",
                wa_id=phone[1:],
                phone_number_id=number,
                type="image",
                text="[image]",
                content={"type": "image", "image": {"id": "5", "mime_type": "image/png"}},
            ),
            text_message(f"wamid.other.{name}", phone_number_id=number),
        )
        owner.execute(
            """
            with failed as (
                insert into public.messages (
                    id, account_id, conversation_id, customer_id, seq, sender_type, type, message,
                    content, whatsapp_channel_id, status, failed_at
                )
                select %s, k.account_id, k.id, k.customer_id, 3, 'operator', 'template', 'hello',
                       '{}', k.whatsapp_channel_id, 'failed', now()
                from public.conversations k
                where k.customer_id = %s
                returning conversation_id
            )
            update public.conversation_activity a
            set last_seq = 3
            from failed f
            where a.conversation_id = f.conversation_id
            """,
            [seed_uuid(f"failed {name}"), seed_uuid(f"contact {name}")],
        )
        owner.execute(
            "insert into public.whatsapp_templates"
            " (account_id, waba_id, name, language, category, status, components, variables)"
            " values (%s, '1', 'reminder', 'sl', 'UTILITY', 'APPROVED', '[]', '{}')",
            [account],
        )
        owner.execute(
            "update public.whatsapp_channels set waba_id = %s where account_id = %s",
            [f"6{number}", account],
        )
        world.ingest(
            text_message(f"wamid.nobodys.{name}", phone_number_id="999", waba_id=f"6{number}")
        )
        owner.execute(
            "insert into public.privacy_actions (account_id, contact_id, action)"
            " values (%s, %s, 'export')",
            [account, seed_uuid(f"contact {name}")],
        )
        owner.execute(
            "insert into public.account_events (account_id, type, content)"
            " values (%s, 'account_update', '{}')",
            [account],
        )
        owner.execute(
            "select private.suggest_merge(%(account)s, array_agg(c.id), 'same_name', '{}')"
            " from public.contacts c where c.account_id = %(account)s",
            {"account": account},
        )
        connect_metakocka(world, account, seed_uuid(f"contact {name}"))
        for contact in ("kept", "dropped"):
            owner.execute(
                "insert into public.contacts (id, account_id, name) values (%s, %s, %s)",
                [seed_uuid(f"{contact} of {name}"), account, contact],
            )
        contact = seed_uuid(f"contact {name}")
        make_job(world, AGENTS[account], contact)
        send_invoice(world, AGENTS[account], customer=contact)
        write_invoice(world, AGENTS[account], contact, number="draft")
        add_points(world, 10, AGENTS[account], customer_id=contact)
        insert(
            world,
            AGENTS[account],
            "messages",
            customer_id=contact,
            message="ours",
            id=seed_uuid(f"ours {name}"),
        )
        thread = world.value(
            "select id from public.conversations where customer_id = %s and channel = 'whatsapp'",
            [contact],
        )
        insert(world, AGENTS[account], "conversation_notes", conversation_id=thread, note="any")
        owner.execute(
            "insert into public.desk_states (id, account_id) values (%s, %s)", [thread, account]
        )
        label = insert(world, AGENTS[account], "labels", account_id=account, name="vip")
        owner.execute(
            "insert into public.conversation_labels (account_id, conversation_id, label_id)"
            " values (%s, %s, %s)",
            [account, thread, label["id"]],
        )
        insert(
            world,
            AGENTS[account],
            "saved_replies",
            account_id=account,
            short_code="hello",
            text="Hello {{contact.name}}",
        )
        insert(
            world,
            AGENTS[account],
            "scheduled_messages",
            conversation_id=world.value(
                "select id from public.conversations where customer_id = %s and channel = 'portal'",
                [contact],
            ),
            message="tomorrow",
            send_at=datetime.now(UTC) + timedelta(days=1),
        )
        owner.execute(
            "insert into public.reminder_rules (account_id, name, kind, minutes, text)"
            " values (%s, 'tomorrow', 'before_appointment', 1440, '{{appointment.time}}')",
            [account],
        )
        for reader in (AGENTS[account], name):
            with world.acting_as(reader) as connection:
                connection.execute("select public.mark_read(id, 1) from public.conversations")
                connection.execute("select public.choose_notifications('points', true)")
                connection.execute(
                    "select public.save_push_subscription(%s, repeat('A', 87), repeat('A', 22))",
                    [f"https://push.example/{reader}"],
                )
        with world.acting_as(AGENTS[account]) as connection:
            connection.execute(
                "select public.merge_contacts(%s, %s)",
                [seed_uuid(f"kept of {name}"), seed_uuid(f"dropped of {name}")],
            )
            connection.execute("select public.invite_to_portal(%s)", [seed_uuid(f"kept of {name}")])
    owner.execute("select backend.sweep_health()")


def connect_metakocka(world: World, account: UUID, contact: UUID) -> None:
    """A connected ERP, one contact there, and what its sync leaves behind."""
    world.owner.execute(
        """
        with connection as (
            insert into public.metakocka_connections (account_id, company_id)
            values (%(account)s, %(account)s::text)
        ),
        mapping as (
            insert into public.metakocka_contact_mappings
                (account_id, contact_id, metakocka_id, state, base)
            values (%(account)s, %(contact)s, '1600000001', 'conflict', '{}')
        ),
        run as (
            insert into public.sync_runs (account_id, direction, trigger)
            values (%(account)s, 'both', 'schedule')
        ),
        conflict as (
            insert into public.sync_conflicts (account_id, contact_id, metakocka_id, field, crm)
            values (%(account)s, %(contact)s, '1600000001', 'place', '"Kranj"')
        )
        insert into public.sync_errors (account_id, operation, code, message)
        values (%(account)s, 'syncContactToMetakocka', '6', 'any')
        """,
        {"account": account, "contact": contact},
    )
    world.owner.execute(
        """
        insert into private.member_invitations
            (account_id, email, role, display_name, token_hash, invited_by, expires_at)
        select
            m.account_id, 'invited@alpine.example', 'agent', 'Invited',
            sha256(m.account_id::text::bytea), m.user_id, now() + interval '1 day'
        from public.account_members m
        where m.account_id = %(account)s
          and m.role = 'owner'
        limit 1
        """,
        {"account": account},
    )


@contextmanager
def undone(world: World, name: str) -> Iterator[Connection]:
    """A transaction of an actor that leaves nothing behind."""
    actor = ACTORS[name]
    user = name if actor.database_role == "authenticated" else None
    with world.acting(actor.database_role, user) as connection:
        yield connection
        raise psycopg.Rollback


def about(world: World, account: UUID) -> dict[str, Any]:
    """What conditions and calls may name of an account."""
    [row] = world.rows(
        """
        select
            k.customer_id as contact,
            k.id as conversation,
            m.id as merge,
            m.kept_contact_id as other,
            s.id as suggestion,
            p.id as invitation,
            f.id as failed,
            i.id as photo,
            o.id as ours,
            x.id as conflict,
            n.id as note,
            l.id as label,
            r.id as reply,
            k.whatsapp_channel_id as channel
        from public.conversations k
        join public.contact_merges m using (account_id)
        join public.contact_suggestions s using (account_id)
        join public.portal_invitations p using (account_id)
        join public.messages f on f.conversation_id = k.id and f.status = 'failed'
        join public.messages i on i.conversation_id = k.id and i.type = 'image'
        join public.messages o on o.customer_id = k.customer_id and o.message = 'ours'
        join public.sync_conflicts x on x.contact_id = k.customer_id
        join public.conversation_notes n on n.conversation_id = k.id and n.kind = 'note'
        join public.labels l on l.account_id = k.account_id
        join public.saved_replies r on r.account_id = k.account_id
        where k.account_id = %s
          and k.customer_id = any (%s)
        """,
        [account, [seed_uuid(f"contact {name}") for name in CUSTOMERS]],
    )
    return {"account": account, "user": seed_uuid(AGENTS[account]), "role": "owner", **row}


def visible(world: World, name: str, table: str) -> list[dict[str, Any]] | None:
    """The rows that an actor sees; None where reading is refused altogether."""
    try:
        with undone(world, name) as connection:
            rows = connection.execute(
                sql.SQL("select to_jsonb(t) - %s::text[] from public.{} t").format(
                    sql.Identifier(table)
                ),
                [list(TABLES[table].personal)],
            ).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return sorted((row[0] for row in rows), key=repr)


def topics(world: World, name: str) -> set[str]:
    """All topics that somebody is told, their own and those of every conversation."""
    with world.acting_as(name) as connection:
        return {
            row[0]
            for conversation in world.rows("select id from public.conversations")
            for row in connection.execute(
                "select topic from public.my_topics(%s)", [conversation["id"]]
            )
        }
