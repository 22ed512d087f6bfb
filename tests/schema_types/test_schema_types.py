"""The types are those of the schema, and what the database answers has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pydantic import TypeAdapter, ValidationError

from rapport.client import database as types
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from tests.schema_types import python
from tests.schema_types.generate import types_of
from tests.schema_types.notation import Declaration
from tests.schema_types.schema import Schema
from tests.sql.actors import ACTORS, SIGNED_IN, about, populate, undone
from tests.sql.matrix import FUNCTIONS, TABLES
from tests.world import ALPINE, World


@pytest.fixture(scope="module")
def schema(template: Database) -> Schema:
    return Schema(template)


@pytest.fixture(scope="module")
def full(cluster: Cluster, world_template: Database) -> Iterator[World]:
    """Both businesses with rows in every table."""
    database = cluster.clone_database(world_template, "schema_types")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        world = World(database, owner)
        populate(world)
        yield world
    cluster.drop_database(database.name)


def faults(type_: Any, value: Any) -> list[str]:
    """Where a value differs from its type, also by a field that the type does not have."""
    try:
        TypeAdapter(type_).validate_json(json.dumps(value), extra="forbid")
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []


def test_types_are_those_of_the_schema(template: Database, binaries: Binaries) -> None:
    stale = [
        path.name for path, text in types_of(template, binaries).items() if path.read_text() != text
    ]
    assert not stale, "Run `uv run python -m tests.schema_types.generate`."


def test_rows_that_anybody_reads_have_their_types(full: World, schema: Schema) -> None:
    wrong: dict[str, list[str]] = {}
    seen = set()
    for name in SIGNED_IN:
        with undone(full, name) as connection:
            for table in TABLES:
                rows = connection.execute(
                    f"select to_jsonb(t) from public.{table} t".encode()
                ).fetchall()
                seen |= {table} if rows else set()
                type_ = getattr(types, python.class_of(table))
                if found := faults(list[type_], [row for (row,) in rows]):
                    wrong[table] = found
    assert seen == set(TABLES) == {relation.name for relation in schema.relations}
    assert wrong == {}


def test_answers_have_the_types_that_comments_declare(full: World, schema: Schema) -> None:
    wrong = {}
    called = set()

    def check(function: str, rows: list[tuple[Any, ...]]) -> None:
        [(answer,)] = rows
        if answer is not None:
            called.add(function)
        if found := faults(getattr(types, python.answer_of(function)), answer):
            wrong[function] = found

    for name in SIGNED_IN:
        actor = ACTORS[name]
        if actor.account is None:
            continue
        facts = about(full, actor.account) | {"cursor": None}
        for function in schema.functions:
            line = FUNCTIONS[f"public.{function.name}"]
            if not function.answers_json or actor.role not in line.callers or line.call is None:
                continue
            with undone(full, name) as connection:
                check(function.name, connection.execute(line.call.encode(), facts).fetchall())
    # only an invitation's own answer has its token
    with full.acting_as("andrej") as connection:
        invite = b"select public.invite_to_portal(%(other)s)"
        [(invitation,)] = connection.execute(invite, about(full, ALPINE)).fetchall()
    with undone(full, "stranger") as connection:
        asked = b"select public.portal_invitation(%(token)s)"
        check("portal_invitation", connection.execute(asked, invitation).fetchall())
    with undone(full, "stranger") as connection:
        claim = b"select public.claim_portal_invitation(%(token)s)"
        check("claim_portal_invitation", connection.execute(claim, invitation).fetchall())
    full.owner.execute("update auth.users set email_confirmed_at = now()")
    with full.acting_as("olivia") as connection:
        invite = b"select public.invite_member(%s, 'stranger@rapport.example', 'agent')"
        [(invitation,)] = connection.execute(invite, [ALPINE]).fetchall()
    with undone(full, "stranger") as connection:
        claim = b"select public.claim_member_invitation(%(token)s)"
        check("claim_member_invitation", connection.execute(claim, invitation).fetchall())
    assert called == {function.name for function in schema.functions if function.answers_json}
    assert wrong == {}


def test_a_word_of_a_newer_database_is_taken() -> None:
    job = {
        "id": "00000000-0000-4000-8000-00000000000a",
        "account_id": "00000000-0000-4000-8000-00000000000b",
        "customer_id": "00000000-0000-4000-8000-00000000000c",
        "version": 1,
        "updated_at": "2026-11-30T08:00:00Z",
        "created_at": "2026-11-30T08:00:00Z",
        "starts_at": "2026-12-01T08:00:00Z",
        "service_type": "carpets",
        "status": "postponed",
        "weather": "rain",
    }
    assert types.Job.model_validate(job).status == "postponed"
    with pytest.raises(ValidationError):
        types.Job.model_validate(job | {"status": 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{cursor: text", "is missing before ''"),
        ("{cursor text}", ": is missing before 'text'"),
        ("text text", "text is too much"),
        ("{cursor: text;}", "can't be read"),
        ("(face: text)", "=> is missing"),
    ],
)
def test_a_type_that_nobody_can_read_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Declaration(text).read()
