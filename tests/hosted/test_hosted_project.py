"""A database made by Supabase's own scripts takes all migrations: `pytest -m hosted`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rapport.local.stack import supabase_cli
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Database
from rapport.local.stack.state import PROJECT
from tests.hosted.project import Sources, build, cluster_of
from tests.hosted.rules import COMMENT_ON_POLICY, OK, REFUSED, RULES, Rule, answer
from tests.migrations.catalog import CATALOG, read

pytestmark = pytest.mark.hosted


@pytest.fixture(scope="module")
def hosted(binaries: Binaries, session_folder: Path) -> Iterator[Database]:
    """The project, with all migrations applied by the official CLI as `postgres`."""
    sources = Sources.from_environment()
    if isinstance(sources, str):
        pytest.skip(sources)
    folder = session_folder / "hosted"
    folder.mkdir()
    with cluster_of(sources, binaries, folder) as cluster:
        database = build(cluster, sources)
        supabase_cli.migrate(database, binaries, PROJECT)
        yield database


@pytest.mark.parametrize(
    "part",
    # the platform's own triggers, publications and extensions differ
    sorted(CATALOG.keys() - {"triggers", "publications", "extensions", "default grants"}),
)
def test_the_schema_there_is_the_schema_here(
    hosted: Database, template: Database, part: str
) -> None:
    assert read(hosted, CATALOG[part]) == read(template, CATALOG[part])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule(hosted: Database, rule: Rule) -> None:
    assert answer(hosted, rule.statements) == rule.hosted


def test_comments_on_policies_depend_on_the_projects_age(hosted: Database) -> None:
    assert answer(hosted, COMMENT_ON_POLICY) in (OK, REFUSED)


def test_a_write_without_a_filter_is_refused_to_the_api(hosted: Database) -> None:
    with psycopg.connect(hosted.url("authenticator")) as api:
        for statement in ("update public.my_profile set name = ''", "delete from public.jobs"):
            api.execute("set role authenticated")
            with pytest.raises(psycopg.errors.CardinalityViolation, match="requires a WHERE"):
                api.execute(statement.encode())
            api.rollback()


def test_every_login_role_inherits_as_here(hosted: Database, template: Database) -> None:
    roles = """
        select rolname::text, rolinherit, rolcanlogin, rolbypassrls, rolsuper, rolcreaterole
        from pg_roles
        where rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'postgres',
                          'supabase_realtime_admin')
    """
    assert read(hosted, roles) == read(template, roles)
