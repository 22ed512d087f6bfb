"""The list of a contact's fields says the same as the table, its checks and the functions."""

from __future__ import annotations

from rapport.metakocka.agreement.party import FIELDS, FLAGS, LISTS
from tests.world import World


def test_each_field_is_a_column_of_its_kind(world: World) -> None:
    rows = world.rows(
        """
        select f.field, f.kind, format_type(a.atttypid, a.atttypmod) as type
        from private.contact_fields f
        left join pg_attribute a
            on a.attrelid = 'public.contacts'::regclass and a.attname = f.field
        """
    )
    types = {
        "text": "text",
        "flag": "boolean",
        "tags": "text[]",
        "object": "jsonb",
        "list": "jsonb",
        "time": "timestamp with time zone",
        "id": "uuid",
    }

    assert {row["field"]: row["type"] for row in rows} == {
        row["field"]: types[row["kind"]] for row in rows
    }


def test_what_clients_are_told_of_a_contact_is_a_field_or_common_to_all_rows(
    world: World,
) -> None:
    shown = world.value("select shown from private.followed_tables where table_name = 'contacts'")
    fields = {row["field"] for row in world.rows("select field from private.contact_fields")}

    assert set(shown) - fields == {
        *("id", "account_id", "created_at", "updated_at", "version"),
        # shown as the conversation's
        *("status", "status_changed_at"),
    }
    assert fields <= set(shown)


def test_length_of_a_field_is_that_of_the_tables_check(world: World) -> None:
    rows = world.rows("select field, longest from private.contact_fields where longest is not null")
    checks = {
        row["name"]: row["definition"]
        for row in world.rows(
            "select conname as name, pg_get_constraintdef(oid) as definition from pg_constraint"
            " where conrelid = 'public.contacts'::regclass"
        )
    }

    assert rows
    for row in rows:
        assert f"<= {row['longest']})" in checks[f"contacts_{row['field']}_check"]


def test_functions_have_the_fields_of_partners_as_the_database_has_them(world: World) -> None:
    rows = world.rows(
        "select field, kind, partner_field, partner_longest from private.contact_fields"
        " where partner_field is not null"
    )

    assert {row["field"]: (row["partner_field"], row["partner_longest"]) for row in rows} == {
        name: (at.name, at.longest) for name, at in FIELDS.items()
    }
    kinds = {row["field"]: row["kind"] for row in rows}
    assert {name for name, kind in kinds.items() if kind == "flag"} == set(FLAGS)
    assert {name for name, kind in kinds.items() if kind == "list"} == set(LISTS)
