"""How tests write and read contacts through their faces, as a signed-in person."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from rapport.client.faces import Face
from tests.world import ALPINE, Connection, World, seed_uuid

# the views, and the names of their words
FACES: dict[str, Face] = {"contacts_v2": "contacts_page", "contacts_live_chat": "live_chat"}
WRITABLE = {
    "name": "Nika Kos",
    "phone": "+38631222333",
    "email": "Nika@kos.si",
    "username": "nika.kos",
    "tags": ["vip", "carpets"],
}
CILKA, CARLOS = seed_uuid("contact cilka"), seed_uuid("contact carlos")

both_faces = pytest.mark.parametrize("view", FACES)


def ask(world: World, user: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """A statement in a transaction of its own, as a signed-in person."""
    with world.acting_as(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def refusal(world: World, user: str, query: str, *parameters: Any) -> psycopg.Error:
    """How a statement is refused, which it must be."""
    with pytest.raises(psycopg.Error) as refused:
        ask(world, user, query, *parameters)
    return refused.value


def upsert(
    world: World, contact: dict[str, Any], face: str = "contacts_page", user: str = "andrej"
) -> dict[str, Any]:
    [row] = ask(
        world,
        user,
        "select public.upsert_contact(%s, %s, %s) as saved",
        ALPINE,
        json.dumps(contact),
        face,
    )
    saved: dict[str, Any] = row["saved"]
    return saved


def shown(world: World, view: str, contact: UUID) -> dict[str, Any]:
    [row] = ask(world, "andrej", f"select * from public.{view} where id = %s", contact)
    return row


def identities(world: World, contact: UUID) -> set[tuple[str, str]]:
    return {
        (row["kind"], row["match_key"])
        for row in world.rows(
            "select kind, match_key from public.contact_identities where contact_id = %s",
            [contact],
        )
    }


def detail(error: psycopg.Error) -> str | None:
    return error.diag.message_detail


def meanwhile(
    world: World, first: list[Any], second: Callable[[Connection], None], user: str = "andrej"
) -> list[BaseException]:
    """Runs `second` while the statement `first` is done but not committed; how second failed."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with world.acting_as(user) as connection:
                second(connection)
        except psycopg.Error as error:
            failures.append(error)

    with world.acting_as(user) as connection:
        connection.execute(first[0].encode(), first[1:])
        thread = threading.Thread(target=run)
        thread.start()
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        )
        while thread.is_alive() and not world.value(waiting):
            pass
    thread.join()
    return failures
