"""The test suites of the official clients, against the parts of `rapport up`.

`pytest -m official` runs them, where these variables name checkouts with their dependencies:
OFFICIAL_SUPABASE_JS (github.com/supabase/supabase-js, after `pnpm install` and
`pnpm -r --filter "@supabase/supabase-js^..." run build`) and
OFFICIAL_SUPABASE_PY (github.com/supabase/supabase-py). `results.toml` names each test that fails,
with the reason; another failure fails here, and so does a named one that passes. The suites know
their servers by fixed ports: 54321, and 9996 to 9999.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import jwt
import psycopg
import pytest
from psycopg import sql

from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import SUPERUSER, Cluster, Database
from rapport.local.supabase.auth.settings import (
    AuthSettings,
    EmailSettings,
    RateLimits,
    SmsSettings,
)
from tests.official import servers, suites
from tests.stacks import copy_of

pytestmark = pytest.mark.official

JS, PY = "OFFICIAL_SUPABASE_JS", "OFFICIAL_SUPABASE_PY"
# Auth's secret in the suites' own compose files
COMPOSE_SECRET = "37c304f8-51aa-419a-a1af-06154e63707a"
# a suite signs up more often in a minute than anybody may
UNLIMITED = RateLimits(
    email_sent=100_000,
    sms_sent=100_000,
    anonymous_users=100_000,
    sign_in_sign_ups=100_000,
    token_refresh=100_000,
    token_verifications=100_000,
)
# the servers of the compose files, by port
COMPOSE = {
    9999: AuthSettings(
        site_url="http://localhost:9999",
        enable_anonymous_sign_ins=False,
        email=EmailSettings(enable_confirmations=True),
        # the suites' server can't send, so its times between two messages never matter
        sms=SmsSettings(enable_confirmations=True, max_frequency=timedelta()),
        rate_limit=UNLIMITED,
    ),
    9998: AuthSettings(
        site_url="http://localhost:9998",
        enable_anonymous_sign_ins=True,
        sms=SmsSettings(enable_confirmations=False),
        rate_limit=UNLIMITED,
    ),
    9997: AuthSettings(
        site_url="http://localhost:9997",
        enable_signup=False,
        email=EmailSettings(enable_signup=False, enable_confirmations=True),
        sms=SmsSettings(enable_signup=False),
        rate_limit=UNLIMITED,
    ),
    9996: AuthSettings(
        site_url="http://localhost:9996",
        sms=SmsSettings(enable_confirmations=False),
        rate_limit=UNLIMITED,
    ),
}


@pytest.fixture
def migrated(cluster: Cluster, template: Database) -> Iterator[Database]:
    with copy_of(cluster, template) as database:
        yield database


@pytest.fixture
def empty(cluster: Cluster, prepared: Database) -> Iterator[Database]:
    """A database before its first migration: a suite's tables have names of ours."""
    with copy_of(cluster, prepared) as database:
        # roles belong to the cluster, where our schema has named a function that isn't here
        with psycopg.connect(database.url(SUPERUSER), autocommit=True) as connection:
            connection.execute(
                sql.SQL(
                    "alter role authenticator in database {} set pgrst.db_pre_request to ''"
                ).format(sql.Identifier(database.name))
            )
        yield database


def readable(folder: Path) -> Path:
    folder.chmod(0o755)
    return folder


def apply(database: Database, *files: Path, without: Mapping[str, str] | None = None) -> None:
    """Applies a suite's schema, to clients that may use what the CLI lets them.

    `without` has what can't be applied here, with what stands in its place.
    """
    with psycopg.connect(database.url(SUPERUSER), autocommit=True) as connection:
        for file in files:
            text = file.read_text()
            for part, instead in (without or {}).items():
                text = text.replace(part, instead)
            connection.execute(text.encode())
        connection.execute(
            "grant all on all tables in schema public to anon, authenticated, service_role"
        )
        connection.execute(
            "grant all on all sequences in schema public to anon, authenticated, service_role"
        )


