"""One contact behind two faces: what is written in either is read in both."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.sql.conftest import ALPINE, BAY, World, seed_uuid, status, text_message

FACES = {"contacts_v2": ("open", "closed"), "contacts_live_chat": ("Open", "Closed")}


def ask(world: World, user: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    with world.acting_as(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("face", FACES)
def test_contact_made_in_one_face_is_open_in_both(world: World, face: str) -> None:
    made = ask(
        world,
        "andrej",
        f"insert into public.{face} (account_id, name, phone) values (%s, 'Nika', '+38631222333')"
        " returning *",
        ALPINE,
    )[0]

    assert made["conversation_status"] == FACES[face][0]
    for other, words in FACES.items():
        found = ask(
            world,
            "andrej",
            f"select * from public.{other} where conversation_status = %s and name = 'Nika'",
            words[0],
        )
        assert [row["id"] for row in found] == [made["id"]]


def test_update(world: World) -> None:
    cilka = seed_uuid("contact cilka")
    rows = ask(
        world,
        "andrej",
        "update public.contacts_live_chat set conversation_status = 'Closed', email='c@x.si' where id = %s returning *",
        cilka,
    )
    assert rows[0]["conversation_status"] == "Closed"
    assert (
        ask(
            world,
            "andrej",
            "select conversation_status from public.contacts_v2 where id = %s",
            cilka,
        )[0]["conversation_status"]
        == "closed"
    )
    world.ingest(text_message("w1", wa_id="38640111222"))
    assert (
        ask(
            world,
            "andrej",
            "select conversation_status, channel, wa_id from public.contacts_live_chat where id = %s",
            cilka,
        )[0]["conversation_status"]
        == "Open"
    )
    with pytest.raises(psycopg.Error) as e:
        ask(
            world,
            "andrej",
            "update public.contacts_live_chat set conversation_status = 'closed' where id = %s",
            cilka,
        )
    print(e.value.diag.message_primary, e.value.diag.message_hint, e.value.sqlstate)
    with pytest.raises(psycopg.Error) as e:
        ask(world, "ana", "update public.contacts_live_chat set name = 'x' where id = %s", cilka)
    print(e.value.diag.message_primary, e.value.diag.message_hint, e.value.sqlstate)
    with pytest.raises(psycopg.Error) as e:
        ask(world, "vera", "update public.contacts_live_chat set name = 'x' where id = %s", cilka)
    print(e.value.diag.message_primary, e.value.diag.message_hint, e.value.sqlstate)
    world.forget_events()
    print(
        ask(
            world,
            "andrej",
            'select public.upsert_contact(%s, \'{"phone":"+38640111222","conversation_status":"Pending","tags":["vip"," vip"]}\', \'live_chat\')',
            ALPINE,
        )
    )
    print(ask(world, "andrej", "delete from public.contacts_v2 where id = %s returning *", cilka))
    for e in world.events():
        print(e["kind"], e["event"], e["payload"].get("version"))
    print(world.rows("select table_name, operation, version from private.changes"))
