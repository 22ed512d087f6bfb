"""Jobs, invoices and points as staff write them, for tests of what follows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.sql.asking import Row, ask
from tests.world import ALPINE, World, seed_uuid

CILKA = seed_uuid("contact cilka")
CARLOS = seed_uuid("contact carlos")


def insert(world: World, user: str, table: str, **columns: Any) -> Row:
    """What inserting a row answers a person, as PostgREST does it."""
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    (row,) = ask(
        world,
        user,
        f"insert into public.{table} ({names}) values ({places}) returning *",
        *columns.values(),
    )
    return row


def change(world: World, user: str, table: str, row: UUID, **columns: Any) -> Row:
    """The row as it was changed."""
    named = ", ".join(f"{name} = %s" for name in columns)
    (changed,) = ask(
        world,
        user,
        f"update public.{table} set {named} where id = %s returning *",
        *columns.values(),
        row,
    )
    return changed


def make_job(world: World, user: str = "andrej", customer: UUID = CILKA, **columns: Any) -> Row:
    given = {"service_type": "Carpet cleaning", "starts_at": "2026-12-01T09:00:00Z"} | columns
    return insert(world, user, "jobs", customer_id=customer, **given)


def write_invoice(
    world: World, user: str = "andrej", customer: UUID = CILKA, **columns: Any
) -> Row:
    given = {"number": "2026-001", "currency": "EUR", "amount_minor": 12050} | columns
    return insert(world, user, "invoices", customer_id=customer, **given)


def send_invoice(world: World, user: str = "andrej", **columns: Any) -> Row:
    """An invoice that its customer knows of."""
    draft = write_invoice(world, user, **columns)
    return change(world, user, "invoices", draft["id"], status="sent")


def add_points(world: World, points: int, user: str = "andrej", **columns: Any) -> Row:
    given = {"customer_id": CILKA, "type": "earned" if points > 0 else "redeemed"} | columns
    return insert(world, user, "loyalty_transactions", points=points, **given)


def total(world: World, customer: UUID = CILKA) -> int:
    """The customer's balance, which is the sum of their lines and of what is left of them."""
    (row,) = world.rows(
        """
        select
            (select points from public.loyalty_balances where customer_id = %(customer)s) as total,
            (
                select coalesce(sum(points), 0) from public.loyalty_transactions
                where customer_id = %(customer)s
            ) as lines,
            (
                select coalesce(sum(points_left), 0) from private.loyalty_lots
                where customer_id = %(customer)s
            ) as lots
        """,
        {"customer": customer},
    )
    assert (row["total"] or 0) == row["lines"] == row["lots"]
    return int(row["lines"])


def chat(world: World, booking: UUID | None = None) -> list[tuple[str, str]]:
    """Who said what in a booking's chat, or in the portals' others."""
    return [
        (row["sender_type"], row["message"])
        for row in world.rows(
            "select m.sender_type, m.message from public.messages m"
            " join public.conversations k on k.id = m.conversation_id"
            " where k.channel <> 'whatsapp' and k.booking_id is not distinct from %s"
            " order by m.conversation_id, m.seq",
            [booking],
        )
    ]


def add_contact(world: World, name: str, account: UUID = ALPINE) -> UUID:
    """A contact without a login."""
    contact = seed_uuid(f"contact {name}")
    world.owner.execute(
        "insert into public.contacts (id, account_id, name) values (%s, %s, %s)",
        [contact, account, name],
    )
    return contact


MERGED = """
    update public.contacts
    set deleted_at = now(), merged_into = %s, name = null, profile_name = null,
        profile_named_at = null, phone = null, portal_user_id = null
    where id = %s
"""
