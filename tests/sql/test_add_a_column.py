"""A column that clients see takes the steps of README.md and no more: here they are, on a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from rapport.client.faces import ContactRow, ContactV2
from rapport.client.rows import Job
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.state import PROJECT
from tests.migrations.baseline import load_schema
from tests.sql.faces import CILKA, ask, refusal, shown, upsert
from tests.sql.live import all_since, start
from tests.world import ALPINE, World, add_businesses

# by file, the text to write before some words of it
STEPS = {
    "7_portal/??_jobs.sql": (
        # 1. the column
        ("    created_at   timestamptz", "    gate_code    text,\n"),
        (
            "comment on column public.jobs.description",
            "comment on column public.jobs.gate_code is\n    'What opens the gate.';\n",
        ),
        # 2. its name, where it is written and where it is told
        ("'description'\n    ],\n    updated", "'gate_code', "),
        ("'description']\n);", "'gate_code', "),
        ("'created_at', 'updated_at', 'version'\n    ]\n);", "'gate_code', "),
    ),
    "2_contacts/??_contacts.sql": (
        # 1.
        (
            "    people           jsonb",
            "    website text constraint contacts_website_check check (length(website) <= 100),\n",
        ),
        (
            "comment on column public.contacts.people",
            "comment on column public.contacts.website is\n    'Their page on the web.';\n",
        ),
        # 2.
        ("'created_at', 'updated_at', 'version'\n    ],\n    hidden", "'website', "),
    ),
    # 3.
    "2_contacts/??_contact_fields.sql": (
        (
            "('gsm', 'text'",
            "('website', 'text', 100, '{contacts_page,erp}', '{contacts_page,erp}', 'web', 80), ",
        ),
    ),
}


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder sql/ after the steps."""
    folder = tmp_path_factory.mktemp("edited") / "sql"
    shutil.copytree(PROJECT / "sql", folder)
    for name, steps in STEPS.items():
        [file] = folder.glob(name)
        text = file.read_text()
        for before, added in steps:
            assert text.count(before) == 1, before
            text = text.replace(before, added + before)
        file.write_text(text)
    return folder


@pytest.fixture(scope="module")
def with_columns(cluster: Cluster, prepared: Database, edited: Path) -> Iterator[Database]:
    database = cluster.clone_database(prepared, "edited")
    load_schema(database, edited)
    add_businesses(database)
    yield database
    cluster.drop_database(database.name)


@pytest.fixture
def world(cluster: Cluster, with_columns: Database) -> Iterator[World]:
    """The two businesses in a database with a new column of jobs and one of contacts."""
    database = cluster.clone_database(with_columns, "edited_world")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)
    cluster.drop_database(database.name)


def told(world: World, event: str) -> list[dict[str, object]]:
    """The rows of an event that staff have heard."""
    return [
        heard["payload"]["record"]
        for heard in world.events()
        if heard["kind"] == "account" and heard["event"] == event
    ]


def caught_up(world: World, cursor: str, table: str) -> list[dict[str, object]]:
    changes, _ = all_since(world, "andrej", cursor)
    return [change["record"] for change in changes if change["table"] == table]


def test_column_of_a_job_is_written_told_and_caught_up(world: World) -> None:
    cursor = start(world, "andrej")
    world.forget_events()

    [row] = ask(
        world,
        "andrej",
        "insert into public.jobs (customer_id, service_type, starts_at, gate_code)"
        " values (%s, 'carpets', '2026-12-01 08:00Z', '1234') returning id",
        CILKA,
    )
    ask(world, "andrej", "update public.jobs set gate_code = '5678' where id = %s", row["id"])

    assert [record["gate_code"] for record in told(world, "jobs.inserted")] == ["1234"]
    assert [record["gate_code"] for record in told(world, "jobs.updated")] == ["5678"]
    records = caught_up(world, cursor, "jobs")
    # an entry for each change, with the row as it is now
    assert [record["gate_code"] for record in records] == ["5678", "5678"]
    # the typed row takes it, and has it once it is named there
    assert Job.model_validate(records[0]).id == row["id"]

    class NewerJob(Job):
        gate_code: str | None = None

    assert NewerJob.model_validate(records[0]).gate_code == "5678"


