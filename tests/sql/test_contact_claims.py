"""What is written down of a contact makes it known by that."""

from __future__ import annotations

import pytest

from tests.sql.faces import (
    CILKA,
    WRITABLE,
    ask,
    both_faces,
    detail,
    identities,
    meanwhile,
    refusal,
    shown,
)
from tests.world import Connection, World, text_message


@both_faces
def test_written_phone_email_and_username_are_identities(world: World, view: str) -> None:
    [made] = ask(
        world,
        "andrej",
        f"insert into public.{view} (phone, email, username)"
        " values ('+5511987654321', 'Nika@Kos.si', 'Nika.K') returning id",
    )
    assert identities(world, made["id"]) == {
        ("phone", "551187654321"),
        ("email", "nika@kos.si"),
        ("username", "nika.k"),
    }

    ask(
        world,
        "andrej",
        f"update public.{view} set email = null, username = 'nika' where id = %s",
        made["id"],
    )
    assert identities(world, made["id"]) == {("phone", "551187654321"), ("username", "nika")}


@both_faces
def test_other_spelling_of_a_number_is_the_same_identity(world: World, view: str) -> None:
    [made] = ask(
        world, "andrej", f"insert into public.{view} (phone) values ('+5511987654321') returning id"
    )

    [row] = ask(
        world,
        "andrej",
        f"update public.{view} set phone = '+551187654321' where id = %s returning phone",
        made["id"],
    )

    assert row == {"phone": "+551187654321"}
    assert identities(world, made["id"]) == {("phone", "551187654321")}


@both_faces
@pytest.mark.parametrize("column", ["phone", "email", "username"])
def test_what_another_contact_is_known_by_is_refused(world: World, view: str, column: str) -> None:
    value = str(WRITABLE[column])
    [owner] = ask(
        world, "andrej", f"insert into public.{view} ({column}) values (%s) returning id", value
    )
    for statement, parameters in (
        (f"update public.{view} set {column} = %s where id = %s", (value, CILKA)),
        (f"insert into public.{view} ({column}) values (%s)", (value,)),
    ):
        error = refusal(world, "andrej", statement, *parameters)
        assert error.sqlstate == "PT409"
        assert detail(error) == f"field: {column}; contact: {owner['id']}"
    # another account may know somebody by the same
    assert ask(
        world, "ana", f"insert into public.{view} ({column}) values (%s) returning id", value
    )


@both_faces
def test_number_that_wrote_stays_the_contacts_and_one_that_did_not_is_released(
    world: World, view: str
) -> None:
    update = f"update public.{view} set phone = %s where id = %s"
    ask(world, "andrej", update, "+38631000001", CILKA)
    assert identities(world, CILKA) == {("phone", "38631000001")}

    world.ingest(text_message("wamid.1", "38631000001"))
    ask(world, "andrej", update, "+38631000002", CILKA)

    assert identities(world, CILKA) == {("phone", "38631000001"), ("phone", "38631000002")}
    # a message from it is still Cilka's
    world.ingest(text_message("wamid.2", "38631000001"))
    assert world.rows("select distinct customer_id from public.messages") == [
        {"customer_id": CILKA}
    ]


@both_faces
def test_message_from_a_number_that_staff_wrote_down_finds_its_contact(
    world: World, view: str
) -> None:
    [made] = ask(
        world, "andrej", f"insert into public.{view} (phone) values ('+5511987654321') returning id"
    )

    world.ingest(text_message("wamid.1", "551187654321"))

    assert shown(world, view, made["id"])["conversation_id"] is not None
    assert shown(world, "contacts_live_chat", made["id"])["wa_id"] == "551187654321"


def test_number_that_is_being_released_is_claimed(world: World) -> None:
    """A transaction that waits for the lock of an identity finds it gone, and makes it its own."""

    def second(connection: Connection) -> None:
        connection.execute(
            b"insert into public.contacts_live_chat (phone, name) values (%s, 'Nika')",
            ["+38640111222"],
        )

    first = ["update public.contacts_v2 set phone = '+38631000009' where id = %s", CILKA]
    assert meanwhile(world, first, second) == []
    [nika] = world.rows("select id from public.contacts where name = 'Nika'")
    assert identities(world, nika["id"]) == {("phone", "38640111222")}
    assert identities(world, CILKA) == {("phone", "38631000009")}
