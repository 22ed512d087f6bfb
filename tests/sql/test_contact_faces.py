"""One contact behind two faces: what is written in either is read in both."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.rows import dict_row

from rapport.client.faces import STATUS_WORDS
from tests.sql.faces import (
    CARLOS,
    CILKA,
    FACES,
    WRITABLE,
    ask,
    both_faces,
    detail,
    identities,
    meanwhile,
    refusal,
    shown,
    upsert,
)
from tests.world import ALPINE, Connection, World, text_message

# Made in one, seen in the other


@both_faces
def test_contact_made_in_one_face_is_in_both_in_the_same_transaction(
    world: World, view: str
) -> None:
    with (
        world.acting_as("andrej") as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        made = cursor.execute(
            f"insert into public.{view} (account_id, name, phone) values (%s, 'Nika', %s)"
            " returning *".encode(),
            [ALPINE, WRITABLE["phone"]],
        ).fetchone()
        assert made is not None
        for other, face in FACES.items():
            word = STATUS_WORDS[face]["open"]
            found = cursor.execute(
                f"select * from public.{other} where conversation_status = %s"
                " and name = 'Nika'".encode(),
                [word],
            ).fetchall()
            assert [row["id"] for row in found] == [made["id"]]
            if other == view:
                assert found == [made]


def test_live_chats_filter_open_finds_what_the_contacts_page_made(world: World) -> None:
    [made] = ask(
        world, "andrej", "insert into public.contacts_v2 (name) values ('Nika') returning id"
    )

    found = ask(
        world, "andrej", "select id from public.contacts_live_chat where conversation_status='Open'"
    )
    assert made in found
    # each face has its own words alone
    assert not ask(
        world, "andrej", "select id from public.contacts_live_chat where conversation_status='open'"
    )


@both_faces
@pytest.mark.parametrize("column", WRITABLE)
def test_every_field_is_written_in_one_face_and_read_in_the_other(
    world: World, view: str, column: str
) -> None:
    [row] = ask(
        world,
        "andrej",
        f"update public.{view} set {column} = %s where id = %s returning *",
        WRITABLE[column],
        CILKA,
    )

    assert row[column] == WRITABLE[column]
    for other in FACES:
        assert shown(world, other, CILKA)[column] == WRITABLE[column]
    # and taken back
    [row] = ask(
        world,
        "andrej",
        f"update public.{view} set {column} = null where id = %s returning *",
        CILKA,
    )
    assert row[column] in (None, [])


@both_faces
@pytest.mark.parametrize("status", ["open", "pending", "closed"])
def test_status_is_written_in_one_faces_word_and_read_in_the_others(
    world: World, view: str, status: str
) -> None:
    for other in FACES:
        words = STATUS_WORDS[FACES[other]]
        ask(
            world,
            "andrej",
            f"update public.{other} set conversation_status = %s where id = %s",
            words["closed" if status != "closed" else "open"],
            CILKA,
        )
        ask(
            world,
            "andrej",
            f"update public.{view} set conversation_status = %s where id = %s",
            STATUS_WORDS[FACES[view]][status],  # type: ignore[index]
            CILKA,
        )
        assert shown(world, other, CILKA)["conversation_status"] == words[status]  # type: ignore[index]


def test_notes_are_the_contacts_pages(world: World) -> None:
    [row] = ask(
        world,
        "andrej",
        "update public.contacts_v2 set notes = ' Prefers mornings. ' where id = %s returning notes",
        CILKA,
    )
    assert row == {"notes": "Prefers mornings."}


def test_preferences_are_the_contacts_pages_and_the_customer_s(world: World) -> None:
    write = "update public.contacts_v2 set preferences = %s where id = %s returning preferences"
    assert ask(world, "andrej", write, '{"language": "sl"}', CILKA) == [
        {"preferences": {"language": "sl"}}
    ]
    (profile,) = ask(world, "cilka", "select preferences from public.my_profile")
    assert profile["preferences"] == {"language": "sl"}

    ask(
        world,
        "andrej",
        "insert into public.contacts_v2 (name, preferences) values ('Vid', %s)",
        '{"language": "de"}',
    )
    stored = world.value("select preferences from public.contacts where name = 'Vid'")
    assert stored == {"language": "de"}


@pytest.mark.parametrize(
    "wrong", ["[]", "7", '{"number": 1e5000}', '{"note": "' + "x" * 8192 + '"}']
)
def test_preferences_that_some_readers_can_t_read_are_refused(world: World, wrong: str) -> None:
    write = "update public.contacts_v2 set preferences = %s where id = %s"
    refused = refusal(world, "andrej", write, wrong, CILKA)
    assert (refused.sqlstate, detail(refused)) == ("PT422", "field: preferences")


@both_faces
def test_unnamed_account_is_the_one_that_is_worked_for(world: World, view: str) -> None:
    [row] = ask(
        world, "andrej", f"insert into public.{view} (name) values ('Nika') returning account_id"
    )
    assert row == {"account_id": ALPINE}


@both_faces
def test_given_id_is_kept_and_taken_once(world: World, view: str) -> None:
    given = uuid4()
    insert = f"insert into public.{view} (id, name) values (%s, 'Nika') returning id"

    assert ask(world, "andrej", insert, given) == [{"id": given}]
    for taken in (given, CARLOS):
        error = refusal(world, "andrej", insert, taken)
        assert (error.sqlstate, detail(error)) == ("PT409", "field: id")


@both_faces
def test_edits_of_different_fields_meet(world: World, view: str) -> None:
    """Neither writes back what it read of the other's field."""
    [other] = FACES.keys() - {view}
    ask(world, "andrej", f"update public.{view} set email = 'c@x.si' where id = %s", CILKA)
    ask(world, "adam", f"update public.{other} set name = 'Cilka Z.' where id = %s", CILKA)

    row = shown(world, view, CILKA)
    assert (row["email"], row["name"]) == ("c@x.si", "Cilka Z.")


