"""A contact that may be there already: known by its id, phone, email or username."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from rapport.client.faces import STATUS_WORDS, Face
from tests.sql.faces import (
    CARLOS,
    CILKA,
    FACES,
    WRITABLE,
    ask,
    detail,
    identities,
    meanwhile,
    upsert,
)
from tests.world import ALPINE, BAY, Connection, World, seed_uuid


@pytest.mark.parametrize(("view", "face"), FACES.items())
def test_upsert_makes_a_contact_and_answers_as_the_face_shows_it(
    world: World, view: str, face: Face
) -> None:
    saved = upsert(world, {"name": "Nika", **WRITABLE}, face)

    [row] = ask(
        world,
        "andrej",
        f"select to_jsonb(v) as row from public.{view} v where id = %s",
        saved["id"],
    )
    assert saved == row["row"]
    assert saved["conversation_status"] == STATUS_WORDS[face]["open"]


@pytest.mark.parametrize(
    "known_by",
    [
        {"id": str(CILKA)},
        {"phone": "+38640111222"},
        {"email": "CILKA@zorn.si"},
        {"username": "Cilka.Z"},
        {"email": " cilka@zorn.si\t\n"},
    ],
    ids=["id", "phone", "email", "username", "with spaces"],
)
def test_upsert_changes_the_contact_that_is_known(world: World, known_by: dict[str, str]) -> None:
    upsert(world, {"id": str(CILKA), "email": "cilka@zorn.si", "username": "cilka.z"})

    saved = upsert(
        world, known_by | {"tags": ["vip"], "conversation_status": "Pending"}, "live_chat"
    )

    assert (saved["id"], saved["name"], saved["tags"]) == (str(CILKA), "cilka", ["vip"])
    assert saved["conversation_status"] == "Pending"
    assert world.value("select count(*) from public.contacts where account_id = %s", [ALPINE]) == 1


def test_upsert_knows_the_other_spelling_of_a_number(world: World) -> None:
    first = upsert(world, {"phone": "+5511987654321", "name": "Caio"})
    second = upsert(world, {"phone": "+551187654321", "notes": "again"})

    assert (second["id"], second["name"]) == (first["id"], "Caio")


def test_upsert_with_a_new_id_makes_that_contact(world: World) -> None:
    given = str(uuid4())

    assert upsert(world, {"id": given, "name": "Nika"})["id"] == given
    assert upsert(world, {"id": given, "email": "n@kos.si"})["name"] == "Nika"


def test_upsert_of_what_is_known_of_several_is_refused(world: World) -> None:
    oto = upsert(world, {"email": "oto@x.si"})["id"]

    with pytest.raises(psycopg.Error) as refused:
        upsert(world, {"phone": "+38640111222", "email": "oto@x.si"})

    assert refused.value.sqlstate == "PT409"
    assert detail(refused.value) == "contacts: " + ", ".join(sorted([oto, str(CILKA)]))


def test_upsert_by_id_does_not_take_what_another_is_known_by(world: World) -> None:
    oto = upsert(world, {"email": "oto@x.si"})["id"]

    with pytest.raises(psycopg.Error) as refused:
        upsert(world, {"id": oto, "phone": "+38640111222"})

    assert (refused.value.sqlstate, detail(refused.value)) == (
        "PT409",
        f"field: phone; contact: {CILKA}",
    )


def test_upsert_of_a_deleted_contact_is_not_found(world: World) -> None:
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)

    with pytest.raises(psycopg.Error) as refused:
        upsert(world, {"id": str(CILKA), "name": "x"})

    assert refused.value.sqlstate == "PT404"


def test_upsert_writes_no_other_account(world: World) -> None:
    with pytest.raises(psycopg.Error) as refused:
        upsert(world, {"name": "x"}, user="ana")
    assert refused.value.sqlstate == "42501"
    # the id of another account's contact is taken, and nothing else is told of it
    with pytest.raises(psycopg.Error) as refused:
        upsert(world, {"id": str(CARLOS), "name": "x"})
    assert (refused.value.sqlstate, detail(refused.value)) == ("PT409", "field: id")
    assert world.value("select name from public.contacts where id = %s", [CARLOS]) == "carlos"


@pytest.mark.parametrize(
    ("contact", "face", "field"),
    [
        ({"notes": 7}, "contacts_page", "notes"),
        ({"tags": "vip"}, "contacts_page", "tags"),
        ({"tags": [1]}, "contacts_page", "tags"),
        ({"portal_user_id": str(seed_uuid("stranger"))}, "contacts_page", "portal_user_id"),
        ({"account_id": str(BAY)}, "contacts_page", "account_id"),
        ({"conversation_status": "Open"}, "contacts_page", "conversation_status"),
        ({"name": "x"}, "wati", "face"),
        ([], "contacts_page", "contact"),
    ],
)
def test_upsert_refuses_what_it_can_not_write(
    world: World, contact: Any, face: str, field: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        upsert(world, contact, face)
    assert (refused.value.sqlstate, detail(refused.value)) == ("PT422", f"field: {field}")


def test_two_upserts_of_a_new_number_at_once_make_one_contact(world: World) -> None:
    statement = "select public.upsert_contact(%s, %s)"

    def second(connection: Connection) -> None:
        connection.execute(statement.encode(), [ALPINE, '{"phone": "+551187654321", "notes": "x"}'])

    first = [statement, ALPINE, '{"phone": "+5511987654321", "name": "Caio"}']
    assert meanwhile(world, first, second) == []
    assert world.rows(
        "select name, notes from public.contacts where phone like '+5511%%' and account_id = %s",
        [ALPINE],
    ) == [{"name": "Caio", "notes": "x"}]


def test_upsert_of_a_contact_that_is_being_deleted_makes_a_new_one(world: World) -> None:
    def second(connection: Connection) -> None:
        connection.execute(
            b"select public.upsert_contact(%s, %s)",
            [ALPINE, '{"phone": "+38640111222", "name": "again"}'],
        )

    first = ["delete from public.contacts_v2 where id = %s", CILKA]
    assert meanwhile(world, first, second) == []
    [again] = world.rows("select id from public.contacts where name = 'again'")
    assert again["id"] != CILKA
    assert identities(world, again["id"]) == {("phone", "38640111222")}


def test_upsert_of_a_contact_that_is_being_merged_goes_to_the_kept_one(world: World) -> None:
    other = upsert(world, {"name": "other"})

    def second(connection: Connection) -> None:
        connection.execute(
            b"select public.upsert_contact(%s, %s)",
            [ALPINE, json.dumps({"id": other["id"], "name": "again"})],
        )

    first = ["select public.merge_contacts(%s, %s)", CILKA, other["id"]]
    assert meanwhile(world, first, second) == []
    [again] = world.rows("select id from public.contacts where name = 'again'")
    assert again["id"] == CILKA