def test_field_of_a_contact_is_written_told_and_caught_up(world: World) -> None:
    cursor = start(world, "andrej")
    world.forget_events()

    saved = upsert(world, {"id": str(CILKA), "website": " cilka.si "})

    assert saved["website"] == "cilka.si"
    assert shown(world, "contacts_v2", CILKA)["website"] == "cilka.si"
    assert [record["website"] for record in told(world, "contacts.updated")] == ["cilka.si"]
    records = caught_up(world, cursor, "contacts")
    assert [record["website"] for record in records] == ["cilka.si"]
    # typed rows take it
    assert ContactRow.model_validate(records[0]).id == CILKA
    assert ContactV2.model_validate(saved).id == CILKA


def test_field_of_a_contact_is_written_through_the_faces_that_have_it(world: World) -> None:
    for view in ("contacts_v2", "metakocka_partners"):
        ask(
            world,
            "andrej",
            f"update public.{view} set website = %s where id = %s",
            f"{view}.si",
            CILKA,
        )
        assert shown(world, view, CILKA)["website"] == f"{view}.si"
        assert world.value(
            "select col_description(%s::regclass, attnum) from pg_attribute"
            " where attrelid = %s::regclass and attname = 'website'",
            [f"public.{view}", f"public.{view}"],
        ) == ("Their page on the web.")
        error = refusal(
            world,
            "andrej",
            f"update public.{view} set website = %s where id = %s",
            "w" * 101,
            CILKA,
        )
        assert (error.sqlstate, error.diag.message_detail) == ("PT422", "field: website")
    assert "website" not in shown(world, "contacts_live_chat", CILKA)


def test_field_of_a_contact_goes_to_the_erp(world: World) -> None:
    world.owner.execute(
        "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')",
        [ALPINE],
    )
    world.owner.execute("delete from private.metakocka_dirty")

    upsert(world, {"id": str(CILKA), "website": "cilka.si"})

    assert world.value("select count(*) from private.metakocka_dirty") == 1
    party = world.value(
        "select private.contact_party(c) from public.contacts c where id = %s", [CILKA]
    )
    assert party["website"] == "cilka.si"


def test_field_of_a_contact_is_merged_taken_back_and_deleted(world: World) -> None:
    other = UUID(upsert(world, {"name": "Cilka Novak", "website": "novak.si"})["id"])

    [merged] = ask(world, "andrej", "select public.merge_contacts(%s, %s) as m", CILKA, other)
    assert merged["m"]["contact"]["website"] == "novak.si", json.dumps(merged["m"])

    [merge] = world.rows("select id from public.contact_merges")
    ask(world, "andrej", "select public.undo_merge(%s)", merge["id"])
    assert shown(world, "contacts_v2", CILKA)["website"] is None
    assert shown(world, "contacts_v2", other)["website"] == "novak.si"

    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", other)
    [left] = world.rows("select website, deleted_at from public.contacts where id = %s", [other])
    assert left["website"] is None
    assert left["deleted_at"] is not None


def test_database_that_is_there_already_gets_a_field_as_well(
    cluster: Cluster, world_template: Database
) -> None:
    database = cluster.clone_database(world_template, "older")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            """
            alter table public.contacts add column website text;
            insert into private.contact_fields (field, kind, longest, shown_by, written_by)
            values ('website', 'text', 100, '{contacts_page}', '{contacts_page}');
            update private.followed_tables
            set shown = shown || '{website}'
            where table_name = 'contacts';
            select
                private.make_contact_writer(),
                private.make_contact_states(),
                private.make_dirty_trigger();
            select private.make_face('contacts_v2', 'contacts_page', array['s.conversation_id']);
            """
        )
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        world.forget_events()

        upsert(world, {"id": str(CILKA), "website": "cilka.si"})

        assert shown(world, "contacts_v2", CILKA)["website"] == "cilka.si"
        assert [record["website"] for record in told(world, "contacts.updated")] == ["cilka.si"]
    cluster.drop_database(database.name)