@both_faces
def test_shown_profile_name_is_not_copied_into_the_name(world: World, view: str) -> None:
    world.ingest(text_message("wamid.1"))
    [nejc] = world.rows("select id from public.contacts where profile_name = 'Nejc'")
    row = shown(world, view, nejc["id"])
    assert row["name"] == "Nejc"

    ask(
        world,
        "andrej",
        f"update public.{view} set name = %s, email = 'n@x.si' where id = %s",
        row["name"],
        nejc["id"],
    )

    assert world.rows("select name, email from public.contacts where id = %s", [nejc["id"]]) == [
        {"name": None, "email": "n@x.si"}
    ]


@both_faces
def test_version_that_has_passed_is_refused(world: World, view: str) -> None:
    version = shown(world, view, CILKA)["version"]
    update = f"update public.{view} set name = %s, version = %s where id = %s returning version"

    [row] = ask(world, "andrej", update, "Cilka Z.", version, CILKA)
    assert row["version"] == version + 1
    error = refusal(world, "adam", update, "Cecilija", version, CILKA)
    assert (error.sqlstate, detail(error)) == ("PT409", "field: version")
    assert shown(world, view, CILKA)["name"] == "Cilka Z."


@both_faces
def test_of_two_who_have_read_the_same_version_one_is_refused(world: World, view: str) -> None:
    """Also when the second begins before the first has committed."""
    version = shown(world, view, CILKA)["version"]
    update = f"update public.{view} set name = %s, version = %s where id = %s"

    def second(connection: Connection) -> None:
        connection.execute(update.encode(), ["second", version, CILKA])

    outcome = meanwhile(world, [update, "first", version, CILKA], second)

    assert [getattr(error, "sqlstate", None) for error in outcome] == ["PT409"]
    assert shown(world, view, CILKA)["name"] == "first"


@both_faces
def test_unnamed_version_lets_the_later_write_win(world: World, view: str) -> None:
    def second(connection: Connection) -> None:
        connection.execute(
            f"update public.{view} set email = 'c@x.si' where id = %s".encode(), [CILKA]
        )

    first = [f"update public.{view} set name = 'first' where id = %s", CILKA]
    assert meanwhile(world, first, second) == []
    row = shown(world, view, CILKA)
    assert (row["name"], row["email"]) == ("first", "c@x.si")