def test_auth_js(migrated: Database, tmp_path: Path) -> None:
    package = suites.checkout(JS) / "packages" / "core" / "auth-js"
    subprocess.run([suites.NODE / "node", "test/generate-signing-keys.js"], cwd=package, check=True)
    keys = package / "test" / "supabase" / "signing_keys.json"
    public = jwt.PyJWK(json.loads(keys.read_text())[0], "RS256").key.public_key()

    def reads(token: str) -> dict[str, object]:
        try:
            return jwt.decode(token, public, ["RS256"])
        except jwt.InvalidTokenError:
            return jwt.decode(token, servers.CLI_SECRET, ["HS256"])

    stack = servers.cli_stack(migrated, readable(tmp_path))
    # the settings of the suite's own project, except how often it may ask
    settings = AuthSettings.read(package / "test" / "supabase" / "config.toml")
    settings = settings.model_copy(update={"rate_limit": UNLIMITED})
    auth = servers.auth(stack, settings, reads, "/auth/v1")
    with servers.serving(servers.CLI_PORT, auth):
        results = suites.jest(package, tmp_path, "--config", "jest.config.cli.js")

    suites.hold_against_table("auth-js", results)


def compose(database: Database, folder: Path) -> ExitStack:
    """Auth on the ports of the suites' compose files."""

    def reads(token: str) -> dict[str, object]:
        return jwt.decode(token, COMPOSE_SECRET, ["HS256"])

    stack = servers.stack_on(database, folder)
    running = ExitStack()
    for port, settings in COMPOSE.items():
        running.enter_context(servers.serving(port, servers.auth(stack, settings, reads)))
    return running


def test_auth_js_by_settings(migrated: Database, tmp_path: Path) -> None:
    package = suites.checkout(JS) / "packages" / "core" / "auth-js"
    with compose(migrated, readable(tmp_path)):
        results = suites.jest(package, tmp_path, "--config", "jest.config.docker.js")

    suites.hold_against_table("auth-js-by-settings", results)


def test_supabase_py_auth(migrated: Database, tmp_path: Path) -> None:
    package = suites.checkout(PY) / "src" / "auth"
    with compose(migrated, readable(tmp_path)):
        results = suites.pytest_of(package, tmp_path)

    suites.hold_against_table("supabase-py-auth", results)


def test_supabase_js(migrated: Database, binaries: Binaries, tmp_path: Path) -> None:
    package = suites.checkout(JS) / "packages" / "core" / "supabase-js"
    migrations = sorted((package / "supabase" / "migrations").glob("*.sql"))
    apply(migrated, *(file for file in migrations if "storage" not in file.name))
    stack = servers.cli_stack(migrated, readable(tmp_path))
    with (
        servers.postgrest(stack, binaries),
        servers.serving(servers.CLI_PORT, servers.gateway(stack)),
    ):
        results = suites.jest(package, tmp_path, "test/integration.test.ts")

    suites.hold_against_table("supabase-js", results)


def test_postgrest_js(empty: Database, binaries: Binaries, tmp_path: Path) -> None:
    package = suites.checkout(JS) / "packages" / "core" / "postgrest-js"
    supabase = package / "test" / "supabase"
    apply(
        empty,
        *sorted((supabase / "migrations").glob("*.sql")),
        supabase / "seed.sql",
        without={
            "create extension if not exists postgis schema extensions;": "",
            "extensions.geometry(POINT, 4326)": "text",
        },
    )
    stack = servers.cli_stack(empty, readable(tmp_path))
    keyed = servers.with_key(servers.gateway(stack), stack.anon_key)
    with (
        servers.postgrest(stack, binaries, "public,personal"),
        servers.serving(servers.CLI_PORT, keyed),
    ):
        # where it fails, max-affected leaves rows that others would find: it comes last
        most = suites.jest(package, tmp_path, "--testPathIgnorePatterns=test/v12/|max-affected")
        last = suites.jest(package, tmp_path, "max-affected")
        results = suites.Results(most.passed | last.passed, {**most.failed, **last.failed})

    suites.hold_against_table("postgrest-js", results)
