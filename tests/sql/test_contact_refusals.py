"""What can not be written through a contact's faces, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from rapport.email_address import is_email
from rapport.local.stack.postgres import Cluster, Database
from tests.sql.faces import CARLOS, CILKA, FACES, WRITABLE, both_faces, detail, refusal, shown
from tests.world import ALPINE, BAY, World, seed_uuid


@pytest.fixture(scope="module")
def unchanged(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """One database for refusals, which change nothing."""
    database = cluster.clone_database(world_template, "refusals")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)
    cluster.drop_database(database.name)


READ_ONLY = {
    "contacts_v2": {
        "id": uuid4(),
        "account_id": BAY,
        "profile_name": "x",
        "marketing_stopped_at": "2020-01-01",
        "conversation_id": uuid4(),
        "portal_user_id": seed_uuid("stranger"),
        "created_at": "2020-01-01",
        "updated_at": "2020-01-01",
    },
    "contacts_live_chat": {
        "id": uuid4(),
        "account_id": BAY,
        "wa_id": "1",
        "conversation_id": uuid4(),
        "channel": "portal",
        "last_message_at": "2020-01-01",
        "last_inbound_at": "2020-01-01",
        "created_at": "2020-01-01",
        "updated_at": "2020-01-01",
    },
}


@pytest.mark.parametrize(
    ("view", "column"),
    [(view, column) for view, columns in READ_ONLY.items() for column in columns],
)
def test_what_is_not_written_here_is_refused_by_name(
    unchanged: World, view: str, column: str
) -> None:
    before = unchanged.rows("select * from public.contacts order by id")
    value = READ_ONLY[view][column]

    error = refusal(
        unchanged, "andrej", f"update public.{view} set {column} = %s where id = %s", value, CILKA
    )

    assert (error.sqlstate, detail(error)) == ("PT422", f"field: {column}")
    assert (error.diag.message_hint or "").startswith("Written here: name, phone, email")
    assert unchanged.rows("select * from public.contacts order by id") == before
    if column not in {"id", "account_id"}:
        error = refusal(
            unchanged, "andrej", f"insert into public.{view} ({column}) values (%s)", value
        )
        assert (error.sqlstate, detail(error)) == ("PT422", f"field: {column}")


def test_columns_are_either_written_or_refused(unchanged: World) -> None:
    for view in FACES:
        columns = {
            row["name"]
            for row in unchanged.rows(
                "select attname::text as name from pg_attribute"
                " where attrelid = %s::regclass and attnum > 0",
                [f"public.{view}"],
            )
        }
        tested = {*WRITABLE, *READ_ONLY[view], "conversation_status", "version"}
        assert columns == tested | ({"notes", "preferences"} if view == "contacts_v2" else set())


@both_faces
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", "x" * 201),
        ("phone", "040 111 222"),
        ("phone", "+0401112223"),
        ("phone", "38640111222"),
        ("phone", "+38640111222.0"),
        ("phone", "+386 40 111 222"),
        ("phone", "4.36512E+11"),
        ("email", "nobody"),
        ("email", "e@b.si;b"),
        ("email", "a@b.si,c@d.si"),
        ("email", "Ana <a@b.si>"),
        ("email", "x" * 320 + "@x.si"),
        ("username", "@nika"),
        ("username", "x" * 101),
        ("tags", ["x" * 101]),
        ("tags", [str(n) for n in range(101)]),
        ("tags", ["a", None]),
        ("conversation_status", "OPEN"),
        ("conversation_status", None),
    ],
)
def test_wrong_values_are_refused_naming_the_field(
    unchanged: World, view: str, column: str, value: object
) -> None:
    error = refusal(
        unchanged, "andrej", f"update public.{view} set {column} = %s where id = %s", value, CILKA
    )
    assert (error.sqlstate, detail(error)) == ("PT422", f"field: {column}")
    if column in ("phone", "email"):
        assert "such as " in (error.diag.message_hint or "").lower()


@pytest.mark.parametrize(
    "email",
    [
        "ana@example.si", "a+b@c.si", "ana@localhost", "o'neil@example.ie", "č@š.si", "a@b@c",
        "a@", "@b", "a", "", "a b@c.si", "a\t@c.si", "e@b.si;b", "a@b.si,c", "a@b.si, c@d.si",
        "<a@b.si>", "Ana <a@b.si>", '"a"@b.si', "mailto:a@b.si", "(a)a@b.si", "x" * 314 + "@xx.si",
        "x" * 315 + "@xx.si",
    ],
)  # fmt: skip
def test_functions_and_the_database_agree_on_what_an_email_is(unchanged: World, email: str) -> None:
    table = unchanged.value(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'contacts_email_check'"
    )
    check = str(table).removeprefix("CHECK ")
    # a text without anything is no email for either, though the face takes it for none at all
    takes = unchanged.value(f"select {check} from (select %s::text as email) e", [email])
    assert takes == is_email(email)
    if email:
        cleaned = "select private.clean_contact_fields(jsonb_build_object('email', %s::text))"
        if takes:
            unchanged.value(cleaned, [email])
        else:
            with pytest.raises(psycopg.Error) as refused:
                unchanged.value(cleaned, [email])
            assert refused.value.sqlstate == "PT422"


@pytest.mark.parametrize(
    ("view", "word", "known"),
    [
        ("contacts_v2", "Open", "Known: open, pending, closed."),
        ("contacts_live_chat", "open", "Known: Open, Pending, Closed."),
        ("contacts_live_chat", "resolved", "Known: Open, Pending, Closed."),
    ],
)
def test_unknown_word_is_refused_with_the_known_ones(
    unchanged: World, view: str, word: str, known: str
) -> None:
    error = refusal(
        unchanged,
        "andrej",
        f"update public.{view} set conversation_status = %s where id = %s",
        word,
        CILKA,
    )
    assert (error.sqlstate, error.diag.message_hint) == ("PT422", known)


@both_faces
def test_write_that_hits_nothing_is_not_found(unchanged: World, view: str) -> None:
    for statement in (
        f"update public.{view} set name = 'x' where id = %s",
        f"delete from public.{view} where id = %s",
    ):
        assert refusal(unchanged, "andrej", statement, uuid4()).sqlstate == "PT404"
        # another account's is as if it were not there
        assert refusal(unchanged, "andrej", statement, CARLOS).sqlstate == "PT404"
        assert refusal(unchanged, "stranger", statement, CILKA).sqlstate == "PT404"
        assert refusal(unchanged, "cilka", statement, CILKA).sqlstate == "PT404"
    assert len(unchanged.rows("select from public.contacts where name in ('cilka', 'carlos')")) == 2


@both_faces
def test_viewers_only_look(unchanged: World, view: str) -> None:
    assert shown(unchanged, view, CILKA)
    for statement in (
        f"update public.{view} set name = 'x' where id = '{CILKA}'",
        f"delete from public.{view} where id = '{CILKA}'",
        f"insert into public.{view} (account_id, name) values ('{ALPINE}', 'x')",
        f"insert into public.{view} (name) values ('x')",
        f"select public.upsert_contact('{ALPINE}', '{{\"name\": \"x\"}}')",
    ):
        assert refusal(unchanged, "vera", statement).sqlstate == "42501"


@both_faces
def test_nobody_makes_contacts_of_another_account(unchanged: World, view: str) -> None:
    insert = f"insert into public.{view} (account_id, name) values (%s, 'x')"
    for user, account in (
        ("andrej", BAY),
        ("ana", ALPINE),
        ("cilka", ALPINE),
        ("stranger", ALPINE),
        ("stranger", None),
    ):
        error = refusal(unchanged, user, insert, account)
        assert (error.sqlstate, detail(error)) == ("42501", "field: account_id")