def test_statement_of_many_rows_gives_way_before_it_deadlocks(world: World) -> None:
    """Its rows come in any order, and so do its locks: from the second on it does not wait."""
    pair = [UUID(int=1), UUID(int=2)]
    for contact in pair:
        upsert(world, {"id": str(contact), "name": "a"})
    both = "update public.contacts_v2 set notes = 'both' where id = any (%s) returning id"

    with world.acting_as("adam") as other:
        other.execute(b"update public.contacts_v2 set notes = 'one' where id = %s", [pair[1]])
        error = refusal(world, "andrej", both, pair)

    assert (error.sqlstate, error.diag.message_hint) == ("PT503", "Try again.")
    with world.acting_as("andrej") as connection:
        connection.execute(b"set local lock_timeout = '7s'")
        assert len(connection.execute(both.encode(), [pair]).fetchall()) == 2
        # for this statement alone
        assert connection.execute(b"show lock_timeout").fetchone() == ("7s",)


# Deleting


@both_faces
def test_deleted_contact_is_gone_from_everything(world: World, view: str) -> None:
    world.ingest(text_message("wamid.1", "38640111222"))
    world.forget_events()

    deleted = ask(world, "andrej", f"delete from public.{view} where id = %s returning id", CILKA)

    assert deleted == [{"id": CILKA}]
    for other in FACES:
        assert not ask(world, "andrej", f"select from public.{other} where id = %s", CILKA)
    assert identities(world, CILKA) == set()
    assert world.rows("select from public.customers where id = %s", [CILKA]) == []
    assert world.rows("select status from public.conversations") == [{"status": "closed"}]
    [blank] = world.rows(
        "select name, phone, portal_user_id, tags, notes from public.contacts where id = %s",
        [CILKA],
    )
    assert set(map(str, blank.values())) == {"None", "[]"}
    assert ("contacts.deleted", str(CILKA)) in {
        (event["event"], event["payload"].get("id")) for event in world.events()
    }
    for statement in (
        f"update public.{view} set name = 'x' where id = %s",
        f"delete from public.{view} where id = %s",
    ):
        assert refusal(world, "andrej", statement, CILKA).sqlstate == "PT404"


@both_faces
def test_next_message_after_a_delete_is_from_somebody_new(world: World, view: str) -> None:
    world.ingest(text_message("wamid.1", "38640111222"))
    ask(world, "andrej", f"delete from public.{view} where id = %s", CILKA)

    world.ingest(text_message("wamid.2", "38640111222"))

    [row] = ask(
        world, "andrej", f"select id, conversation_id from public.{view} where phone='+38640111222'"
    )
    assert row["id"] != CILKA
    assert world.rows(
        "select customer_id from public.conversations where id = %s and status = 'open'",
        [row["conversation_id"]],
    ) == [{"customer_id": row["id"]}]


def test_deleted_number_can_be_written_down_again(world: World) -> None:
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)
    assert upsert(world, {"phone": "+38640111222"})["id"] != str(CILKA)


# The customer's own row


@both_faces
def test_customers_follow(world: World, view: str) -> None:
    def projected(contact: UUID) -> list[dict[str, Any]]:
        return world.rows(
            "select name, phone, email from public.customers where id = %s", [contact]
        )

    [made] = ask(world, "andrej", f"insert into public.{view} (name) values ('Nika') returning id")
    assert projected(made["id"]) == [{"name": "Nika", "phone": None, "email": None}]

    ask(
        world,
        "andrej",
        f"update public.{view} set email = 'n@kos.si', tags = '{{vip}}' where id = %s",
        made["id"],
    )
    assert projected(made["id"]) == [{"name": "Nika", "phone": None, "email": "n@kos.si"}]

    ask(world, "andrej", f"delete from public.{view} where id = %s", made["id"])
    assert projected(made["id"]) == []
